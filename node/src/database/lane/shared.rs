//! [`Shared`]: what a lane tells the rest of the node about its database. Written by the lane, but for what others see of a lane that can tell nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use halite_pager::{DiskCall, DiskCalls};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::database::guard::Guard;
use crate::database::{Applied, Health, Host};
use crate::lasting::Lasting;

/// No page takes as long on a disk that works, however busy.
const HANGS_AFTER: Duration = Duration::from_secs(3);
/// A checkpoint of a large WAL, all over the file, on a disk that has to move its arm.
const SYNC_HANGS_AFTER: Duration = Duration::from_secs(15);

/// See the module.
pub(in crate::database) struct Shared {
    pub(in crate::database) applied: watch::Sender<Applied>,
    pub(in crate::database) health: watch::Sender<Health>,
    pub(in crate::database) wal_bytes: AtomicU64,
    pub(in crate::database) batches: AtomicU64,
    pub(in crate::database) batched_jobs: AtomicU64,
    /// No reader can have seen anything beyond this Raft index.
    ceiling: AtomicU64,
    /// Counts replacements of the file's content that cached connections do not notice.
    generation: AtomicU64,
    /// Of the lane's thread, and what was seen of them.
    pub(in crate::database) disk_calls: Arc<DiskCalls>,
    waits_for_disk: Mutex<Lasting>,
    host: Arc<dyn Host>,
    /// Of the writer's connection.
    pub(in crate::database) guard: Mutex<Option<Guard>>,
    /// The file; `None` once the database is shut down.
    pager: Mutex<Option<Arc<halite_pager::Database>>>,
}

impl Shared {
    pub(in crate::database) fn new(
        applied: Applied,
        health: Health,
        pager: Arc<halite_pager::Database>,
        host: Arc<dyn Host>,
    ) -> Self {
        Shared {
            applied: watch::Sender::new(applied),
            health: watch::Sender::new(health),
            wal_bytes: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            batched_jobs: AtomicU64::new(0),
            ceiling: AtomicU64::new(applied.raft_index),
            generation: AtomicU64::new(0),
            disk_calls: Arc::default(),
            waits_for_disk: Mutex::default(),
            host,
            guard: Mutex::default(),
            pager: Mutex::new(Some(pager)),
        }
    }

    /// The disk holds up the lane: a call to the file or its WAL does not come back. Seen by who asks again and again.
    pub(in crate::database) fn disk_hangs(&self) -> bool {
        let call = self.disk_calls.going_on();
        let number = call.map(|(number, _)| number);
        let lasts = self.waits_for_disk.lock().look(number, self.host.now());
        call.is_some_and(|(_, call)| {
            lasts
                >= match call {
                    DiskCall::Short => HANGS_AFTER,
                    DiskCall::Sync => SYNC_HANGS_AFTER,
                }
        })
    }

    /// An entry is about to become visible.
    pub(in crate::database) fn will_show(&self, raft_index: u64) {
        self.ceiling.fetch_max(raft_index, Ordering::SeqCst);
    }

    /// Covers everything that a read begun before this call can have seen: its session token.
    pub(in crate::database) fn seen_up_to(&self) -> u64 {
        self.ceiling.load(Ordering::SeqCst)
    }

    pub(in crate::database) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(in crate::database) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    pub(in crate::database) fn pager(&self) -> Option<Arc<halite_pager::Database>> {
        self.pager.lock().clone()
    }

    /// Lets the file go.
    pub(in crate::database) fn close(&self) {
        *self.pager.lock() = None;
    }
}
