//! A disk in memory for the simulation: what was written is kept apart from what was synced, so that a power loss can drop, keep
//! or cut it. It outlives the store on it, as a disk outlives a process.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::backend::{Backend, Change, Durability, Family};
use crate::entry_record;
use crate::error::OpenError;

/// A write that is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlushInfo {
    /// Bytes of keys and values in the batch.
    pub bytes: usize,
    /// Whether a sync follows. A write without one is not delayed.
    pub sync: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushFate {
    /// It is written, and synced after the delay.
    Done {
        /// How long the sync takes.
        delay: Duration,
    },
    /// Nothing is written: a full disk.
    WriteFails(io::ErrorKind),
    /// It is written but the sync fails after the delay: whether it survives a power loss is open.
    SyncFails {
        /// How long the sync takes.
        delay: Duration,
        /// The error it ends with.
        kind: io::ErrorKind,
    },
}

/// What a power loss does to the batches that were written and not synced. Batches are atomic and ordered, as in RocksDB: a
/// torn batch fails its checksum and is dropped with all that follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crash {
    /// All of them are lost.
    DropUnsynced,
    /// All of them happened to be on disk.
    KeepUnsynced,
    /// The first `n` happened to be on disk.
    KeepFirst(usize),
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemDisk {
    disk: Arc<Mutex<Disk>>,
}

type Faults = Box<dyn FnMut(FlushInfo) -> FlushFate + Send>;
type Tables = BTreeMap<(Family, Vec<u8>), Bytes>;

#[derive(Default)]
struct Disk {
    /// What survives a power loss.
    durable: Tables,
    /// What a read sees: durable with the unsynced batches applied.
    current: Tables,
    unsynced: VecDeque<Vec<Written>>,
    /// Counts power losses; a store opened before one has lost its disk.
    crashes: u64,
    in_use: bool,
    faults: Option<Faults>,
    /// Fate of the write that the next sync completes.
    pending: Option<FlushFate>,
    /// Bytes of the batches that the next sync brings to the disk.
    pending_bytes: u64,
    bandwidth: Option<NonZeroU64>,
    hanging: watch::Sender<bool>,
}

/// What is durable on a disk at one moment.
#[derive(Clone, Default)]
pub struct MemDiskImage(Tables);

#[derive(Clone)]
enum Written {
    Put((Family, Vec<u8>), Bytes),
    Delete((Family, Vec<u8>)),
    DeleteRange(Family, Vec<u8>, Vec<u8>),
}

impl MemDisk {
    /// An empty disk without faults and delays.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on asks `faults` before each write. Seed it: the simulation must repeat.
    pub fn set_faults(&self, faults: impl FnMut(FlushInfo) -> FlushFate + Send + 'static) {
        self.disk.lock().faults = Some(Box::new(faults));
    }

    /// From now on every write succeeds at once.
    pub fn clear_faults(&self) {
        self.disk.lock().faults = None;
    }

    /// From now on a sync takes as long as the bytes written since the one before need at so many bytes a second, beside what
    /// the faults say; `None`: no time.
    pub fn set_bandwidth(&self, bytes_per_s: Option<NonZeroU64>) {
        self.disk.lock().bandwidth = bytes_per_s;
    }

    /// While it hangs, no sync ends: neither well nor with an error. A power loss does not end it. What a lane writes in place
    /// ([`LogStore::meta_put_blocking`](crate::LogStore::meta_put_blocking)) does not wait, since nothing in a simulation may block.
    pub fn set_hanging(&self, hanging: bool) {
        self.disk.lock().hanging.send_replace(hanging);
    }

    /// Batches that a power loss now would put at stake.
    pub fn unsynced_batches(&self) -> usize {
        self.disk.lock().unsynced.len()
    }

    /// Cuts the power. The store that was open on the disk gets errors from now on; the next one opens what is left.
    pub fn crash(&self, crash: Crash) {
        let disk = &mut *self.disk.lock();
        let kept = match crash {
            Crash::DropUnsynced => 0,
            Crash::KeepUnsynced => disk.unsynced.len(),
            Crash::KeepFirst(n) => n.min(disk.unsynced.len()),
        };
        for batch in disk.unsynced.drain(..).take(kept) {
            apply(&mut disk.durable, &batch);
        }
        disk.current = disk.durable.clone();
        disk.crashes += 1;
        disk.in_use = false;
        disk.pending = None;
        disk.pending_bytes = 0;
    }

    /// A copy of what is durable.
    pub fn image(&self) -> MemDiskImage {
        MemDiskImage(self.disk.lock().durable.clone())
    }

    /// From now on this is all that the disk holds. A store that was open on it gets errors, as after [`crash`](Self::crash).
    pub fn put_back(&self, image: &MemDiskImage) {
        self.crash(Crash::DropUnsynced);
        let disk = &mut *self.disk.lock();
        disk.durable = image.0.clone();
        disk.current = image.0.clone();
    }

    /// Flips one bit of the stored entry at `index`; answers whether there is one. A store that is open serves the entry
    /// from memory as long as it is recent: reopen it, or open it with a small cache, to meet the damage.
    pub fn corrupt(&self, index: u64) -> bool {
        let disk = &mut *self.disk.lock();
        let key = (Family::Log, entry_record::key(index).to_vec());
        let mut found = false;
        for table in [&mut disk.durable, &mut disk.current] {
            if let Some(value) = table.get_mut(&key) {
                let mut bytes = value.to_vec();
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                *value = bytes.into();
                found = true;
            }
        }
        found
    }

    pub(crate) fn attach(&self) -> Result<MemBackend, OpenError> {
        let mut disk = self.disk.lock();
        if disk.in_use {
            return Err(OpenError::InUse {
                dir: PathBuf::from("(memory)"),
            });
        }
        disk.in_use = true;
        disk.settle();
        Ok(MemBackend {
            disk: self.clone(),
            opened_after: disk.crashes,
            closed: AtomicBool::new(false),
        })
    }
}

impl Disk {
    /// Makes everything durable, as RocksDB does when it replays its log at open.
    fn settle(&mut self) {
        for batch in self.unsynced.drain(..) {
            apply(&mut self.durable, &batch);
        }
        self.pending = None;
        self.pending_bytes = 0;
    }

    fn sync(&mut self, fate: FlushFate) -> io::Result<()> {
        match fate {
            FlushFate::SyncFails { kind, .. } => {
                Err(io::Error::new(kind, "injected fault: sync failed"))
            }
            _ => {
                self.settle();
                Ok(())
            }
        }
    }
}

/// One store's hold on the disk.
pub(crate) struct MemBackend {
    disk: MemDisk,
    opened_after: u64,
    closed: AtomicBool,
}

impl MemBackend {
    fn with<T>(&self, f: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.disk.lock();
        if disk.crashes != self.opened_after {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the disk lost power",
            ));
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "log database is closed",
            ));
        }
        f(&mut disk)
    }
}

impl Backend for MemBackend {
    fn write(&self, changes: &[Change], durability: Durability) -> io::Result<()> {
        self.with(|disk| {
            let sync = durability != Durability::Lazy;
            let info = FlushInfo {
                bytes: changes.iter().map(bytes_of).sum(),
                sync,
            };
            let fate = match &mut disk.faults {
                Some(faults) => faults(info),
                None => FlushFate::Done {
                    delay: Duration::ZERO,
                },
            };
            if let FlushFate::WriteFails(kind) = fate {
                return Err(io::Error::new(kind, "injected fault: write failed"));
            }
            disk.pending_bytes += info.bytes as u64;
            let batch: Vec<_> = changes.iter().map(written).collect();
            apply(&mut disk.current, &batch);
            disk.unsynced.push_back(batch);
            match durability {
                Durability::Lazy => Ok(()),
                Durability::Now => disk.sync(fate),
                Durability::AtNextSync => {
                    disk.pending = Some(fate);
                    Ok(())
                }
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|disk| {
            let fate = disk.pending.take().unwrap_or(FlushFate::Done {
                delay: Duration::ZERO,
            });
            disk.sync(fate)
        })
    }

    fn sync_delay(&self) -> Duration {
        let disk = self.disk.disk.lock();
        let fault = match disk.pending {
            Some(FlushFate::Done { delay } | FlushFate::SyncFails { delay, .. }) => delay,
            _ => Duration::ZERO,
        };
        fault
            + disk.bandwidth.map_or(Duration::ZERO, |bytes_per_s| {
                let us = disk.pending_bytes.saturating_mul(1_000_000) / bytes_per_s;
                Duration::from_micros(us)
            })
    }

    fn hanging(&self) -> Option<watch::Receiver<bool>> {
        Some(self.disk.disk.lock().hanging.subscribe())
    }

    fn get(&self, family: Family, key: &[u8]) -> io::Result<Option<Bytes>> {
        self.with(|disk| Ok(disk.current.get(&(family, key.to_vec())).cloned()))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> io::Result<()> {
        self.with(|disk| {
            if from < to {
                for ((_, key), value) in disk
                    .current
                    .range((family, from.to_vec())..(family, to.to_vec()))
                {
                    if !visit(key, value) {
                        break;
                    }
                }
            }
            Ok(())
        })
    }

    fn last_key(&self, family: Family) -> io::Result<Option<Vec<u8>>> {
        self.with(|disk| {
            Ok(disk
                .current
                .keys()
                .rfind(|(f, _)| *f == family)
                .map(|(_, key)| key.clone()))
        })
    }

    fn reclaim(&self, last: &[u8]) -> io::Result<()> {
        self.with(|disk| {
            // The smallest key behind `last`.
            let end = [last, &[0]].concat();
            let gone = Written::DeleteRange(Family::Log, Vec::new(), end);
            apply(&mut disk.durable, std::slice::from_ref(&gone));
            apply(&mut disk.current, &[gone]);
            Ok(())
        })
    }

    fn reclaim_step_bytes(&self) -> u64 {
        4 << 10
    }

    fn log_bytes(&self) -> io::Result<u64> {
        self.with(|disk| {
            let log = disk
                .current
                .iter()
                .filter(|((family, _), _)| *family == Family::Log);
            Ok(log.map(|(_, value)| 8 + value.len() as u64).sum())
        })
    }

    fn reopen(&self) -> Result<(), OpenError> {
        self.with(|disk| {
            disk.settle();
            Ok(())
        })
        .map_err(|source| OpenError::Io {
            dir: PathBuf::from("(memory)"),
            source,
        })
    }

    fn close(&self) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            let mut disk = self.disk.disk.lock();
            if disk.crashes == self.opened_after {
                disk.in_use = false;
            }
        }
    }
}

impl Drop for MemBackend {
    fn drop(&mut self) {
        self.close();
    }
}

fn apply(table: &mut Tables, batch: &[Written]) {
    for change in batch {
        match change {
            Written::Put(key, value) => {
                table.insert(key.clone(), value.clone());
            }
            Written::Delete(key) => {
                table.remove(key);
            }
            Written::DeleteRange(family, from, to) => {
                let range = (*family, from.clone())..(*family, to.clone());
                let keys: Vec<_> = table.range(range).map(|(key, _)| key.clone()).collect();
                for key in keys {
                    table.remove(&key);
                }
            }
        }
    }
}

fn written(change: &Change) -> Written {
    match change {
        Change::Put {
            family,
            key,
            head,
            body,
        } => Written::Put(
            (*family, key.clone()),
            [head.as_slice(), body].concat().into(),
        ),
        Change::Delete { family, key } => Written::Delete((*family, key.clone())),
        Change::DeleteRange { family, from, to } => {
            Written::DeleteRange(*family, from.clone(), to.clone())
        }
    }
}

fn bytes_of(change: &Change) -> usize {
    match change {
        Change::Put {
            key, head, body, ..
        } => key.len() + head.len() + body.len(),
        Change::Delete { key, .. } => key.len(),
        Change::DeleteRange { from, to, .. } => from.len() + to.len(),
    }
}
