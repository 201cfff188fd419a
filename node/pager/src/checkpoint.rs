//! Checkpoints: copying the WAL into the database file, when the node says so and at no other time. Uses the keeper connection.

use std::sync::atomic::Ordering;

use libsqlite3_sys as ffi;

use crate::connection;
use crate::database::Database;
use crate::error::PagerError;
use crate::vfs;

/// How far a checkpoint goes (<https://www.sqlite.org/c3ref/wal_checkpoint_v2.html>). None of them waits for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointMode {
    /// Copies what no reader still needs in its old form.
    Passive,
    /// As `Passive`; if everything was copied and no reader uses the WAL, the next transaction starts it anew.
    Restart,
    /// As `Restart`, and cuts the WAL file to zero bytes.
    Truncate,
}

/// What a checkpoint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointOutcome {
    /// Committed frames in the WAL; 0 after it was cut.
    pub wal_frames: u32,
    /// How many of them are in the database file now.
    pub copied_frames: u32,
    /// The whole committed state is in the database file, and the file is synced: the state survives the loss of the WAL.
    pub complete: bool,
    /// What `Restart` and `Truncate` do beyond copying was done too. Always false for `Passive`.
    pub reset: bool,
}

impl Database {
    /// Runs a checkpoint. The WAL is synced before pages are copied, the database file after.
    ///
    /// After an error nothing counts as copied, and the next checkpoint copies the whole WAL again: a sync that succeeds after one that
    /// failed says nothing of what was written before.
    ///
    /// The node must have recorded the position beforehand (redo depends on it). Writers are kept out meanwhile, so the position
    /// does not move; readers never block it and are not blocked. [`PagerError::WriterActive`] if a write transaction is open.
    pub fn checkpoint(&self, mode: CheckpointMode) -> Result<CheckpointOutcome, PagerError> {
        let keeper = self.keeper.lock();
        let keeper = keeper.as_ref().ok_or(PagerError::File {
            code: ffi::SQLITE_MISUSE,
        })?;
        let _writers_out = self
            .shared
            .fence
            .keep_writers_out()
            .ok_or(PagerError::WriterActive)?;
        let flag = match mode {
            CheckpointMode::Passive => ffi::SQLITE_CHECKPOINT_PASSIVE,
            CheckpointMode::Restart => ffi::SQLITE_CHECKPOINT_RESTART,
            CheckpointMode::Truncate => ffi::SQLITE_CHECKPOINT_TRUNCATE,
        };
        let (mut frames, mut copied) = (0i32, 0i32);
        // SAFETY: the handle is valid while the keeper is borrowed; the schema name is a C string; both numbers outlive the call.
        let code = unsafe {
            ffi::sqlite3_wal_checkpoint_v2(
                keeper.handle(),
                c"main".as_ptr(),
                flag,
                &raw mut frames,
                &raw mut copied,
            )
        };
        // Busy means that readers kept it from finishing. What was copied stays copied.
        let busy = code & 0xff == ffi::SQLITE_BUSY;
        if !busy {
            connection::check(keeper, code)?;
        }
        let all_copied = frames >= 0 && frames == copied;
        if all_copied && self.shared.file.main_unsynced.load(Ordering::SeqCst) {
            // SQLite syncs only if it copied something itself just now.
            let state = vfs::connection_state(keeper, c"main")?;
            // SAFETY: the keeper is open and borrowed.
            let file = unsafe { vfs::lower_file(&state) }.ok_or(PagerError::File {
                code: ffi::SQLITE_MISUSE,
            })?;
            let code = file.sync(ffi::SQLITE_SYNC_NORMAL);
            self.shared.file.main_synced(code);
            if code != ffi::SQLITE_OK {
                return Err(PagerError::File { code });
            }
        }
        Ok(CheckpointOutcome {
            wal_frames: frames.max(0).unsigned_abs(),
            copied_frames: copied.max(0).unsigned_abs(),
            complete: all_copied,
            reset: all_copied && !busy && mode != CheckpointMode::Passive,
        })
    }
}
