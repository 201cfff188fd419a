//! [`FileState`]: what is committed in a database file, and what is known of the file itself. Written by write transactions and
//! checkpoints, read by everybody; holds no connection and no lock of SQLite's. Lock order: a connection's role, then `committed`.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use halite_ltx::{Checksum, PageNo, PageSize};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::checksum_table::ChecksumTable;
use crate::os::WalIndex;
use crate::page_mask::masked_page_checksum;

/// The committed state.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) table: ChecksumTable,
    /// A gate has opened and the wal-index may already be ahead of the table.
    pub(crate) publishing: bool,
}

/// See the module.
pub(crate) struct FileState {
    pub(crate) path: PathBuf,
    pub(crate) page_size: OnceLock<PageSize>,
    pub(crate) committed: Mutex<Option<Committed>>,
    pub(crate) published: Condvar,
    /// Set when the fence is taken; must not be used once the keeper is closed.
    pub(crate) index: OnceLock<WalIndex>,
    /// The database file may hold bytes that were written and not synced.
    pub(crate) main_unsynced: AtomicBool,
    /// Something was read that is not what was committed, and nobody has looked into it yet.
    pub(crate) suspect: AtomicBool,
    #[cfg(test)]
    pub(crate) faults: Faults,
}

impl FileState {
    pub(crate) fn new(path: PathBuf) -> Self {
        FileState {
            path,
            page_size: OnceLock::new(),
            committed: Mutex::new(None),
            published: Condvar::new(),
            index: OnceLock::new(),
            main_unsynced: AtomicBool::new(true),
            suspect: AtomicBool::new(false),
            #[cfg(test)]
            faults: Faults::default(),
        }
    }

    /// The committed state at a moment when what readers see is exactly what the table says. While the guard is held, no
    /// transaction becomes visible.
    pub(crate) fn stable(&self) -> MutexGuard<'_, Option<Committed>> {
        let mut committed = self.committed.lock();
        while committed.as_ref().is_some_and(|state| state.publishing) {
            self.published.wait(&mut committed);
        }
        committed
    }

    /// Whether this is the committed content of a page, as whoever writes reads it from the database file. What is not counted is believed.
    pub(crate) fn is_committed(&self, pgno: PageNo, page: &[u8]) -> bool {
        let expected = match &*self.committed.lock() {
            Some(state) if !state.publishing => state.table.get(pgno),
            _ => None,
        };
        expected.is_none_or(|expected| {
            expected == Checksum::EMPTY || expected == masked_page_checksum(pgno, page)
        })
    }

    /// The database file was synced, with this result. Called by whoever runs a checkpoint.
    pub(crate) fn main_synced(&self, code: std::ffi::c_int) {
        if code == libsqlite3_sys::SQLITE_OK {
            self.main_unsynced.store(false, Ordering::SeqCst);
        } else if let Some(Err(code)) = self.index.get().map(WalIndex::forget_backfilled) {
            tracing::error!(code, path = %self.path.display(), "cannot have the WAL copied again after a failed sync");
        }
    }

    pub(crate) fn page_size(&self) -> PageSize {
        self.page_size.get().copied().unwrap_or(PageSize::DEFAULT)
    }
}

/// Errors that tests make the file layer return.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Faults {
    /// SQLite result code for the next frame written to the WAL after a gate has opened; 0 for none.
    pub(crate) after_open: std::sync::atomic::AtomicI32,
    /// How many writes after the gate has opened succeed before that.
    pub(crate) after_open_skip: std::sync::atomic::AtomicI32,
    /// SQLite result code for the next plain frame written to the WAL; 0 for none.
    pub(crate) frame: std::sync::atomic::AtomicI32,
    /// SQLite result code for a page written to the database file; 0 for none.
    pub(crate) main: std::sync::atomic::AtomicI32,
    /// How many pages are written before that.
    pub(crate) main_after: std::sync::atomic::AtomicI32,
}
