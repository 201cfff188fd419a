//! [`Database`]: one database file, held by this process. Owns the keeper connection, the fence and the entry in the registry;
//! hands out writers, appliers, readers and snapshots. Called by the node, which has one per database.

pub(crate) mod opening;

use std::path::Path;
use std::sync::Arc;

use halite_ltx::{Checksum, PageSize};
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::applier::Applier;
use crate::connection;
use crate::error::{OpenError, PagerError};
use crate::gate::Gate;
use crate::open_options::OpenOptions;
use crate::page_snapshot::PageSnapshot;
use crate::registry;
use crate::scrub::{self, ScrubReport};
use crate::shared::Shared;
use crate::wal_index::WalState;
use crate::writer::Writer;

/// A database file that this process holds: fenced against writers and checkpoints from outside, readable by anyone.
///
/// There is one per file and process. The last handle to go lowers the fence; nothing is checkpointed then.
pub struct Database {
    pub(crate) shared: Arc<Shared>,
    /// Opened first and closed last: it holds the fence, and keeps the wal-index mapped. `None` only while being dropped.
    pub(crate) keeper: Mutex<Option<Connection>>,
    page_size: PageSize,
    pub(crate) options: OpenOptions,
}

impl Database {
    /// Opens a database, creating it if there is none (or an empty file), converts it to WAL mode, takes the fence and computes
    /// the checksum of every page of the committed state, the WAL included.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Arc<Self>, OpenError> {
        opening::open(path.as_ref(), options).map(Arc::new)
    }

    /// Removes the files of a database that is not open in this process (and must not be in any other), if they exist.
    pub fn remove(path: impl AsRef<Path>) -> Result<(), OpenError> {
        opening::remove(path.as_ref())
    }

    /// Absolute path of the file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Page size; it never changes.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Size of the committed state in pages; 0 for a blank database.
    pub fn page_count(&self) -> u32 {
        self.shared
            .stable()
            .as_ref()
            .map_or(0, |state| state.table.page_count())
    }

    /// Checksum of the committed state, the masked bytes of page 1 taken as zero.
    pub fn checksum(&self) -> Checksum {
        self.shared
            .stable()
            .as_ref()
            .map_or(Checksum::EMPTY, |state| state.table.checksum())
    }

    /// The checksum of each page of the committed state, page 1 first; the lock page has [`Checksum::EMPTY`].
    pub fn page_checksums(&self) -> Vec<Checksum> {
        self.shared
            .stable()
            .as_ref()
            .map(|state| {
                state
                    .table
                    .pages()
                    .iter()
                    .map(|&value| Checksum::new(value))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// Opens the connection for SQL writes; each of its commits passes `gate`.
    ///
    /// Writers and appliers may exist side by side; whichever starts a transaction while another's is open gets `SQLITE_BUSY`.
    pub fn writer(self: &Arc<Self>, gate: Box<dyn Gate>) -> Result<Writer, PagerError> {
        Writer::open(Arc::clone(self), gate)
    }

    /// Opens the connection that applies pages.
    pub fn applier(self: &Arc<Self>) -> Result<Applier, PagerError> {
        Applier::open(Arc::clone(self))
    }

    /// Opens a connection that can only read. It may be used on any thread, at the same time as all others; it must not outlive
    /// the database for long, as it is not fenced in after that.
    pub fn reader(&self) -> Result<Connection, PagerError> {
        Ok(connection::read_only(&self.shared.path)?)
    }

    /// Takes a snapshot: the pages and their checksums at one moment between two transactions. While it lives, checkpoints are
    /// partial.
    pub fn snapshot(self: &Arc<Self>) -> Result<PageSnapshot, PagerError> {
        PageSnapshot::take(Arc::clone(self))
    }

    /// Reads all pages and compares them to their checksums.
    pub fn scrub(self: &Arc<Self>) -> Result<ScrubReport, PagerError> {
        scrub::scrub(&self.snapshot()?)
    }

    /// How full the write-ahead log is.
    pub fn wal(&self) -> Result<WalState, PagerError> {
        let index = self.shared.index.get().ok_or(PagerError::File {
            code: libsqlite3_sys::SQLITE_MISUSE,
        })?;
        let file = |code| PagerError::File { code };
        Ok(WalState {
            frames: index.max_frame().map_err(file)?,
            copied_frames: index.backfilled().map_err(file)?,
            file_bytes: self.wal_size_bytes(),
        })
    }

    /// Size of the WAL file in bytes, 0 if there is none.
    pub fn wal_size_bytes(&self) -> u64 {
        // A `stat` opens nothing, so no lock is lost by it.
        std::fs::metadata(opening::beside(&self.shared.path, "-wal")).map_or(0, |wal| wal.len())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.shared.fence.lower();
        *self.shared.committed.lock() = None;
        drop(self.keeper.lock().take());
        registry::leave(&self.shared.path);
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.shared.path)
            .field("page_size", &self.page_size)
            .finish_non_exhaustive()
    }
}
