//! [`ReaderPool`]: the threads that run read-only statements of all databases of a node.
//!
//! Each thread keeps one read-only connection with its statement cache per database. Many jobs per hand-over, large results in pieces with
//! back-pressure. Never writes: a statement that is not read-only comes back as such, for the caller to hand it to the primary.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use halite_proto::v1;
use parking_lot::{Condvar, Mutex};

use super::{Database, DatabaseId, Host, ReplyTo, failure};

mod worker;

/// Reads that may wait for a thread; more are refused as unavailable.
const QUEUED_MAX: usize = 65_536;
/// Jobs that one thread takes at a time at most.
const HANDFUL_MAX: usize = 64;

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

/// See the module.
pub struct ReaderPool {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    forgotten: Condvar,
    /// No thread has anything to do: what a host in lockstep waits for.
    settled: Condvar,
    lockstep: bool,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<ReadJob>,
    /// Threads that run, and of them the ones that wait for work.
    threads: usize,
    idle: usize,
    /// Databases whose connections are to be closed, and how many threads have yet to do so.
    forget: BTreeMap<DatabaseId, Forget>,
    next_forget: u64,
    stopped: bool,
}

struct Forget {
    number: u64,
    threads_left: usize,
}

impl ReaderPool {
    /// Starts `threads` threads, at least one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(threads: usize, host: Arc<dyn Host>) -> io::Result<Arc<ReaderPool>> {
        let queue = Arc::new(Queue {
            state: Mutex::new(State::default()),
            wake: Condvar::new(),
            forgotten: Condvar::new(),
            settled: Condvar::new(),
            lockstep: host.lockstep(),
        });
        let pool = ReaderPool {
            queue: queue.clone(),
            threads: Mutex::new(Vec::new()),
        };
        for number in 0..threads.max(1) {
            let (queue, worker_host) = (queue.clone(), host.clone());
            queue.state.lock().threads += 1;
            let spawned = host.spawn(
                format!("reader-{number}"),
                Box::new({
                    let queue = queue.clone();
                    move || worker::Worker::new(queue, worker_host).run()
                }),
            );
            match spawned {
                Ok(thread) => pool.threads.lock().push(thread),
                Err(error) => {
                    queue.state.lock().threads -= 1;
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
        } else if state.jobs.len() + jobs.len() > QUEUED_MAX {
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
        state.jobs.extend(jobs);
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
        self.queue.state.lock().jobs.len()
    }

    /// Closes every connection to a database and waits until that is done: before the database is shut down or dropped. Jobs for it that come
    /// later open new ones, so nobody may hand over any. Blocking.
    pub fn forget(&self, database: DatabaseId) {
        let mut state = self.queue.state.lock();
        let number = state.next_forget;
        let threads_left = state.threads;
        state.next_forget += 1;
        state.forget.insert(
            database,
            Forget {
                number,
                threads_left,
            },
        );
        self.queue.wake.notify_all();
        while state
            .forget
            .get(&database)
            .is_some_and(|forget| forget.number == number && forget.threads_left > 0)
        {
            self.queue.forgotten.wait(&mut state);
        }
        if state
            .forget
            .get(&database)
            .is_some_and(|forget| forget.number == number)
        {
            state.forget.remove(&database);
        }
    }

    /// Stops the threads and waits for them; what still waits is answered as unavailable. Blocking.
    pub fn shutdown(&self) {
        let mut state = self.queue.state.lock();
        state.stopped = true;
        let jobs = std::mem::take(&mut state.jobs);
        self.queue.wake.notify_all();
        drop(state);
        let error = failure::unavailable("the node is being closed", Duration::from_millis(200));
        jobs.into_iter()
            .for_each(|job| job.reply.send(Err(error.clone())));
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a reader thread has panicked");
            }
        }
    }
}

impl Drop for ReaderPool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Queue {
    /// The next jobs for a thread, or databases it has to let go first (with the number of the request). `None` when the pool stops.
    fn next(&self, forgotten_up_to: u64) -> Option<Next> {
        let mut state = self.state.lock();
        loop {
            let forget: Vec<DatabaseId> = state
                .forget
                .iter()
                .filter(|(_, forget)| forget.number >= forgotten_up_to)
                .map(|(database, _)| *database)
                .collect();
            if !forget.is_empty() {
                return Some(Next::Forget {
                    databases: forget,
                    up_to: state.next_forget,
                });
            }
            if !state.jobs.is_empty() {
                // A fair share, so that the others have something to do as well.
                let share = state
                    .jobs
                    .len()
                    .div_ceil(state.threads.max(1))
                    .clamp(1, HANDFUL_MAX);
                return Some(Next::Jobs(state.jobs.drain(..share).collect()));
            }
            if state.stopped {
                return None;
            }
            state.idle += 1;
            self.settled.notify_all();
            self.wake.wait(&mut state);
            state.idle -= 1;
        }
    }

    fn settle(&self) {
        let mut state = self.state.lock();
        while !(state.jobs.is_empty() && state.idle == state.threads) {
            self.settled.wait(&mut state);
        }
    }

    fn stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// A thread has closed its connections to these databases.
    fn forgotten(&self, databases: &[DatabaseId]) {
        let mut state = self.state.lock();
        for database in databases {
            if let Some(forget) = state.forget.get_mut(database) {
                forget.threads_left = forget.threads_left.saturating_sub(1);
            }
        }
        drop(state);
        self.forgotten.notify_all();
    }

    /// A thread is over.
    fn left(&self) {
        let mut state = self.state.lock();
        state.threads -= 1;
        let threads = state.threads;
        for forget in state.forget.values_mut() {
            forget.threads_left = forget.threads_left.min(threads);
        }
        drop(state);
        self.forgotten.notify_all();
        self.settled.notify_all();
    }
}

enum Next {
    Jobs(Vec<ReadJob>),
    Forget {
        databases: Vec<DatabaseId>,
        up_to: u64,
    },
}

/// The error says that a statement is not read-only and belongs to the primary.
pub fn is_not_read_only(error: &v1::Error) -> bool {
    error.code() == v1::ErrorCode::NotPrimary && error.sqlite_code == rusqlite::ffi::SQLITE_READONLY
}
