//! [`DiskCalls`]: what a thread asks of the disk, for others to see. A call that does not come back tells nobody, and holds up whoever made it.
//!
//! Owns the numbers of the calls. Written by the one thread that is watched, where `LowerFile` and the VFS begin and end a call to the files of a
//! database; other threads are not counted. Never waits, and keeps no time: whoever looks, as the node does, sees how long a number stays.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Arc<DiskCalls>>> = const { RefCell::new(None) };
}

/// See the module.
#[derive(Debug, Default)]
pub struct DiskCalls {
    /// The number of the newest call above its [`DiskCall`], if it goes on.
    newest: AtomicU64,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCall {
    /// Of a page or less: a moment, on a disk that answers.
    Short = 1,
    /// Of all that was written: as long as that takes.
    Sync = 2,
}

const KIND: u64 = 3;

impl DiskCalls {
    /// Counts the calls of this thread, from now on.
    pub fn watch_this_thread(self: &Arc<Self>) {
        OF_THIS_THREAD.set(Some(self.clone()));
    }

    /// The call that goes on, and its number.
    pub fn going_on(&self) -> Option<(u64, DiskCall)> {
        let newest = self.newest.load(Ordering::Relaxed);
        let call = match newest & KIND {
            0 => return None,
            kind if kind == DiskCall::Sync as u64 => DiskCall::Sync,
            _ => DiskCall::Short,
        };
        Some((newest / (KIND + 1), call))
    }
}

/// Until it is dropped the thread waits for the disk.
pub(crate) struct Waiting {
    /// It is of this thread.
    _here: PhantomData<*const ()>,
}

/// A call begins. Calls are not nested.
pub(crate) fn begin(call: DiskCall) -> Waiting {
    note(|newest| (newest & !KIND) + KIND + 1 + call as u64);
    Waiting { _here: PhantomData }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        note(|newest| newest & !KIND);
    }
}

fn note(change: impl FnOnce(u64) -> u64) {
    OF_THIS_THREAD.with_borrow(|calls| {
        if let Some(calls) = calls {
            // Nobody else writes it.
            let newest = calls.newest.load(Ordering::Relaxed);
            calls.newest.store(change(newest), Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_watched_thread_waits_for_is_seen_and_nothing_else() {
        let calls = Arc::new(DiskCalls::default());
        drop(begin(DiskCall::Short));
        assert_eq!(None, calls.going_on(), "not watched yet");
        calls.watch_this_thread();
        let waits = begin(DiskCall::Short);
        assert_eq!(Some((1, DiskCall::Short)), calls.going_on());
        std::thread::scope(|scope| {
            scope.spawn(|| drop(begin(DiskCall::Sync)));
        });
        assert_eq!(Some((1, DiskCall::Short)), calls.going_on());
        drop(waits);
        assert_eq!(None, calls.going_on());
        let waits = begin(DiskCall::Sync);
        assert_eq!(Some((2, DiskCall::Sync)), calls.going_on());
        drop(waits);
        assert_eq!(None, calls.going_on());
    }
}
