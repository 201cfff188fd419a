//! [`Inbox`]: everything that reaches a lane, under one mutex.
//!
//! Three queues with one order of precedence: what the log decides (entries, open, close, install) comes first, then the node's own tasks, then
//! jobs. The gate waits on the same queue as the idle lane does, so the outcome of a commit is decided by the order in which entries and
//! closings were put here, and nowhere else.

mod ordered_queue;
mod seal;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use halite_proto::v1;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::message::{Job, Move, Ordered, Step, Task, Work};
use crate::database::transaction::TransactionId;
use crate::database::window::Waiter;
use crate::database::{Host, WriteJob, failure};
use ordered_queue::OrderedQueue;
use seal::Seal;
pub use seal::Sealed;

struct State {
    ordered: OrderedQueue,
    tasks: VecDeque<Task>,
    jobs: VecDeque<Job>,
    steps: VecDeque<Step>,
    transaction: Option<TransactionId>,
    /// Begun or queued transactions whose caller left before the lane came to them.
    abandoned: Vec<TransactionId>,
    /// Why the transaction before ended, for steps that come too late.
    ended: Option<(TransactionId, v1::Error)>,
    /// `None` while jobs are taken, otherwise what they are told.
    closed: Option<v1::Error>,
    /// The lane has closed itself.
    given_up: bool,
    /// Jobs are refused beside that: the database is about to be dropped.
    seal: Option<Seal>,
    shutdown: bool,
    parked: bool,
    /// The lane's own thread, once it runs: the one that must not wait for itself.
    lane: Option<ThreadId>,
    /// The lane wants to be woken when this many jobs wait; elsewhere than in [`Inbox::next`] it does not care for jobs.
    jobs_awaited: usize,
    ended_thread: bool,
}

/// How many jobs are worth waiting for, and until when.
#[derive(Clone, Copy, Debug)]
pub(in crate::database) struct Gather {
    pub(in crate::database) jobs: usize,
    pub(in crate::database) until: Instant,
}

/// How often a waiting lane looks for queued jobs whose time has run out.
const EXPIRY_PAUSE: Duration = Duration::from_millis(50);

/// The lock was let go and taken again.
struct Relocked;

/// Abandoned transactions remembered until the lane comes to them.
const ABANDONED_MAX: usize = 1024;

/// See the module.
pub(in crate::database) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
    parked: Condvar,
    /// SQL that is running is to be interrupted: leadership is lost or the database closes.
    interrupt: AtomicBool,
    transactions: AtomicU64,
    seals: AtomicU64,
    jobs_max: usize,
    host: Arc<dyn Host>,
}

impl Inbox {
    pub(in crate::database) fn new(jobs_max: usize, host: Arc<dyn Host>) -> Self {
        Inbox {
            state: Mutex::new(State {
                ordered: OrderedQueue::default(),
                tasks: VecDeque::new(),
                jobs: VecDeque::new(),
                steps: VecDeque::new(),
                transaction: None,
                abandoned: Vec::new(),
                ended: None,
                closed: Some(failure::not_primary(None)),
                given_up: false,
                seal: None,
                shutdown: false,
                parked: false,
                lane: None,
                jobs_awaited: usize::MAX,
                ended_thread: false,
            }),
            wake: Condvar::new(),
            parked: Condvar::new(),
            interrupt: AtomicBool::new(false),
            transactions: AtomicU64::new(0),
            seals: AtomicU64::new(0),
            jobs_max,
            host,
        }
    }

    // ---- the outside ----

    pub(in crate::database) fn now(&self) -> Instant {
        self.host.now()
    }

    pub(in crate::database) fn push_ordered(&self, item: Ordered) {
        let mut state = self.state.lock();
        if state.shutdown {
            return; // dropping the item closes its channel
        }
        if let Ordered::Open(leadership) = item {
            state.closed = None;
            state.given_up = false;
            state.seal.take_if(|seal| !seal.holds_under(leadership));
            self.interrupt.store(false, Ordering::Relaxed);
        }
        state.ordered.push(item);
        self.notify(state);
    }

    /// Shuts the lane: queued jobs are answered with `error` now, the rest when the lane comes to it.
    pub(in crate::database) fn push_close(&self, error: v1::Error) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        state.closed = Some(error.clone());
        self.interrupt.store(true, Ordering::Relaxed);
        let jobs = std::mem::take(&mut state.jobs);
        if !state.shutdown {
            state.ordered.push(Ordered::Close { done });
        }
        self.notify(state);
        jobs.into_iter().for_each(|job| job.refuse(error.clone()));
        receiver
    }

    pub(in crate::database) fn push_task(&self, task: Task) {
        let mut state = self.state.lock();
        if state.shutdown {
            return; // dropping the task closes its channel
        }
        state.tasks.push_back(task);
        self.notify(state);
    }

    pub(in crate::database) fn submit(&self, jobs: Vec<Job>) {
        let mut state = self.state.lock();
        let refusal = match state.refusal() {
            Some(error) => Some(error),
            None if state.jobs.len() + jobs.len() > self.jobs_max => Some(failure::unavailable(
                "too many writes are waiting",
                Duration::from_millis(100),
            )),
            None => None,
        };
        match refusal {
            Some(error) => {
                drop(state);
                jobs.into_iter().for_each(|job| job.refuse(error.clone()));
            }
            None => {
                state.jobs.extend(jobs);
                if state.jobs.len() >= state.jobs_awaited {
                    self.notify(state);
                }
            }
        }
    }

    pub(in crate::database) fn next_transaction_id(&self) -> TransactionId {
        self.transactions.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(in crate::database) fn push_step(&self, id: TransactionId, step: Step) {
        let mut state = self.state.lock();
        if state.transaction == Some(id) {
            state.steps.push_back(step);
            self.notify(state);
            return;
        }
        let is_over = matches!(&state.ended, Some((ended, _)) if *ended == id);
        if !is_over && matches!(step, Step::Rollback { reply: None }) {
            // Its caller left before the lane came to it (or long after; then this is only noise, and bounded).
            if state.abandoned.len() >= ABANDONED_MAX {
                state.abandoned.remove(0);
            }
            state.abandoned.push(id);
        }
        let error = match &state.ended {
            Some((ended, error)) if *ended == id => error.clone(),
            _ => failure::invalid("the transaction is over"),
        };
        drop(state);
        step.refuse(error);
    }

    /// Ends the lane's thread: everything waiting is dropped or refused.
    pub(in crate::database) fn shut_down(&self) {
        let error =
            failure::unavailable("the database is being closed", Duration::from_millis(200));
        let mut state = self.state.lock();
        state.shutdown = true;
        state.closed = Some(error.clone());
        self.interrupt.store(true, Ordering::Relaxed);
        let jobs = std::mem::take(&mut state.jobs);
        state.ordered.clear();
        state.tasks.clear();
        self.notify(state);
        jobs.into_iter().for_each(|job| job.refuse(error.clone()));
    }

    /// Makes the lane look at its deadlines again.
    pub(in crate::database) fn wake(&self) {
        self.notify(self.state.lock());
    }

    /// Waits until the lane has nothing to do but wait: for work, for a step, or at the gate.
    pub(in crate::database) fn settle(&self) {
        let mut state = self.state.lock();
        while !state.parked && !state.ended_thread {
            self.parked.wait(&mut state);
        }
    }

    /// The lane's thread is over: nobody has to wait for it.
    pub(in crate::database) fn lane_ended(&self) {
        self.shut_down();
        let mut state = self.state.lock();
        state.ended_thread = true;
        let transaction = state.transaction.take();
        let steps = std::mem::take(&mut state.steps);
        let error = state
            .closed
            .clone()
            .unwrap_or_else(|| failure::not_primary(None));
        state.ended = transaction.map(|id| (id, error.clone()));
        drop(state);
        self.parked.notify_all();
        steps
            .into_iter()
            .for_each(|step| step.refuse(error.clone()));
    }

    pub(in crate::database) fn queued_jobs(&self) -> usize {
        self.state.lock().jobs.len()
    }

    // ---- the lane's thread ----

    /// The calling thread is the lane's.
    pub(in crate::database) fn lane_began(&self) {
        self.state.lock().lane = Some(std::thread::current().id());
    }

    /// SQL should stop.
    pub(in crate::database) fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// The next thing to do; [`Work::Idle`] at `idle_at` at the latest. At most `jobs_max` jobs.
    ///
    /// With `gather`, fewer jobs than it names are left waiting until its time is over.
    pub(in crate::database) fn next(
        &self,
        jobs_max: usize,
        idle_at: Option<Instant>,
        gather: Option<Gather>,
    ) -> Work {
        let mut state = self.state.lock();
        loop {
            if state.shutdown {
                return Work::Shutdown;
            }
            if let Some(item) = state.ordered.pop() {
                return Work::Ordered(item);
            }
            if let Some(task) = state.tasks.pop_front() {
                return Work::Task(task);
            }
            if let Some(gather) = gather
                && self.gather(&mut state, gather, jobs_max)
            {
                continue;
            }
            let jobs = take_jobs(&mut state, jobs_max);
            if !jobs.is_empty() {
                return Work::Jobs(jobs);
            }
            if idle_at.is_some_and(|at| self.host.now() >= at) {
                return Work::Idle;
            }
            state.jobs_awaited = 1;
            self.park(&mut state, idle_at);
            state.jobs_awaited = usize::MAX;
        }
    }

    /// Waits once for more jobs; false if there are enough, or the time is over. Not parked: whoever settles waits for the outcome.
    fn gather(&self, state: &mut MutexGuard<'_, State>, gather: Gather, jobs_max: usize) -> bool {
        let wanted = gather.jobs.min(jobs_max);
        let wait = gather.until.saturating_duration_since(self.host.now());
        if state.jobs.len() >= wanted || wait.is_zero() {
            return false;
        }
        state.jobs_awaited = wanted;
        self.wake.wait_for(state, wait);
        state.jobs_awaited = usize::MAX;
        true
    }

    /// Puts back jobs that a batch had no time for.
    pub(in crate::database) fn put_back(&self, jobs: Vec<WriteJob>) {
        let mut state = self.state.lock();
        if let Some(error) = state.refusal() {
            drop(state);
            jobs.into_iter()
                .for_each(|job| job.reply.send(Err(error.clone())));
            return;
        }
        for job in jobs.into_iter().rev() {
            state.jobs.push_front(Job::Write(job));
        }
    }

    /// Why jobs are refused; `None` while they are taken.
    pub(in crate::database) fn closed(&self) -> Option<v1::Error> {
        self.state.lock().refusal()
    }

    /// Shuts the lane from within: the database cannot go on as a primary.
    pub(in crate::database) fn close_from_within(&self, error: v1::Error) {
        let mut state = self.state.lock();
        state.closed = Some(error.clone());
        state.given_up = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        jobs.into_iter().for_each(|job| job.refuse(error.clone()));
    }

    /// The lane was shut from within and was not opened since.
    pub(in crate::database) fn given_up(&self) -> bool {
        self.state.lock().given_up
    }

    /// Waits until `decide`, shown what the log and the role say in order, returns something. It may take items off the front.
    /// `None` on shutdown. Jobs whose time runs out meanwhile are answered.
    pub(in crate::database) fn wait_ordered<T>(
        &self,
        mut decide: impl FnMut(&mut VecDeque<Ordered>) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if state.shutdown {
                return None;
            }
            if let Some(decision) = state.ordered.change(&mut decide) {
                return Some(decision);
            }
            if let Ok(next_deadline) = self.expire_jobs(&mut state) {
                // Jobs that come meanwhile do not wake the lane, but their deadlines count.
                let look = self.host.now() + EXPIRY_PAUSE;
                self.park(
                    &mut state,
                    Some(next_deadline.map_or(look, |at| at.min(look))),
                );
            }
        }
    }

    /// Calls `then` if no entry waits to be applied; none is handed over meanwhile.
    pub(in crate::database) fn if_nothing_to_apply(&self, then: impl FnOnce()) {
        let state = self.state.lock();
        if !state.ordered.has_entries() {
            then();
        }
    }

    /// Something from the log or the role is waiting, or the database closes.
    pub(in crate::database) fn ordered_waiting(&self) -> bool {
        let state = self.state.lock();
        state.shutdown || !state.ordered.is_empty()
    }

    /// An interactive transaction has the lane; false if its caller is gone already.
    pub(in crate::database) fn start_transaction(&self, id: TransactionId) -> bool {
        let mut state = self.state.lock();
        if let Some(at) = state
            .abandoned
            .iter()
            .position(|abandoned| *abandoned == id)
        {
            state.abandoned.swap_remove(at);
            return false;
        }
        state.transaction = Some(id);
        true
    }

    /// The lane is free again; steps still waiting, and later ones, are told `error`.
    pub(in crate::database) fn end_transaction(&self, id: TransactionId, error: v1::Error) {
        let mut state = self.state.lock();
        state.transaction = None;
        let steps = std::mem::take(&mut state.steps);
        state.ended = Some((id, error.clone()));
        drop(state);
        steps
            .into_iter()
            .for_each(|step| step.refuse(error.clone()));
    }

    /// Ends the transaction that has the lane, if one has.
    pub(in crate::database) fn break_transaction(&self, error: v1::Error) {
        let transaction = self.state.lock().transaction;
        if let Some(id) = transaction {
            self.end_transaction(id, error);
        }
    }

    pub(in crate::database) fn next_move(&self, deadline: Instant) -> Move {
        let mut state = self.state.lock();
        loop {
            if state.shutdown {
                return Move::Shutdown;
            }
            if !state.ordered.is_empty() {
                return Move::Ordered;
            }
            if self.host.now() >= deadline {
                return Move::TimedOut;
            }
            if let Some(step) = state.steps.pop_front() {
                return Move::Step(step);
            }
            if let Ok(expiry) = self.expire_jobs(&mut state) {
                self.park(
                    &mut state,
                    Some(expiry.map_or(deadline, |at| at.min(deadline))),
                );
            }
        }
    }

    /// Answers queued jobs whose time has run out; returns when to look again. `Err` if the lock was let go meanwhile, so that all has to be
    /// looked at anew.
    fn expire_jobs(&self, state: &mut MutexGuard<'_, State>) -> Result<Option<Instant>, Relocked> {
        let now = self.host.now();
        let expired = |job: &Job| job.deadline().is_some_and(|at| at <= now);
        if state.jobs.iter().any(expired) {
            let (expired, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut state.jobs)
                .into_iter()
                .partition(expired);
            state.jobs = waiting.into();
            MutexGuard::unlocked(state, || {
                for job in expired {
                    job.refuse(failure::waited_too_long());
                }
            });
            return Err(Relocked);
        }
        let next = state.jobs.iter().filter_map(Job::deadline).min();
        // Not for every single job: a look each 50 ms is enough.
        Ok(next.map(|at| at.max(now + EXPIRY_PAUSE)))
    }

    fn park(&self, state: &mut MutexGuard<'_, State>, until: Option<Instant>) {
        state.parked = true;
        self.parked.notify_all();
        match until {
            // A clock that stands still while this thread waits would never come: see `Host::lockstep`.
            Some(until) if !self.host.lockstep() => {
                let wait = until.saturating_duration_since(self.host.now());
                self.wake.wait_for(state, wait);
            }
            _ => self.wake.wait(state),
        }
        state.parked = false;
    }

    fn notify(&self, mut state: MutexGuard<'_, State>) {
        // Whoever settles from here on waits for the lane to have seen this.
        state.parked = false;
        let own = state.lane == Some(std::thread::current().id());
        drop(state);
        self.wake.notify_one();
        if self.host.lockstep() && !own {
            self.settle();
        }
    }
}

impl State {
    /// Why jobs are not taken; `None` while they are.
    fn refusal(&self) -> Option<v1::Error> {
        let sealed = || self.seal.as_ref().map(|_| failure::being_dropped());
        self.closed.clone().or_else(sealed)
    }
}

impl Waiter for Inbox {
    fn wake(&self) {
        Inbox::wake(self);
    }
}

/// Write jobs from the front up to the first of another kind, or that one alone.
fn take_jobs(state: &mut State, jobs_max: usize) -> Vec<Job> {
    let writes = state
        .jobs
        .iter()
        .take(jobs_max)
        .take_while(|job| matches!(job, Job::Write(_)))
        .count();
    let len = if writes == 0 {
        state.jobs.len().min(1)
    } else {
        writes
    };
    state.jobs.drain(..len).collect()
}
