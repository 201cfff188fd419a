//! [`DiskState`]: whether the power is on, and for each file who has it open and which changes are unsynced. Owned by the disk,
//! behind its lock, which also keeps the accesses of one disk apart.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use halite_pager::{FileKey, FileKind, OsFile};

use crate::change_list::{ChangeList, SECTOR_BYTES, Settled};
use crate::error::RestoreError;
use crate::fault::FaultCounts;
use crate::unsynced::{Survival, Unsynced};

#[derive(Debug, Default)]
struct TrackedFile {
    /// The files that are open.
    handles: Vec<OsFile>,
    /// Device and inode: another file under the same name has nothing to do with these changes.
    identity: Option<(u64, u64)>,
    changes: ChangeList,
}

#[derive(Debug, Default)]
pub(crate) struct DiskState {
    cut: bool,
    files: BTreeMap<FileKey, TrackedFile>,
    pub(crate) counts: FaultCounts,
}

impl DiskState {
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(crate) fn cut(&mut self) {
        if !self.cut {
            self.cut = true;
            self.counts.power_cuts += 1;
        }
    }

    pub(crate) fn attach(&mut self, key: &FileKey, open: OsFile) {
        let identity = identity(&key.path());
        let file = self.files.entry(key.clone()).or_default();
        if file.handles.is_empty() && file.identity != identity {
            *file = TrackedFile::default();
        }
        file.identity = identity;
        file.handles.push(open);
    }

    pub(crate) fn detach(&mut self, key: &FileKey, closed: &OsFile) {
        if let Some(file) = self.files.get_mut(key) {
            file.handles.retain(|handle| !handle.is(closed));
        }
    }

    pub(crate) fn handles(&self, key: &FileKey) -> &[OsFile] {
        self.files.get(key).map_or(&[], |file| &file.handles)
    }

    pub(crate) fn changes(&mut self, key: &FileKey) -> &mut ChangeList {
        &mut self.files.entry(key.clone()).or_default().changes
    }

    pub(crate) fn unsynced(&self, key: &FileKey) -> usize {
        self.files.get(key).map_or(0, |file| file.changes.len())
    }

    /// Forgets the changes of a database whose files are made anew.
    pub(crate) fn forget(&mut self, database: &Path) {
        for kind in FileKind::ALL {
            self.forget_file(&FileKey {
                database: database.to_owned(),
                kind,
            });
        }
    }

    pub(crate) fn forget_file(&mut self, key: &FileKey) {
        if let Some(file) = self.files.get_mut(key) {
            file.changes = ChangeList::default();
            file.identity = None;
        }
    }

    /// Rewrites all files as the power loss left them. Afterwards nothing is unsynced.
    pub(crate) fn restore(
        &mut self,
        choose: &mut dyn FnMut(&Unsynced<'_>) -> Survival,
    ) -> Result<(), RestoreError> {
        self.nothing_is_open()?;
        for (key, file) in &mut self.files {
            let path = key.path();
            let total = file.changes.len();
            // A file that was deleted or replaced took its changes along.
            if total == 0 || file.identity != identity(&path) {
                continue;
            }
            let counts = &mut self.counts;
            let settled = file.changes.settle(|number, change, sync_failed| {
                let survival = choose(&Unsynced {
                    database: &key.database,
                    file: key.kind,
                    number,
                    total,
                    sync_failed,
                    change,
                });
                *match survival {
                    Survival::Keep => &mut counts.changes_kept,
                    Survival::Drop => &mut counts.changes_dropped,
                    Survival::Tear(_) => &mut counts.changes_torn,
                } += 1;
                survival
            });
            rewrite(&path, &settled).map_err(|source| RestoreError::Io { path, source })?;
        }
        self.remove_shared_memory()?;
        self.files.clear();
        self.cut = false;
        Ok(())
    }

    /// Lets a new process go on with the files as they are; what was unsynced stays so.
    pub(crate) fn restart(&mut self) -> Result<(), RestoreError> {
        self.nothing_is_open()?;
        self.remove_shared_memory()?;
        self.cut = false;
        Ok(())
    }

    fn nothing_is_open(&self) -> Result<(), RestoreError> {
        match self.files.iter().find(|(_, file)| !file.handles.is_empty()) {
            Some((key, _)) => Err(RestoreError::StillOpen { path: key.path() }),
            None => Ok(()),
        }
    }

    fn remove_shared_memory(&self) -> Result<(), RestoreError> {
        let databases: BTreeSet<&Path> = self
            .files
            .keys()
            .map(|key| key.database.as_path())
            .collect();
        for database in databases {
            let path = shared_memory(database);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(RestoreError::Io { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where SQLite keeps the shared memory of a database.
fn shared_memory(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-shm");
    PathBuf::from(name)
}

/// Nobody has the file open, so opening and closing it here costs no lock.
fn rewrite(path: &Path, settled: &Settled) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(settled.size)?;
    for (number, content) in &settled.sectors {
        let offset = number * SECTOR_BYTES as u64;
        let within = settled.size.saturating_sub(offset).min(SECTOR_BYTES as u64) as usize;
        file.write_all_at(&content[..within], offset)?;
    }
    Ok(())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    // A `stat` opens nothing, so no lock is lost by it.
    std::fs::metadata(path)
        .ok()
        .map(|found| (found.dev(), found.ino()))
}
