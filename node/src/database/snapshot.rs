//! [`DatabaseSnapshot`]: one database at one position, held by a read transaction. The sender's side of a page diff and the source of
//! an export. Blocking: to be used on a thread that may wait for the disk.

use std::io;

use halite_ltx::{Encoder, Header, PageNo, PageSize, Txid};
use halite_pager::PageSnapshot;
use halite_proto::v1;

use super::failure;

/// A consistent view of one database. Holds a read transaction: checkpoints cannot finish while it lives.
pub struct DatabaseSnapshot {
    state: v1::DatabaseState,
    pages: PageSnapshot,
    timestamp_ms: i64,
}

impl DatabaseSnapshot {
    pub(super) fn new(
        state: v1::DatabaseState,
        pages: PageSnapshot,
        timestamp_ms: i64,
    ) -> Result<Self, v1::Error> {
        if pages.checksum().get() != state.checksum || pages.page_count() != state.page_count {
            return Err(failure::internal(format!(
                "the file is not at its position expected_checksum={:016x} checksum={} expected_pages={} pages={}",
                state.checksum,
                pages.checksum(),
                state.page_count,
                pages.page_count()
            )));
        }
        Ok(DatabaseSnapshot {
            state,
            pages,
            timestamp_ms,
        })
    }

    /// Position, size and idempotency outcomes at this view: what a receiver holds once it has installed the diff.
    pub fn state(&self) -> &v1::DatabaseState {
        &self.state
    }

    /// Writes the pages in which the receiver differs as one LTX. `theirs` gives the receiver's page checksums from page 1 on (0 for a
    /// page it does not hold); pages beyond its end count as differing. Nothing is written if this database has no pages. Returns how many
    /// pages were written.
    ///
    /// # Errors
    /// Those of `theirs` and `out`, and of reading pages.
    pub fn write_diff<W: io::Write>(
        &self,
        theirs: impl IntoIterator<Item = io::Result<u64>>,
        out: W,
    ) -> io::Result<u32> {
        if self.state.page_count == 0 {
            return Ok(0);
        }
        let page_size = self.pages.page_size();
        let txid = Txid::new(self.state.txid);
        let header = Header::new(
            page_size,
            self.state.page_count,
            txid,
            txid,
            self.timestamp_ms,
        );
        // The format calls a file from transaction 1 on a snapshot, and wants every page in it.
        let every_page = header.is_snapshot();
        let mut encoder = Encoder::new(out, header).map_err(io::Error::other)?;
        let mut theirs = theirs.into_iter();
        let mut page = Vec::new();
        let mut written = 0;
        for (number, ours) in (1u32..).zip(self.pages.page_checksums()) {
            let theirs = theirs.next().transpose()?;
            let pgno = PageNo::new(number);
            if pgno == page_size.lock_page() || (!every_page && theirs == Some(ours.get())) {
                continue;
            }
            #[cfg(feature = "planted-bugs")]
            if halite_planted::on(halite_planted::Bug::DiffSkipsPage) && written == 1 && !every_page
            {
                written += 1;
                continue;
            }
            self.pages
                .read_page(pgno, &mut page)
                .map_err(io::Error::other)?;
            encoder.encode_page(pgno, &page).map_err(io::Error::other)?;
            written += 1;
        }
        encoder.finish(None).map_err(io::Error::other)?;
        Ok(written)
    }

    /// Writes the whole database as an ordinary SQLite file (in WAL mode, without a WAL).
    ///
    /// # Errors
    /// Those of `out`, and of reading pages. A database without any transaction is written as an empty file.
    pub fn write_file<W: io::Write>(&self, mut out: W) -> io::Result<()> {
        let mut page = Vec::new();
        for number in 1..=self.pages.page_count() {
            self.pages
                .read_page(PageNo::new(number), &mut page)
                .map_err(io::Error::other)?;
            out.write_all(&page)?;
        }
        out.flush()
    }

    /// When the last transaction of this view was made, in milliseconds since 1970.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// One page of this view, a whole page long.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn read_page(&self, pgno: PageNo, page: &mut Vec<u8>) -> io::Result<()> {
        self.pages.read_page(pgno, page).map_err(io::Error::other)
    }

    /// Page size of the database.
    pub fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }
}
