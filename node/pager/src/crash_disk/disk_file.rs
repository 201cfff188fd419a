//! [`DiskFile`]: one open file on a [`CrashDisk`]. Lets faults in before each access, and tells the disk of each change.
//! Called by `LowerFile` for every byte that passes the shim.

use std::ffi::c_int;

use libsqlite3_sys as ffi;
use parking_lot::MutexGuard;

use super::change_list::{SECTOR_BYTES, Sector, sectors};
use super::disk_state::{DiskState, FileKey};
use super::fault::{DiskAction, DiskError, DiskFate, DiskOperation};
use super::{CrashDisk, FileKind};
use crate::lower_file::LowerFile;

/// An open file on the disk. Whoever uses it gives the file itself, which must be the one it was opened for.
#[derive(Debug)]
pub(crate) struct DiskFile {
    disk: CrashDisk,
    key: FileKey,
}

impl DiskFile {
    /// Puts an open file under the disk's rule. `lower` must be the bare file, and `close` be called before it is closed.
    pub(crate) fn open(disk: &CrashDisk, key: FileKey, lower: LowerFile) -> Self {
        disk.state().attach(&key, lower);
        DiskFile {
            disk: disk.clone(),
            key,
        }
    }

    pub(crate) fn close(&self, lower: LowerFile) {
        self.disk.state().detach(&self.key, lower);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.disk.is_cut()
    }

    /// Reads by `read`, unless a fault comes first.
    pub(crate) fn read(&self, offset: i64, bytes: c_int, read: impl FnOnce() -> c_int) -> c_int {
        let action = DiskAction::Read {
            offset: offset.unsigned_abs(),
            bytes: usize::try_from(bytes).unwrap_or(0),
        };
        match self.admit(action) {
            Ok((_state, None)) => read(),
            Ok((_, Some((_, error)))) => action.code(error),
            Err(code) => code,
        }
    }

    pub(crate) fn size(&self, lower: LowerFile) -> Result<u64, c_int> {
        let state = self.disk.state();
        if state.is_cut() {
            return Err(ffi::SQLITE_IOERR_FSTAT);
        }
        lower.size()
    }

    pub(crate) fn write(&self, lower: LowerFile, bytes: &[u8], offset: i64) -> c_int {
        let at = offset.unsigned_abs();
        let action = DiskAction::Write {
            offset: at,
            bytes: bytes.len(),
        };
        let (mut state, fault) = match self.admit(action) {
            Ok(admitted) => admitted,
            Err(code) => return code,
        };
        let written = fault.map_or(bytes.len(), |(written, _)| written.min(bytes.len()));
        if written > 0
            && let Err(code) = write_through(&mut state, &self.key, lower, &bytes[..written], at)
        {
            return code;
        }
        fault.map_or(ffi::SQLITE_OK, |(_, error)| action.code(error))
    }

    pub(crate) fn truncate(&self, lower: LowerFile, size: i64) -> c_int {
        let size = size.unsigned_abs();
        let action = DiskAction::Truncate { size };
        match self.admit(action) {
            Ok((mut state, None)) => match truncate_through(&mut state, &self.key, lower, size) {
                Ok(()) => ffi::SQLITE_OK,
                Err(code) => code,
            },
            Ok((_, Some((_, error)))) => action.code(error),
            Err(code) => code,
        }
    }

    /// What was written is durable from now on. The file below is not synced in earnest: this disk decides what survives.
    pub(crate) fn sync(&self) -> c_int {
        match self.admit(DiskAction::Sync) {
            Ok((mut state, None)) => {
                state.changes(&self.key).synced();
                ffi::SQLITE_OK
            }
            Ok((mut state, Some((_, error)))) => {
                state.changes(&self.key).sync_failed();
                DiskAction::Sync.code(error)
            }
            Err(code) => code,
        }
    }

    /// Lets an access begin: with the disk held, and the bytes that are written although it fails, if it is to fail.
    #[expect(clippy::type_complexity, reason = "private, and clearer in place")]
    fn admit(
        &self,
        action: DiskAction,
    ) -> Result<(MutexGuard<'_, DiskState>, Option<(usize, DiskError)>), c_int> {
        let dead = action.code(DiskError::Io);
        if self.disk.is_cut() {
            return Err(dead);
        }
        let fate = self.disk.fate(&DiskOperation {
            database: &self.key.database,
            file: self.key.kind,
            action,
        });
        // Taken only now: the fate may be long in coming, or cut the power itself.
        let mut state = self.disk.state();
        if fate == DiskFate::PowerCut {
            state.cut();
        }
        if state.is_cut() {
            return Err(dead);
        }
        let fault = match fate {
            DiskFate::Done | DiskFate::PowerCut => None,
            DiskFate::Fails(error) => Some((0, error)),
            DiskFate::FailsPartly { bytes, error } => Some((bytes, error)),
        };
        if let Some((_, error)) = fault {
            state.counts.failed(action, error);
        }
        Ok((state, fault))
    }
}

fn write_through(
    state: &mut DiskState,
    key: &FileKey,
    lower: LowerFile,
    bytes: &[u8],
    offset: u64,
) -> Result<(), c_int> {
    let size = lower.size()?;
    let touched = sectors(offset, bytes.len() as u64);
    keep(state, key, lower, touched.clone(), size)?;
    let code = lower.write(bytes, offset.cast_signed());
    // Even a write that fails may have changed something.
    let changes = state.changes(key);
    for number in touched {
        changes.written(number, read_sector(lower, number)?);
    }
    let now = lower.size()?;
    if now != size {
        changes.resized(size, now);
    }
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(code),
    }
}

fn truncate_through(
    state: &mut DiskState,
    key: &FileKey,
    lower: LowerFile,
    size: u64,
) -> Result<(), c_int> {
    let from = lower.size()?;
    let lost = sectors(size, from.saturating_sub(size));
    keep(state, key, lower, lost, from)?;
    let code = lower.truncate(size.cast_signed());
    let now = lower.size()?;
    if now != from {
        state.changes(key).resized(from, now);
    }
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(code),
    }
}

/// Keeps what sectors hold before they are changed.
fn keep(
    state: &mut DiskState,
    key: &FileKey,
    lower: LowerFile,
    touched: std::ops::Range<u64>,
    size: u64,
) -> Result<(), c_int> {
    let changes = state.changes(key);
    changes.begin(size);
    for number in touched {
        if changes.wants(number) {
            changes.before(number, read_sector(lower, number)?);
        }
    }
    Ok(())
}

fn read_sector(lower: LowerFile, number: u64) -> Result<Sector, c_int> {
    let mut content = vec![0; SECTOR_BYTES];
    lower.read(&mut content, (number * SECTOR_BYTES as u64).cast_signed())?;
    Ok(content)
}

impl FileKey {
    /// The files a database may have on the disk.
    pub(super) fn all(database: &std::path::Path) -> impl Iterator<Item = FileKey> {
        FileKind::ALL.into_iter().map(|kind| FileKey {
            database: database.to_owned(),
            kind,
        })
    }
}
