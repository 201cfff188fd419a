//! [`DatabaseSnapshot`]: one database at one position, held by a read transaction. The sender's side of a page diff and the source of
//! an export. Blocking: to be used on a thread that may wait for the disk.

use std::io;

use halite_proto::v1;

/// A consistent view of one database. Holds a read transaction: checkpoints cannot finish while it lives.
pub struct DatabaseSnapshot {
    pub(super) state: v1::DatabaseState,
    pub(super) pages: halite_pager::PageSnapshot,
}

impl DatabaseSnapshot {
    /// Position, size and idempotency outcomes at this view.
    pub fn state(&self) -> &v1::DatabaseState {
        &self.state
    }

    /// Writes the pages in which the receiver differs as one LTX. `theirs` gives the receiver's page checksums from page 1 on (0 for a
    /// page it does not hold); pages beyond its end count as differing. Nothing is written if this database has no pages.
    ///
    /// # Errors
    /// Those of `theirs` and `out`, and of reading pages.
    pub fn write_diff<W: io::Write>(
        &mut self,
        theirs: impl Iterator<Item = io::Result<u64>>,
        out: W,
    ) -> io::Result<u32> {
        let _ = (theirs, out);
        Err(io::Error::other("page diffs come with the pager"))
    }

    /// Writes the whole database as an ordinary SQLite file.
    ///
    /// # Errors
    /// Those of `out`, and of reading pages.
    pub fn write_file<W: io::Write>(&mut self, out: W) -> io::Result<()> {
        let _ = out;
        Err(io::Error::other("exports come with the pager"))
    }
}
