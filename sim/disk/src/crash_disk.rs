//! [`CrashDisk`]: the disk of one simulated machine, below the shim. It keeps apart what was written to SQLite's files and not
//! synced, so that a power loss can drop, keep or tear it, sector by sector, and lets accesses fail.
//!
//! Put in by [`OpenOptions::disk`](halite_pager::OpenOptions::disk). The files are real: a write reaches them at once, so that everybody reads what was written, and the disk remembers
//! what a power loss could undo.
//!
//! What is modelled:
//! - The database file, the WAL and the rollback journal of each database opened with the disk. Their sectors (4096 bytes, as the
//!   kernel caches them) reach the disk independently of each other and in any order; a sector is whole unless the simulation
//!   tears it. Bytes outside of a write are never harmed, which SQLite assumes as well (powersafe overwrite).
//! - Their sizes, which reach the disk in order, independently of the content: a file may be longer than what was written
//!   to it survives; then there are zeros.
//! - A sync makes durable what was written before it, to that file alone. A sync that fails leaves open what survives, and does
//!   what Linux does ("fsyncgate"): the pages count as clean afterwards, and a later sync that succeeds does not make them
//!   durable. Only writing to the same sector again, and syncing that, does. Sizes are durable with the next sync that succeeds.
//! - A cut of the power: every access fails from then on, SQLite's locks included, so that nobody goes on.
//!
//! What counts as durable at once: creation, removal and renaming of files, whoever does it, and the content of a database
//! that [`Database::open`](halite_pager::Database::open) makes (which syncs in earnest). Programs beside this process, temporary files and
//! the private copies of an import are not on the disk. The `-shm` file is memory: it never fails, and is removed after a crash.
//!
//! It must never be used to reach a file behind SQLite's back while that file is open.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use halite_pager::{Database, Disk, DiskFile, FileKey, FileKind, OsFile};
use parking_lot::{Mutex, MutexGuard};

use crate::disk_file::OpenFile;
use crate::disk_state::DiskState;
use crate::error::RestoreError;
use crate::fault::{DiskAction, DiskError, DiskFate, DiskOperation, FaultCounts};
use crate::unsynced::{Survival, Unsynced};

type Faults = Box<dyn FnMut(&DiskOperation<'_>) -> DiskFate + Send>;

/// The disk of one simulated machine. Clones are the same disk. It outlives the databases on it, as a disk outlives a process.
///
/// The accesses of one disk happen one after the other, whatever threads they come from.
#[derive(Clone, Default)]
pub struct CrashDisk {
    disk: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Not held together with `state`: the answer may take long, and may cut the power.
    faults: Mutex<Option<Faults>>,
    state: Mutex<DiskState>,
}

impl CrashDisk {
    /// A disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on asks `faults` before each opening of a database and before each read, write, truncation and sync. Seed it: the simulation must repeat.
    ///
    /// It is called on the thread of the connection, in the order of the accesses. It may block: a slow disk, on which all other
    /// accesses wait as well; a cut of the power does not end its wait. It may call [`cut_power`](Self::cut_power) of this disk, but
    /// not set or clear the faults or open a database on it.
    pub fn set_faults(&self, faults: impl FnMut(&DiskOperation<'_>) -> DiskFate + Send + 'static) {
        *self.disk.faults.lock() = Some(Box::new(faults));
    }

    /// From now on every access succeeds while the power is on.
    pub fn clear_faults(&self) {
        *self.disk.faults.lock() = None;
    }

    /// Cuts the power, or kills the process: from now on every access of everybody fails and nothing reaches the files any more.
    ///
    /// Connections are still there and get `SQLITE_IOERR` from all that needs the disk; drop them, then call
    /// [`restore_power`](Self::restore_power) or [`restart_process`](Self::restart_process). Closing them changes no file.
    pub fn cut_power(&self) {
        self.state().cut();
    }

    /// True from [`cut_power`](Self::cut_power) until the power is back.
    pub fn is_cut(&self) -> bool {
        self.state().is_cut()
    }

    /// Ends a power loss: `choose` says of each unsynced change whether it was on disk, file by file in the order of their paths, in
    /// each file oldest first. Files are rewritten so, all of that is durable, and databases can be opened again.
    ///
    /// Fails with [`RestoreError::StillOpen`] while a connection has one of the files open; nothing is changed then. `choose` must not
    /// call the disk. The `-shm` files are removed.
    pub fn restore_power(
        &self,
        mut choose: impl FnMut(&Unsynced<'_>) -> Survival,
    ) -> Result<(), RestoreError> {
        let mut state = self.state();
        state.cut();
        state.restore(&mut choose)
    }

    /// Ends the death of the process alone: the kernel lives and has kept all that was written. What was unsynced stays so, and
    /// a later power loss can still take it. Errors as of [`restore_power`](Self::restore_power).
    pub fn restart_process(&self) -> Result<(), RestoreError> {
        self.state().restart()
    }

    /// Chooser for [`restore_power`](Self::restore_power): everything written happened to be on disk.
    pub fn keep_all(_: &Unsynced<'_>) -> Survival {
        Survival::Keep
    }

    /// Chooser for [`restore_power`](Self::restore_power): only what was synced is left.
    pub fn drop_all(_: &Unsynced<'_>) -> Survival {
        Survival::Drop
    }

    /// How many changes of a file a power loss now would put at stake. 0 for a file that the disk does not know.
    pub fn unsynced_changes(&self, database: impl AsRef<Path>, file: FileKind) -> usize {
        let key = key(database.as_ref(), file);
        key.map_or(0, |key| self.state().unsynced(&key))
    }

    /// Flips the lowest bit of the byte at `offset` (in bytes), in the file and in all that the disk knows of it; also while the
    /// file is open. Connections that hold the page in their cache do not see it.
    ///
    /// Errors: no such file, an offset past its end, a database that is open here without the file being open on this disk.
    pub fn corrupt(
        &self,
        database: impl AsRef<Path>,
        file: FileKind,
        offset: u64,
    ) -> io::Result<()> {
        let key = key(database.as_ref(), file)?;
        let mut state = self.state();
        let handles = state.handles(&key);
        if handles.is_empty() {
            if Database::is_open(&key.database) {
                // Closing a descriptor of the file would cost SQLite its locks.
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            flip_in_file(&key.path(), offset)?;
        } else {
            let size = handles[0].size().map_err(sqlite_code)?;
            if offset >= size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut byte = [0];
            handles[0].read(&mut byte, offset).map_err(sqlite_code)?;
            byte[0] ^= FLIPPED;
            // Descriptors of readers cannot write.
            let mut failed = 0;
            if !handles.iter().any(|handle| {
                let written = handle.write(&byte, offset);
                failed = written.err().unwrap_or_default();
                written.is_ok()
            }) {
                return Err(sqlite_code(failed));
            }
        }
        state.changes(&key).flip(offset, FLIPPED);
        state.counts.bits_flipped += 1;
        Ok(())
    }

    /// How many faults were injected so far.
    pub fn fault_counts(&self) -> FaultCounts {
        self.state().counts
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, DiskState> {
        self.disk.state.lock()
    }

    pub(crate) fn fate(&self, operation: &DiskOperation<'_>) -> DiskFate {
        match &mut *self.disk.faults.lock() {
            Some(faults) => faults(operation),
            None => DiskFate::Done,
        }
    }
}

impl Disk for CrashDisk {
    fn is_cut(&self) -> bool {
        self.is_cut()
    }

    fn admit(&self, database: &Path) -> io::Result<()> {
        let action = DiskAction::Open;
        let fate = match CrashDisk::is_cut(self) {
            true => DiskFate::PowerCut,
            false => self.fate(&DiskOperation {
                database,
                file: FileKind::Database,
                action,
            }),
        };
        match fate {
            DiskFate::Done => Ok(()),
            DiskFate::PowerCut => {
                self.cut_power();
                Err(io::ErrorKind::NotConnected.into())
            }
            DiskFate::Fails(error) | DiskFate::FailsPartly { error, .. } => {
                self.state().counts.failed(action, error);
                Err(match error {
                    DiskError::Io => io::Error::other("the disk fails"),
                    DiskError::Full => io::ErrorKind::StorageFull.into(),
                })
            }
        }
    }

    fn open(&self, file: FileKey, below: OsFile) -> Box<dyn DiskFile> {
        Box::new(OpenFile::open(self, file, below))
    }

    fn removed(&self, file: &FileKey) {
        self.state().forget_file(file);
    }

    fn made_anew(&self, database: &Path) {
        self.state().forget(database);
    }
}

impl std::fmt::Debug for CrashDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrashDisk").finish_non_exhaustive()
    }
}

/// What [`CrashDisk::corrupt`] flips in a byte.
const FLIPPED: u8 = 1;

fn key(database: &Path, kind: FileKind) -> io::Result<FileKey> {
    Ok(FileKey {
        database: database.canonicalize()?,
        kind,
    })
}

fn flip_in_file(path: &Path, offset: u64) -> io::Result<()> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[byte[0] ^ FLIPPED], offset)
}

fn sqlite_code(code: i32) -> io::Error {
    io::Error::other(format!("sqlite cannot reach the file code={code}"))
}
