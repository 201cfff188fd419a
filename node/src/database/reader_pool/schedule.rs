//! [`Schedule`]: which read goes on next, which wait, and which have to end. Pure but for asking sinks whether they have room.
//!
//! No caller takes the pool away from the others: a receiver that is slow holds no thread and few connections, what may run for long leaves a
//! thread to the rest, and whoever has had a turn goes to the end of the queue. Called by the pool under its lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use halite_proto::v1;

use super::ReadJob;
use super::link::closing;
use super::read::Read;
use crate::database::reply::{Room, RoomWaiter};
use crate::database::{DatabaseId, failure};

/// A receiver that takes nothing for this long does not get the rest: the read holds a connection and a state of the database, which no
/// checkpoint can pass. Longer than any pause of a network that is not down.
pub(super) const STALL_MAX: Duration = Duration::from_secs(10);
/// Reads that may wait for their receivers, each with a connection and some hundred KiB of rows.
const PARKED_MAX: usize = 64;
/// The same for one database.
const PARKED_PER_DATABASE_MAX: usize = 32;
/// Reads that may run for longer than this never have all threads.
const LONG: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Schedule {
    jobs: VecDeque<ReadJob>,
    /// Jobs that may not begin yet: their receiver has no room, or as many long ones run as may.
    held: VecDeque<ReadJob>,
    parked: Vec<Parked>,
    /// A sink may have room, or a long read is over: what waits is looked at.
    look: bool,
    /// Parked reads and new ones take turns.
    parked_next: bool,
    long_running: usize,
    /// No later than this something that waits has to end.
    end_at: Option<Instant>,
}

struct Parked {
    read: Read,
    /// When it was put aside.
    since: Instant,
    /// It waits for nothing but a thread.
    ready: bool,
}

/// What the schedule has to know of the pool.
pub(super) struct Terms<'a> {
    pub(super) now: Instant,
    pub(super) threads: usize,
    /// Nothing ever waits: one thing happens at a time.
    pub(super) lockstep: bool,
    pub(super) waiter: &'a Arc<dyn RoomWaiter>,
}

/// What a thread does next.
pub(super) enum Work {
    Begin {
        job: ReadJob,
        long: bool,
    },
    GoOn(Box<Read>),
    /// To be ended with this error.
    End(Box<Read>, v1::Error),
}

impl Work {
    pub(super) fn database(&self) -> DatabaseId {
        match self {
            Work::Begin { job, .. } => job.database.spec().id,
            Work::GoOn(read) | Work::End(read, _) => read.job.database.spec().id,
        }
    }

    /// Until when it may run.
    pub(super) fn deadline(&self) -> Instant {
        match self {
            Work::Begin { job, .. } => job.deadline,
            Work::GoOn(read) | Work::End(read, _) => read.job.deadline,
        }
    }
}

impl Schedule {
    pub(super) fn add(&mut self, jobs: Vec<ReadJob>) {
        self.jobs.extend(jobs);
    }

    /// Reads that have not begun.
    pub(super) fn queued(&self) -> usize {
        self.jobs.len() + self.held.len()
    }

    /// Reads that wait for their receivers.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Somebody waits for a thread.
    pub(super) fn others_wait(&self) -> bool {
        !self.jobs.is_empty() || self.look || self.parked.iter().any(|parked| parked.ready)
    }

    /// What waits is to be looked at.
    pub(super) fn look(&mut self) {
        self.look = true;
    }

    /// The next thing to do. A read that comes out of here [`has_stopped`](Self::has_stopped) later.
    pub(super) fn next(&mut self, terms: &Terms<'_>) -> Option<Work> {
        if let Some(ended) = self.look_after_waiting(terms) {
            return Some(ended);
        }
        self.parked_next = !self.parked_next;
        if self.parked_next {
            self.next_parked(terms).or_else(|| self.next_job(terms))
        } else {
            self.next_job(terms).or_else(|| self.next_parked(terms))
        }
    }

    /// When something that waits has to end; for a thread that finds nothing to do.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.end_at
    }

    fn note_end(&mut self, at: Instant) {
        self.end_at = Some(self.end_at.map_or(at, |end_at| end_at.min(at)));
    }

    /// A read that was handed out does not run any more; whether others may begin now.
    pub(super) fn has_stopped(&mut self, long: bool) -> bool {
        self.long_running -= usize::from(long);
        self.look |= !self.held.is_empty();
        self.look
    }

    /// Puts a read aside: `ready` if it only made room for others. What has to end for it comes back.
    pub(super) fn park(&mut self, read: Read, ready: bool, now: Instant) -> Option<Work> {
        let database = read.job.database.spec().id;
        let full =
            self.parked.len() >= PARKED_MAX || self.of(database).count() >= PARKED_PER_DATABASE_MAX;
        let parked = Parked {
            read,
            since: now,
            ready,
        };
        self.note_end(parked.ends_at());
        self.parked.push(parked);
        // Its receiver may have made room between the question and now, when nobody saw that it waits.
        self.look |= !ready;
        if !full {
            return None;
        }
        let among_all = self.parked.len() > PARKED_MAX;
        // Whoever has waited longest takes least.
        let (at, _) = self
            .parked
            .iter()
            .enumerate()
            .filter(|(_, parked)| {
                !parked.ready && (among_all || parked.read.job.database.spec().id == database)
            })
            .min_by_key(|(_, parked)| parked.since)?;
        let error = failure::unavailable(
            format!(
                "too many reads wait for receivers that do not take their rows: max={PARKED_MAX} max_per_database={PARKED_PER_DATABASE_MAX}"
            ),
            Duration::from_millis(100),
        );
        Some(Work::End(Box::new(self.parked.remove(at).read), error))
    }

    /// Takes out everything of one database, or of all: jobs that have not begun, and reads that wait.
    pub(super) fn take_out(&mut self, database: Option<DatabaseId>) -> (Vec<ReadJob>, Vec<Read>) {
        let is = |id: DatabaseId| database.is_none_or(|database| database == id);
        let mut jobs = Vec::new();
        for queue in [&mut self.jobs, &mut self.held] {
            let (out, rest) = std::mem::take(queue)
                .into_iter()
                .partition(|job: &ReadJob| is(job.database.spec().id));
            *queue = rest;
            jobs.extend(out);
        }
        let (out, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|parked| is(parked.read.job.database.spec().id));
        self.parked = rest;
        // Others may have waited for them.
        self.look |= !self.held.is_empty();
        (jobs, out.into_iter().map(|parked| parked.read).collect())
    }

    fn of(&self, database: DatabaseId) -> impl Iterator<Item = &Parked> {
        self.parked
            .iter()
            .filter(move |parked| parked.read.job.database.spec().id == database)
    }

    /// Whatever has waited too long is ended; what may go on or begin by now becomes ready.
    fn look_after_waiting(&mut self, terms: &Terms<'_>) -> Option<Work> {
        let due = |at: Instant| at <= terms.now;
        if !self.look && !self.next_end().is_some_and(due) {
            return None;
        }
        self.look = true;
        for at in 0..self.parked.len() {
            let parked = &mut self.parked[at];
            let error = match parked.read.room(terms.waiter) {
                _ if parked.read.control().stopped() => closing(),
                Room::Gone => failure::deadline_exceeded("the receiver of the rows is gone"),
                Room::Some if parked.read.job.deadline > terms.now => {
                    parked.ready = true;
                    continue;
                }
                _ if due(parked.read.job.deadline) => failure::deadline_exceeded(
                    "the read took longer than its deadline allows, the time to take its rows included",
                ),
                _ if due(parked.ends_at()) => stalled(),
                _ => continue,
            };
            // There may be more of them: the next one to come looks again.
            return Some(Work::End(Box::new(self.parked.remove(at).read), error));
        }
        self.look = false;
        self.end_at = self.parked.iter().map(Parked::ends_at).min();
        // In the order in which they came.
        while let Some(job) = self.held.pop_back() {
            self.jobs.push_front(job);
        }
        None
    }

    fn next_parked(&mut self, terms: &Terms<'_>) -> Option<Work> {
        let long_may_run = self.long_may_run(terms);
        let at = self
            .parked
            .iter()
            .position(|parked| parked.ready && (long_may_run || !parked.read.long))?;
        let read = self.parked.remove(at).read;
        self.long_running += usize::from(read.long);
        Some(Work::GoOn(Box::new(read)))
    }

    fn next_job(&mut self, terms: &Terms<'_>) -> Option<Work> {
        while let Some(job) = self.jobs.pop_front() {
            let long = job.deadline.saturating_duration_since(terms.now) > LONG;
            let over = job.deadline <= terms.now;
            if terms.lockstep || over || self.may_begin(&job, long, terms) {
                self.long_running += usize::from(long);
                return Some(Work::Begin { job, long });
            }
            self.note_end(job.deadline);
            self.held.push_back(job);
        }
        None
    }

    fn may_begin(&self, job: &ReadJob, long: bool, terms: &Terms<'_>) -> bool {
        if long && !self.long_may_run(terms) {
            return false;
        }
        // One read after the other fills a receiver that is slow.
        let receiver = job.reply.sink.receiver();
        let waits = |parked: &Parked| parked.read.job.reply.sink.receiver() == receiver;
        !self.parked.iter().any(waits) && job.reply.sink.room(terms.waiter) != Room::None
    }

    fn long_may_run(&self, terms: &Terms<'_>) -> bool {
        self.long_running == 0 || self.long_running + 1 < terms.threads
    }
}

impl Parked {
    fn ends_at(&self) -> Instant {
        if self.ready {
            self.read.job.deadline
        } else {
            self.read.job.deadline.min(self.since + STALL_MAX)
        }
    }
}

fn stalled() -> v1::Error {
    failure::deadline_exceeded(format!(
        "the read was ended because its receiver took no rows: a read holds a state of the database only as long as its rows are taken stall_max_ms={}",
        STALL_MAX.as_millis()
    ))
}
