//! [`Unconfirmed`]: how much a lane has found out that it may not tell yet, in calls and bytes. Written by the lane and by whoever brings the
//! quorum's word.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
pub(super) struct Unconfirmed {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    calls_max: usize,
    bytes_max: usize,
}

/// What waits, until it is dropped.
pub(super) struct Waiting {
    all: Arc<Unconfirmed>,
    calls: usize,
    bytes: usize,
}

impl Unconfirmed {
    pub(super) fn new(calls_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Unconfirmed {
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            calls_max,
            bytes_max,
        })
    }

    /// So much waits that nothing more should be run.
    pub(super) fn is_full(&self) -> bool {
        self.calls.load(Ordering::Relaxed) >= self.calls_max
            || self.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// Counts `calls` with answers of `bytes` in all.
    pub(super) fn wait(self: &Arc<Self>, calls: usize, bytes: usize) -> Waiting {
        self.calls.fetch_add(calls, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Waiting {
            all: self.clone(),
            calls,
            bytes,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.calls.fetch_sub(self.calls, Ordering::Relaxed);
        self.all.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
