//! Which calls of this client are still open, so that the cluster may forget the outcome of all others.
//!
//! The ids of writes ascend over all streams of a client. `answered_below` is the lowest id that may still be sent or answered: it moves only when
//! the last holder of an id lets go, and a try that was given up holds its id until its stream answers or ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

const WORD_BITS: u64 = u64::BITS as u64;
/// Reads count from here, far above any write.
const FIRST_READ: u64 = 1 << 63;

/// The open ids of one client: a bitmap that slides along.
#[derive(Debug)]
pub(crate) struct CallLedger {
    window: Mutex<Window>,
    answered_below: AtomicU64,
    reads: AtomicU64,
}

#[derive(Debug)]
struct Window {
    /// The id of bit 0 of the first word.
    base: u64,
    /// The next id to give out.
    next: u64,
    /// One bit per id from `base` on, set once the id is closed.
    closed: VecDeque<u64>,
}

/// An id in use. The last clone of its `Arc` closes it.
#[derive(Debug)]
pub(crate) struct CallId {
    id: u64,
    /// `None` for a read.
    ledger: Option<Arc<CallLedger>>,
}

impl CallLedger {
    pub(crate) fn new() -> Arc<Self> {
        // Ids begin at 1: 0 is what an absent field reads as.
        Arc::new(Self {
            window: Mutex::new(Window {
                base: 0,
                next: 1,
                closed: VecDeque::from([1]),
            }),
            answered_below: AtomicU64::new(1),
            reads: AtomicU64::new(FIRST_READ),
        })
    }

    pub(crate) fn open(self: &Arc<Self>) -> Arc<CallId> {
        let mut window = self.window.lock();
        let id = window.next;
        window.next += 1;
        let words = window.closed.len() as u64;
        if id - window.base >= words * WORD_BITS {
            window.closed.push_back(0);
        }
        drop(window);
        Arc::new(CallId {
            id,
            ledger: Some(Arc::clone(self)),
        })
    }

    /// An id for a call that writes nothing. It has no outcome to keep, so it does not hold the mark either: a long read must not
    /// make the cluster keep the outcomes of all writes beside it.
    pub(crate) fn open_read(&self) -> Arc<CallId> {
        Arc::new(CallId {
            id: self.reads.fetch_add(1, Ordering::Relaxed),
            ledger: None,
        })
    }

    /// The lowest id that is still open (or the next one to be opened).
    pub(crate) fn answered_below(&self) -> u64 {
        self.answered_below.load(Ordering::Acquire)
    }

    fn close(&self, id: u64) {
        let mut window = self.window.lock();
        let bit = id - window.base;
        window.closed[(bit / WORD_BITS) as usize] |= 1 << (bit % WORD_BITS);
        while window.closed.front() == Some(&u64::MAX) {
            window.closed.pop_front();
            window.base += WORD_BITS;
        }
        let done = window.closed.front().map_or(0, |word| word.trailing_ones());
        // Stored under the lock, so that it never goes back.
        self.answered_below
            .store(window.base + u64::from(done), Ordering::Release);
    }
}

impl CallId {
    pub(crate) fn get(&self) -> u64 {
        self.id
    }
}

impl Drop for CallId {
    fn drop(&mut self) {
        if let Some(ledger) = &self.ledger {
            ledger.close(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_open_id_holds_the_mark() {
        let ledger = CallLedger::new();
        let first = ledger.open();
        let rest: Vec<_> = (0..300).map(|_| ledger.open()).collect();
        assert_eq!(first.get(), 1);
        drop(rest);
        assert_eq!(ledger.answered_below(), 1);
        let held = Arc::clone(&first);
        drop(first);
        assert_eq!(ledger.answered_below(), 1);
        drop(held);
        assert_eq!(ledger.answered_below(), 302);
        assert_eq!(ledger.open().get(), 302);
        assert_eq!(ledger.answered_below(), 303);
    }

    #[test]
    fn reads_do_not_hold_the_mark() {
        let ledger = CallLedger::new();
        let read = ledger.open_read();
        drop(ledger.open());
        assert_eq!(ledger.answered_below(), 2);
        assert!(read.get() > 1 << 62 && read.get() != ledger.open_read().get());
    }

    #[test]
    fn mark_is_below_every_open_id_in_any_order() {
        let ledger = CallLedger::new();
        let mut open: Vec<_> = (0..1000).map(|_| ledger.open()).collect();
        let mut state = 7_usize;
        while !open.is_empty() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            open.swap_remove((state >> 33) % open.len());
            let lowest = open.iter().map(|id| id.get()).min().unwrap_or(1001);
            assert_eq!(ledger.answered_below(), lowest);
        }
    }
}
