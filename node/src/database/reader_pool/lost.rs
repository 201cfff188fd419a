//! Threads that do not come back. SQLite interrupts a statement between two steps of its machine, and one step can call a function that takes
//! minutes. A thread that is at a read whose time has been over for a while is given up: another takes its place, so that nobody waits for it,
//! and the system runs it only when nobody else wants a processor. When its read is over, it ends.
//!
//! Owns a thread of its own, which the pool starts and joins. Not in lockstep: there no read outlives its time. Never interrupts anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, setpriority_process};

use super::{Queue, State};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(250);
/// A read is interrupted within milliseconds where it can be.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);
/// Threads given up at one time: each has memory and, when nobody else wants it, a processor. With more of them the node reads no more until one
/// comes back.
const LOST_MAX: usize = 8;
/// The lowest priority there is (nice(1)).
const LOWEST: i32 = 19;

/// What each thread is at.
#[derive(Default)]
pub(super) struct Busy(BTreeMap<usize, At>);

struct At {
    until: Instant,
    thread: Option<Pid>,
    lost: bool,
}

impl Busy {
    pub(super) fn begins(&mut self, worker: usize, thread: Option<Pid>, until: Instant) {
        let at = At {
            until,
            thread,
            lost: false,
        };
        self.0.insert(worker, at);
    }

    pub(super) fn is_lost(&self, worker: usize) -> bool {
        self.0.get(&worker).is_some_and(|at| at.lost)
    }

    /// The thread is at nothing any more; true if it was given up meanwhile.
    pub(super) fn is_back(&mut self, worker: usize) -> bool {
        self.0.remove(&worker).is_some_and(|at| at.lost)
    }

    /// A thread that was given up is not, unless it is gone by now.
    fn keep(&mut self, worker: usize, now: Instant) -> bool {
        let Some(at) = self.0.get_mut(&worker) else {
            return false;
        };
        (at.lost, at.until) = (false, now);
        true
    }

    /// Those to be given up now.
    fn give_up(&mut self, now: Instant) -> Vec<(usize, Option<Pid>)> {
        let lost = self.0.values().filter(|at| at.lost).count();
        let overdue = self.0.iter_mut().filter(|(_, at)| {
            !at.lost && now.saturating_duration_since(at.until) >= GIVEN_UP_AFTER
        });
        overdue
            .take(LOST_MAX.saturating_sub(lost))
            .map(|(worker, at)| {
                at.lost = true;
                (*worker, at.thread)
            })
            .collect()
    }
}

/// Looks after the threads until the pool is stopped.
pub(super) fn watch(queue: &Arc<Queue>) {
    let mut state = queue.state.lock();
    while !state.stopped {
        queue.watch.wait_for(&mut state, LOOK);
        let lost = state.busy.give_up(queue.host.now());
        if state.stopped || lost.is_empty() {
            continue;
        }
        drop(state);
        for (worker, thread) in lost {
            replace(queue, worker, thread);
        }
        state = queue.state.lock();
    }
}

fn replace(queue: &Arc<Queue>, worker: usize, thread: Option<Pid>) {
    tracing::warn!(
        worker,
        "a read goes on though its time is over, and cannot be interrupted: another thread takes the place of its own"
    );
    metrics::counter!("halite_reader_threads_lost_total").increment(1);
    if let Some(thread) = thread
        && let Err(error) = setpriority_process(Some(thread), LOWEST)
    {
        tracing::debug!(%error, "the priority of a thread is what it was");
    }
    let number = {
        let mut state = queue.state.lock();
        state.threads -= 1;
        state.next_worker()
    };
    let started = queue.start_worker(number);
    let mut state = queue.state.lock();
    match started {
        // Nobody joins it: it may take minutes.
        Ok(()) => drop(state.handles.remove(&worker)),
        Err(error) => {
            tracing::error!(%error, "a reader thread cannot be replaced");
            // So it is needed when it comes back.
            let now = queue.host.now();
            state.threads += usize::from(state.busy.keep(worker, now));
        }
    }
}

impl State {
    pub(super) fn next_worker(&mut self) -> usize {
        self.workers += 1;
        self.workers
    }
}

/// This thread, as the system knows it.
pub(super) fn own_thread() -> Option<Pid> {
    // PID/task/TID
    let path = std::fs::read_link("/proc/thread-self").ok()?;
    let number: i32 = path.file_name()?.to_str()?.parse().ok()?;
    Pid::from_raw(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_given_up_once_and_not_without_end() {
        let start = tokio::time::Instant::now().into_std();
        let at = |s| start + Duration::from_secs(s);
        let mut busy = Busy::default();
        for worker in 0..12 {
            busy.begins(worker, None, at(worker as u64 / 6 * 10));
        }
        let numbers = |lost: Vec<(usize, Option<Pid>)>| -> Vec<usize> {
            lost.into_iter().map(|(worker, _)| worker).collect()
        };
        assert!(busy.give_up(at(0)).is_empty());
        assert_eq!(numbers(busy.give_up(at(2))), [0, 1, 2, 3, 4, 5]);
        assert!(busy.give_up(at(3)).is_empty());
        assert_eq!(numbers(busy.give_up(at(20))), [6, 7]);
        // Nobody could take its place.
        assert!(busy.keep(0, at(20)));
        assert!(!busy.is_lost(0));
        assert_eq!(numbers(busy.give_up(at(21))), [0]);
        assert!(!busy.keep(77, at(20)));
        assert!(busy.is_back(3));
        assert!(!busy.is_back(3));
        assert!(!busy.is_back(9));
        assert_eq!(numbers(busy.give_up(at(21))), [8]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_knows_itself() {
        assert!(own_thread().is_some());
    }
}
