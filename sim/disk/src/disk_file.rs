//! [`OpenFile`]: one open file on a [`CrashDisk`]. Lets faults in before each access, and tells the disk of each change.
//! Called by the pager for every byte that passes the shim.

use std::ffi::c_int;

use halite_pager::{DiskFile, FileKey, OsFile};
use libsqlite3_sys as ffi;
use parking_lot::MutexGuard;

use crate::change_list::{SECTOR_BYTES, Sector, sectors};
use crate::crash_disk::CrashDisk;
use crate::disk_state::DiskState;
use crate::fault::{DiskAction, DiskError, DiskFate, DiskOperation};

/// See the module.
#[derive(Debug)]
pub(crate) struct OpenFile {
    disk: CrashDisk,
    key: FileKey,
    below: OsFile,
}

impl OpenFile {
    /// Puts an open file under the disk's rule.
    pub(crate) fn open(disk: &CrashDisk, key: FileKey, below: OsFile) -> Self {
        disk.state().attach(&key, below.clone());
        OpenFile {
            disk: disk.clone(),
            key,
            below,
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

    fn write_through(&self, state: &mut DiskState, bytes: &[u8], offset: u64) -> Result<(), c_int> {
        let size = self.below.size()?;
        let touched = sectors(offset, bytes.len() as u64);
        self.keep(state, touched.clone(), size)?;
        let written = self.below.write(bytes, offset);
        // Even a write that fails may have changed something.
        let changes = state.changes(&self.key);
        for number in touched {
            changes.written(number, read_sector(&self.below, number)?);
        }
        let now = self.below.size()?;
        if now != size {
            changes.resized(size, now);
        }
        written
    }

    fn truncate_through(&self, state: &mut DiskState, size: u64) -> Result<(), c_int> {
        let from = self.below.size()?;
        let lost = sectors(size, from.saturating_sub(size));
        self.keep(state, lost, from)?;
        let cut = self.below.truncate(size);
        let now = self.below.size()?;
        if now != from {
            state.changes(&self.key).resized(from, now);
        }
        cut
    }

    /// Keeps what sectors hold before they are changed.
    fn keep(
        &self,
        state: &mut DiskState,
        touched: std::ops::Range<u64>,
        size: u64,
    ) -> Result<(), c_int> {
        let changes = state.changes(&self.key);
        changes.begin(size);
        for number in touched {
            if changes.wants(number) {
                changes.before(number, read_sector(&self.below, number)?);
            }
        }
        Ok(())
    }
}

impl DiskFile for OpenFile {
    fn is_cut(&self) -> bool {
        self.disk.is_cut()
    }

    fn read(&self, offset: u64, bytes: usize, read: &mut dyn FnMut() -> c_int) -> c_int {
        let action = DiskAction::Read { offset, bytes };
        match self.admit(action) {
            Ok((_state, None)) => read(),
            Ok((_, Some((_, error)))) => action.code(error),
            Err(code) => code,
        }
    }

    fn write(&self, bytes: &[u8], offset: u64) -> c_int {
        let action = DiskAction::Write {
            offset,
            bytes: bytes.len(),
        };
        let (mut state, fault) = match self.admit(action) {
            Ok(admitted) => admitted,
            Err(code) => return code,
        };
        let written = fault.map_or(bytes.len(), |(written, _)| written.min(bytes.len()));
        if written > 0
            && let Err(code) = self.write_through(&mut state, &bytes[..written], offset)
        {
            return code;
        }
        fault.map_or(ffi::SQLITE_OK, |(_, error)| action.code(error))
    }

    fn truncate(&self, size: u64) -> c_int {
        let action = DiskAction::Truncate { size };
        match self.admit(action) {
            Ok((mut state, None)) => match self.truncate_through(&mut state, size) {
                Ok(()) => ffi::SQLITE_OK,
                Err(code) => code,
            },
            Ok((_, Some((_, error)))) => action.code(error),
            Err(code) => code,
        }
    }

    /// The file below is not synced in earnest: this disk decides what survives.
    fn sync(&self) -> c_int {
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

    fn size(&self) -> Result<u64, c_int> {
        let state = self.disk.state();
        if state.is_cut() {
            return Err(ffi::SQLITE_IOERR_FSTAT);
        }
        self.below.size()
    }

    fn close(&self) {
        self.disk.state().detach(&self.key, &self.below);
    }
}

fn read_sector(file: &OsFile, number: u64) -> Result<Sector, c_int> {
    let mut content = vec![0; SECTOR_BYTES];
    file.read(&mut content, number * SECTOR_BYTES as u64)?;
    Ok(content)
}
