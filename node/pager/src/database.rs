//! [`Database`]: one database file, held by this process. Owns the keeper connection, the fence and the entry in the registry;
//! opens readers. What else is opened on it has a module of its own, with the method that opens it. Called by the node, which has one
//! per database.

mod opening;

use std::path::Path;
use std::sync::Arc;

use halite_ltx::{Checksum, PageSize};
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::connection;
use crate::error::PagerError;
use crate::open_options::OpenOptions;
use crate::os::{WalState, beside};
use crate::registry;
use crate::shared::Shared;

pub(crate) use opening::page_size_of;

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
    /// Whether this process has a database of this path open, be it under another name.
    pub fn is_open(path: impl AsRef<Path>) -> bool {
        registry::contains(path.as_ref())
    }

    /// Absolute path of the file.
    pub fn path(&self) -> &Path {
        &self.shared.file.path
    }

    /// Page size; it never changes.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Size of the committed state in pages; 0 for a blank database.
    pub fn page_count(&self) -> u32 {
        self.shared
            .file
            .stable()
            .as_ref()
            .map_or(0, |state| state.table.page_count())
    }

    /// Checksum of the committed state, the masked bytes of page 1 taken as zero.
    pub fn checksum(&self) -> Checksum {
        self.shared
            .file
            .stable()
            .as_ref()
            .map_or(Checksum::EMPTY, |state| state.table.checksum())
    }

    /// The checksum of each page of the committed state, page 1 first; the lock page has [`Checksum::EMPTY`].
    pub fn page_checksums(&self) -> Vec<Checksum> {
        self.shared
            .file
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

    /// Opens a connection that can only read. It may be used on any thread, at the same time as all others; it must not outlive
    /// the database for long, as it is not fenced in after that.
    pub fn reader(&self) -> Result<Connection, PagerError> {
        Ok(connection::read_only(&self.shared.file.path)?)
    }

    /// How full the write-ahead log is.
    pub fn wal(&self) -> Result<WalState, PagerError> {
        let index = self.shared.file.index.get().ok_or(PagerError::File {
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
        std::fs::metadata(beside(&self.shared.file.path, "-wal")).map_or(0, |wal| wal.len())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.shared.fence.lower();
        *self.shared.file.committed.lock() = None;
        drop(self.keeper.lock().take());
        registry::leave(&self.shared.file.path);
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.shared.file.path)
            .field("page_size", &self.page_size)
            .finish_non_exhaustive()
    }
}
