//! [`ReaderPool`]: the threads that run read-only statements of all databases of a node.
//!
//! Each read has a read-only connection with its statement cache for itself; connections are kept for the next one. Large results go out in pieces: a read whose receiver has
//! no room for the next one is put aside with its connection, holds no thread, and is ended when that takes too long. Never writes: a statement
//! that is not read-only comes back as such, for the caller to hand it to the primary.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use halite_proto::v1;
use parking_lot::{Condvar, Mutex};

use super::guard::Terms;
use super::reply::RoomWaiter;
use super::{Database, DatabaseId, Host, ReplyTo, failure};
use link::{Control, Link, Links, closing};
use lost::Busy;
use read::Read;
use schedule::{Schedule, Work};
use worker::Worker;

mod link;
mod lost;
mod read;
mod schedule;
mod worker;

/// Reads that may wait for a thread; more are refused as unavailable.
const QUEUED_MAX: usize = 65_536;
/// How long the threads are waited for at the end.
const END_MAX: Duration = Duration::from_secs(5);
/// How long the pool is waited for to let go of a database. What runs is interrupted at once; what is left then is one step of SQLite, such as
/// a sort, that cannot be.
const FORGET_MAX: Duration = Duration::from_secs(5);

/// Statements to be run on one snapshot of this node's file.
pub struct ReadJob {
    /// Of which database.
    pub database: Arc<Database>,
    /// One or more.
    pub statements: Vec<v1::Statement>,
    /// Until when it may run, waiting for a slow receiver included.
    pub deadline: Instant,
    /// Where the answer goes; pieces of a large result in order, the last one without `more`.
    pub reply: ReplyTo,
}

impl ReadJob {
    fn terms(&self) -> Terms {
        Terms::of_call(self.deadline, &self.reply)
    }
}

/// See the module.
pub struct ReaderPool {
    queue: Arc<Queue>,
    /// Looks after the threads; none in lockstep.
    watcher: Mutex<Option<JoinHandle<()>>>,
}

struct Queue {
    host: Arc<dyn Host>,
    state: Mutex<State>,
    wake: Condvar,
    forgotten: Condvar,
    /// Wakes whoever looks after the threads.
    watch: Condvar,
    /// No thread has anything to do: what a host in lockstep waits for.
    settled: Condvar,
    lockstep: bool,
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    /// Threads that run and were not given up, and of them the ones that wait for work.
    threads: usize,
    idle: usize,
    /// Those that are waited for in the end, by their numbers, and the last number.
    handles: BTreeMap<usize, JoinHandle<()>>,
    workers: usize,
    busy: Busy,
    /// Connections that nobody uses.
    links: Links,
    /// Reads that threads are at, by database: each has a connection, or opens one.
    running: BTreeMap<DatabaseId, usize>,
    /// The hold on each connection that is open, by database.
    controls: BTreeMap<DatabaseId, Vec<Weak<Control>>>,
    /// Databases that are being forgotten, and how many wait for it.
    forget: BTreeMap<DatabaseId, usize>,
    stopped: bool,
}

impl State {
    /// What is open of a database, or of all, and may be closed at once. What runs ends soon.
    fn stop(&mut self, database: Option<DatabaseId>) -> Closing {
        let stopped = match database {
            Some(database) => self.controls.remove(&database).unwrap_or_default(),
            None => std::mem::take(&mut self.controls)
                .into_values()
                .flatten()
                .collect(),
        };
        for control in stopped.iter().filter_map(Weak::upgrade) {
            control.stop();
        }
        let (jobs, reads) = self.schedule.take_out(database);
        Closing {
            jobs,
            reads,
            _links: self.links.take_all(database),
        }
    }
}

/// What goes away with a database, or with the pool.
struct Closing {
    jobs: Vec<ReadJob>,
    reads: Vec<Read>,
    _links: Vec<Link>,
}

impl Closing {
    /// Closes the connections and answers everybody. Not under the lock.
    fn refuse(self, error: &v1::Error) {
        let begun = self.reads.into_iter().map(|read| read.job.reply.clone());
        let replies = self.jobs.into_iter().map(|job| job.reply).chain(begun);
        for reply in replies {
            reply.send(Err(error.clone()));
        }
    }
}

impl ReaderPool {
    /// Starts `threads` threads, at least one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(threads: usize, host: Arc<dyn Host>) -> io::Result<Arc<ReaderPool>> {
        let queue = Arc::new(Queue {
            host: host.clone(),
            state: Mutex::new(State::default()),
            wake: Condvar::new(),
            forgotten: Condvar::new(),
            watch: Condvar::new(),
            settled: Condvar::new(),
            lockstep: host.lockstep(),
        });
        let pool = ReaderPool {
            queue: queue.clone(),
            watcher: Mutex::default(),
        };
        for _ in 0..threads.max(1) {
            let number = queue.state.lock().next_worker();
            if let Err(error) = queue.start_worker(number) {
                pool.shutdown();
                return Err(error);
            }
        }
        if !queue.lockstep {
            let watcher = host.spawn(
                "reader-watch".to_owned(),
                Box::new(move || lost::watch(&queue)),
            );
            match watcher {
                Ok(thread) => *pool.watcher.lock() = Some(thread),
                Err(error) => {
                    pool.shutdown();
                    return Err(error);
                }
            }
        }
        Ok(Arc::new(pool))
    }

    /// Hands over jobs. Never blocks; a job that finds the queue full is answered as unavailable. A statement that writes is answered with
    /// [`is_not_read_only`].
    pub fn run(&self, jobs: Vec<ReadJob>) {
        let mut state = self.queue.state.lock();
        let refusal = if state.stopped {
            Some(failure::unavailable(
                "the node is being closed",
                Duration::from_millis(200),
            ))
        } else if state.schedule.queued() + jobs.len() > QUEUED_MAX {
            Some(failure::unavailable(
                "too many reads are waiting",
                Duration::from_millis(100),
            ))
        } else {
            None
        };
        if let Some(error) = refusal {
            drop(state);
            jobs.into_iter()
                .for_each(|job| job.reply.send(Err(error.clone())));
            return;
        }
        let wake = jobs.len().min(state.idle);
        state.schedule.add(jobs);
        drop(state);
        for _ in 0..wake {
            self.queue.wake.notify_one();
        }
        if self.queue.lockstep {
            self.queue.settle();
        }
    }

    /// Reads waiting for a thread.
    pub fn queued(&self) -> usize {
        self.queue.state.lock().schedule.queued()
    }

    /// Reads put aside because their receivers are slow.
    pub fn parked(&self) -> usize {
        self.queue.state.lock().schedule.parked()
    }

    /// Closes every connection to a database: before the database is shut down or dropped. Reads that run are interrupted, those that wait are
    /// answered. Returns when all is closed, or after some seconds: then false, and what is left is closed as soon as SQLite lets go of it. Jobs
    /// for it that come later open new connections, so nobody may hand over any. Blocking.
    #[must_use = "somebody may still hold the file"]
    pub fn forget(&self, database: DatabaseId) -> bool {
        let deadline = self.queue.host.now() + FORGET_MAX;
        let mut state = self.queue.state.lock();
        *state.forget.entry(database).or_default() += 1;
        let waiting = state.stop(Some(database));
        drop(state);
        self.queue.wake.notify_one();
        waiting.refuse(&closing());
        let mut state = self.queue.state.lock();
        while state.running.contains_key(&database) {
            if self.queue.lockstep {
                self.queue.forgotten.wait(&mut state);
            } else {
                let waited = self.queue.forgotten.wait_until(&mut state, deadline);
                if waited.timed_out() {
                    break;
                }
            }
        }
        if let Some(waiting) = state.forget.get_mut(&database) {
            *waiting -= 1;
        }
        state.forget.retain(|_, waiting| *waiting > 0);
        !state.running.contains_key(&database)
    }

    /// Stops the threads and waits for them; what runs is interrupted, and what still waits is answered as unavailable. Blocking.
    pub fn shutdown(&self) {
        let mut state = self.queue.state.lock();
        state.stopped = true;
        let waiting = state.stop(None);
        self.queue.wake.notify_all();
        self.queue.watch.notify_all();
        drop(state);
        let error = failure::unavailable("the node is being closed", Duration::from_millis(200));
        waiting.refuse(&error);
        // First: it may still start others.
        if let Some(watcher) = self.watcher.lock().take() {
            join(watcher);
        }
        let all = self.queue.all_left();
        let workers = std::mem::take(&mut self.queue.state.lock().handles);
        for worker in workers.into_values() {
            if all || worker.is_finished() {
                join(worker);
            } else {
                tracing::error!("left behind, since it does not end: a reader thread");
            }
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a reader thread has panicked");
    }
}

impl Drop for ReaderPool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl RoomWaiter for Queue {
    fn wake(&self) {
        self.state.lock().schedule.look();
        self.wake.notify_one();
    }
}

impl Queue {
    fn start_worker(self: &Arc<Self>, number: usize) -> io::Result<()> {
        self.state.lock().threads += 1;
        let queue = self.clone();
        let spawned = self.host.spawn(
            format!("reader-{number}"),
            Box::new(move || Worker::new(number, queue).run()),
        );
        let mut state = self.state.lock();
        match spawned {
            Ok(thread) => {
                state.handles.insert(number, thread);
                Ok(())
            }
            Err(error) => {
                state.threads -= 1;
                Err(error)
            }
        }
    }

    /// What a thread does next, with a connection for a read that begins, if there is one. Without `wait`, [`Next::Nothing`] if there is
    /// nothing. What comes out [`has_stopped`](Self::has_stopped) or is [`park`](Self::park)ed later.
    fn next(&self, worker: &Worker, wait: bool) -> Next {
        let mut state = self.state.lock();
        if state.busy.is_lost(worker.number) {
            // Another has its place.
            return Next::Stop;
        }
        state.busy.is_back(worker.number);
        loop {
            let terms = schedule::Terms {
                now: self.host.now(),
                threads: state.threads,
                lockstep: self.lockstep,
                waiter: &worker.waiter,
            };
            if let Some(work) = state.schedule.next(&terms) {
                let database = work.database();
                *state.running.entry(database).or_default() += 1;
                let until = work.deadline().max(self.host.now());
                state.busy.begins(worker.number, worker.thread, until);
                let begins = matches!(work, Work::Begin { .. });
                let link = begins.then(|| state.links.take(database)).flatten();
                return Next::Work(work, link);
            }
            if state.stopped {
                return Next::Stop;
            }
            if !wait {
                return Next::Nothing;
            }
            let unused = match self.lockstep {
                true => Vec::new(),
                false => state.links.unused(self.host.now()),
            };
            if !unused.is_empty() {
                // Closed by this thread, which nobody needs, and not under the lock.
                drop(state);
                drop(unused);
                state = self.state.lock();
                continue;
            }
            state.idle += 1;
            self.settled.notify_all();
            let ends = [state.schedule.next_end(), state.links.next_unused()];
            match ends.into_iter().flatten().min() {
                Some(at) if !self.lockstep => {
                    self.wake.wait_until(&mut state, at);
                }
                _ => self.wake.wait(&mut state),
            }
            state.idle -= 1;
        }
    }

    /// A read that a thread was at is put aside. What has to end for it comes back, and is what the thread is at then.
    ///
    /// # Errors
    /// The read itself, if its database goes away.
    fn park(&self, read: Read, ready: bool) -> Result<Option<Work>, Box<Read>> {
        let (database, long) = (read.job.database.spec().id, read.long);
        let now = self.host.now();
        let mut state = self.state.lock();
        if state.stopped || read.control().stopped() {
            return Err(Box::new(read));
        }
        let ended = state.schedule.park(read, ready, now);
        if let Some(ended) = &ended {
            *state.running.entry(ended.database()).or_default() += 1;
        }
        self.stopped(&mut state, database, long);
        drop(state);
        // A thread that is idle has an earlier end to wake up for.
        self.wake.notify_one();
        Ok(ended)
    }

    /// A thread is done with a read; its connection, if there still is one, is kept or closed.
    fn has_stopped(&self, database: DatabaseId, long: bool, mut link: Option<Link>) {
        loop {
            let mut state = self.state.lock();
            let closes = |link: &Link| link.control.stopped();
            if link.as_ref().is_some_and(closes) || state.stopped && link.is_some() {
                // Closed before anybody is told that it is.
                drop(state);
                link = None;
                continue;
            }
            let surplus = link.and_then(|link| state.links.keep(database, link, self.host.now()));
            self.stopped(&mut state, database, long);
            drop(state);
            drop(surplus);
            return;
        }
    }

    fn stopped(&self, state: &mut State, database: DatabaseId, long: bool) {
        if let Some(running) = state.running.get_mut(&database) {
            *running -= 1;
            if *running == 0 {
                state.running.remove(&database);
                self.forgotten.notify_all();
            }
        }
        if state.schedule.has_stopped(long) {
            self.wake.notify_one();
        }
    }

    fn others_wait(&self) -> bool {
        self.state.lock().schedule.others_wait()
    }

    /// A connection was opened.
    fn register(&self, database: DatabaseId, control: &Arc<Control>) {
        let mut state = self.state.lock();
        if state.stopped || state.forget.contains_key(&database) {
            return control.stop();
        }
        let controls = state.controls.entry(database).or_default();
        controls.retain(|control| control.strong_count() > 0);
        controls.push(Arc::downgrade(control));
    }

    fn settle(&self) {
        let mut state = self.state.lock();
        while !(state.schedule.queued() == 0 && state.idle == state.threads) {
            self.settled.wait(&mut state);
        }
    }

    /// Waits until all threads are over; false if some are at something that nothing interrupts.
    fn all_left(&self) -> bool {
        let deadline = self.host.now() + END_MAX;
        let mut state = self.state.lock();
        while state.threads > 0 {
            if self.lockstep {
                self.settled.wait(&mut state);
            } else if self.settled.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.threads == 0
    }

    /// A thread is over.
    fn left(&self, worker: usize) {
        let mut state = self.state.lock();
        // One that was given up does not count any more.
        if !state.busy.is_back(worker) {
            state.threads -= 1;
        }
        drop(state);
        self.settled.notify_all();
    }
}

enum Next {
    Work(Work, Option<Link>),
    Nothing,
    Stop,
}

/// The error says that a statement is not read-only and belongs to the primary.
pub fn is_not_read_only(error: &v1::Error) -> bool {
    error.code() == v1::ErrorCode::NotPrimary && error.sqlite_code == rusqlite::ffi::SQLITE_READONLY
}
