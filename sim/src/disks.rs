//! [`LogFaults`], [`FileFaults`] and [`StoreFaults`]: how disks and the object store behave, at each access.
//!
//! Outlive the process, as disks do. Whoever holds one changes what is wrong; the disk asks at each access.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use halite_archive::{MemStore, StoreFate};
use halite_log::{FlushFate, FlushInfo, MemDisk};
use halite_sim_disk::{CrashDisk, DiskAction, DiskError, DiskFate, DiskOperation};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::fault::{FileDiskFault, LogDiskFault, StoreFault};

/// What the disk under the log did to the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Syncs that took time.
    pub delayed: u64,
    /// Writes that failed.
    pub writes_failed: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
}

/// What is wrong with a log's disk. Clones are the same.
#[derive(Clone)]
pub struct LogFaults(Arc<Mutex<LogState>>);

struct LogState {
    rng: SmallRng,
    fault: Option<LogDiskFault>,
    counts: LogCounts,
}

impl LogFaults {
    /// Puts itself before `disk`.
    pub fn install(disk: &MemDisk, seed: u64) -> Self {
        let faults = Self(Arc::new(Mutex::new(LogState {
            rng: SmallRng::seed_from_u64(seed),
            fault: None,
            counts: LogCounts::default(),
        })));
        let asked = faults.clone();
        disk.set_faults(move |info| asked.0.lock().fate(info));
        faults
    }

    /// From now on this is wrong, or nothing.
    pub fn set(&self, fault: Option<LogDiskFault>) {
        self.0.lock().fault = fault;
    }

    /// What was done so far.
    pub fn counts(&self) -> LogCounts {
        self.0.lock().counts
    }
}

impl LogState {
    fn fate(&mut self, info: FlushInfo) -> FlushFate {
        let mut delay = Duration::ZERO;
        match self.fault {
            Some(LogDiskFault::Slow(most)) if info.sync => {
                delay = draw_up_to(&mut self.rng, most);
                self.counts.delayed += 1;
            }
            // The disk itself takes its time.
            Some(LogDiskFault::Hangs | LogDiskFault::Bandwidth(_)) if info.sync => {
                self.counts.delayed += 1;
            }
            Some(LogDiskFault::WritesFail(rate)) if hits(&mut self.rng, rate) => {
                self.counts.writes_failed += 1;
                return FlushFate::WriteFails(io::ErrorKind::Other);
            }
            Some(LogDiskFault::Full) => {
                self.counts.writes_failed += 1;
                return FlushFate::WriteFails(io::ErrorKind::StorageFull);
            }
            Some(LogDiskFault::SyncsFail(rate)) if info.sync && hits(&mut self.rng, rate) => {
                self.counts.syncs_failed += 1;
                return FlushFate::SyncFails {
                    delay,
                    kind: io::ErrorKind::Other,
                };
            }
            _ => {}
        }
        FlushFate::Done { delay }
    }
}

/// What is wrong with the disk under SQLite. Clones are the same.
#[derive(Clone)]
pub struct FileFaults(Arc<Mutex<FileState>>);

struct FileState {
    rng: SmallRng,
    fault: Option<FileDiskFault>,
    /// Its name, if only the files of one database fail.
    only: Option<String>,
    one_failed: bool,
    /// Accesses until the power goes off.
    cut_after: Option<u64>,
}

impl FileFaults {
    /// Puts itself before `disk`.
    pub fn install(disk: &CrashDisk, seed: u64) -> Self {
        let faults = Self(Arc::new(Mutex::new(FileState {
            rng: SmallRng::seed_from_u64(seed),
            fault: None,
            only: None,
            one_failed: false,
            cut_after: None,
        })));
        let asked = faults.clone();
        disk.set_faults(move |operation| asked.0.lock().fate(operation));
        faults
    }

    /// From now on this is wrong, or nothing; with the files of one database alone, if it is named.
    pub fn set(&self, fault: Option<FileDiskFault>, only: Option<String>) {
        let mut state = self.0.lock();
        (state.fault, state.only) = (fault, only);
    }

    /// The files of one database have failed while the others were well.
    pub fn one_failed(&self) -> bool {
        self.0.lock().one_failed
    }

    /// The power goes off after so many accesses more; `None`: it does not.
    pub fn cut_after(&self, accesses: Option<u64>) {
        self.0.lock().cut_after = accesses;
    }
}

impl FileState {
    fn fate(&mut self, operation: &DiskOperation<'_>) -> DiskFate {
        // Opening a file is nothing that a power loss can undo.
        let counts = operation.action != DiskAction::Open;
        if let Some(left) = self.cut_after.as_mut().filter(|_| counts) {
            if *left == 0 {
                self.cut_after = None;
                return DiskFate::PowerCut;
            }
            *left -= 1;
        }
        let is_meant = |name: &String| {
            let stem = operation.database.file_stem();
            stem.is_some_and(|stem| stem == name.as_str())
        };
        if !self.only.as_ref().is_none_or(is_meant) {
            return DiskFate::Done;
        }
        let fate = self.fate_by_fault(operation);
        self.one_failed |= self.only.is_some() && fate != DiskFate::Done;
        fate
    }

    fn fate_by_fault(&mut self, operation: &DiskOperation<'_>) -> DiskFate {
        let fails = DiskFate::Fails(DiskError::Io);
        match (self.fault, operation.action) {
            (Some(FileDiskFault::OpensFail(rate)), DiskAction::Open)
            | (Some(FileDiskFault::ReadsFail(rate)), DiskAction::Read { .. })
            | (
                Some(FileDiskFault::WritesFail(rate)),
                DiskAction::Write { .. } | DiskAction::Truncate { .. },
            )
            | (Some(FileDiskFault::SyncsFail(rate)), DiskAction::Sync)
                if hits(&mut self.rng, rate) =>
            {
                fails
            }
            (Some(FileDiskFault::Full), DiskAction::Write { bytes, .. }) => DiskFate::FailsPartly {
                bytes: self.rng.random_range(0..=bytes / 2),
                error: DiskError::Full,
            },
            _ => DiskFate::Done,
        }
    }
}

/// What is wrong with the object store. Clones are the same.
#[derive(Clone)]
pub struct StoreFaults(Arc<Mutex<StoreState>>);

struct StoreState {
    rng: SmallRng,
    fault: Option<StoreFault>,
}

impl StoreFaults {
    /// Puts itself before `store`.
    pub fn install(store: &MemStore, seed: u64) -> Self {
        let faults = Self(Arc::new(Mutex::new(StoreState {
            rng: SmallRng::seed_from_u64(seed),
            fault: None,
        })));
        let asked = faults.clone();
        store.set_faults(move |_| asked.0.lock().fate());
        faults
    }

    /// From now on this is wrong, or nothing.
    pub fn set(&self, fault: Option<StoreFault>) {
        self.0.lock().fault = fault;
    }
}

impl StoreState {
    fn fate(&mut self) -> StoreFate {
        let rng = &mut self.rng;
        match self.fault {
            Some(StoreFault::Slow(most)) => StoreFate::Done {
                before: draw_up_to(rng, most),
                after: draw_up_to(rng, most),
            },
            Some(StoreFault::Unavailable(rate)) if hits(rng, rate) => StoreFate::Unavailable,
            Some(StoreFault::UnavailableAfterEffect(rate)) if hits(rng, rate) => {
                StoreFate::UnavailableAfterEffect {
                    before: Duration::ZERO,
                    after: Duration::ZERO,
                }
            }
            Some(StoreFault::TimesOut(rate, delay)) if hits(rng, rate) => {
                StoreFate::TimesOut { delay }
            }
            _ => StoreFate::DONE,
        }
    }
}

fn hits(rng: &mut SmallRng, per_mille: u32) -> bool {
    rng.random_range(0..1000) < per_mille
}

fn draw_up_to(rng: &mut SmallRng, most: Duration) -> Duration {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(rng.random_range(0..=most))
}
