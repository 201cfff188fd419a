//! What the disk is asked, what it may answer, and how often faults were injected. Plain values.

use std::ffi::c_int;
use std::path::Path;

use halite_pager::FileKind;
use libsqlite3_sys as ffi;

/// An access that is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskOperation<'a> {
    /// Path of the database, absolute, whichever of its files is meant.
    pub database: &'a Path,
    /// The file.
    pub file: FileKind,
    /// What is done to it.
    pub action: DiskAction,
}

/// The kind of an access; offsets and sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskAction {
    /// A database is about to be opened, or created: asked once, of the database file, before anything is looked at.
    Open,
    /// Bytes are read.
    Read {
        /// Where.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// Bytes are written; a write past the end makes the file longer.
    Write {
        /// Where.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// The file is cut.
    Truncate {
        /// Its size afterwards.
        size: u64,
    },
    /// Everything written to the file is to be made durable.
    Sync,
}

/// What becomes of an access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFate {
    /// It is done.
    #[default]
    Done,
    /// It fails and does nothing. For a sync: what was written stays readable, and whether it survives a power loss is open.
    Fails(DiskError),
    /// A write fails after its first bytes were written, as on a disk that becomes full. Other accesses fail without effect.
    FailsPartly {
        /// How many bytes are written.
        bytes: usize,
        /// The error it ends with.
        error: DiskError,
    },
    /// The power goes off just before it, as by [`CrashDisk::cut_power`](crate::CrashDisk::cut_power).
    PowerCut,
}

/// Why an access fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskError {
    /// The device fails: `SQLITE_IOERR_READ`, `_WRITE`, `_TRUNCATE` or `_FSYNC`.
    Io,
    /// No space is left: `SQLITE_FULL` for a write, as `Io` for anything else, since that is how SQLite reports it.
    Full,
}

impl DiskAction {
    /// SQLite's code for this access failing.
    pub(crate) fn code(self, error: DiskError) -> c_int {
        match (self, error) {
            (DiskAction::Write { .. }, DiskError::Full) => ffi::SQLITE_FULL,
            (DiskAction::Write { .. }, DiskError::Io) => ffi::SQLITE_IOERR_WRITE,
            (DiskAction::Open, _) => ffi::SQLITE_CANTOPEN,
            (DiskAction::Read { .. }, _) => ffi::SQLITE_IOERR_READ,
            (DiskAction::Truncate { .. }, _) => ffi::SQLITE_IOERR_TRUNCATE,
            (DiskAction::Sync, _) => ffi::SQLITE_IOERR_FSYNC,
        }
    }
}

/// How many faults a disk has injected, by kind. Accesses refused because the power is off do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Databases that could not be opened.
    pub opens_failed: u64,
    /// Reads that failed.
    pub reads_failed: u64,
    /// Writes that failed for a device error.
    pub writes_failed: u64,
    /// Writes that found no space.
    pub writes_full: u64,
    /// Truncations that failed.
    pub truncates_failed: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Times the power went off.
    pub power_cuts: u64,
    /// Unsynced changes that survived a power loss.
    pub changes_kept: u64,
    /// Unsynced changes that a power loss took.
    pub changes_dropped: u64,
    /// Unsynced changes that a power loss tore.
    pub changes_torn: u64,
    /// Bits flipped by [`CrashDisk::corrupt`](crate::CrashDisk::corrupt).
    pub bits_flipped: u64,
}

impl FaultCounts {
    pub(crate) fn failed(&mut self, action: DiskAction, error: DiskError) {
        let count = match (action, error) {
            (DiskAction::Open, _) => &mut self.opens_failed,
            (DiskAction::Read { .. }, _) => &mut self.reads_failed,
            (DiskAction::Write { .. }, DiskError::Full) => &mut self.writes_full,
            (DiskAction::Write { .. }, DiskError::Io) => &mut self.writes_failed,
            (DiskAction::Truncate { .. }, _) => &mut self.truncates_failed,
            (DiskAction::Sync, _) => &mut self.syncs_failed,
        };
        *count += 1;
    }
}
