//! One reader thread: the reads that it begins, goes on with, puts aside or ends.

use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1;
use rustix::process::Pid;

use super::link::{Link, closing};
use super::lost::own_thread;
use super::read::{Between, Read, Stop};
use super::schedule::Work;
use super::{Next, Queue, ReadJob};
use crate::database::reply::{Deliveries, ReplyTo, RoomWaiter};
use crate::database::{Database, Health, Host, failure};

/// Answers that a thread gathers before it hands them over.
const HANDFUL_MAX: usize = 64;
/// A read whose rows are taken as fast as they come makes room for others after this.
const TURN: Duration = Duration::from_millis(50);
/// A database that is behind is asked again after this, at the earliest.
const BEHIND_PAUSE: Duration = Duration::from_millis(200);

/// See the module. Lives on its thread.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) thread: Option<Pid>,
    pub(super) waiter: Arc<dyn RoomWaiter>,
    queue: Arc<Queue>,
    host: Arc<dyn Host>,
    gathered: Deliveries,
}

impl Worker {
    /// For the thread that calls.
    pub(super) fn new(number: usize, queue: Arc<Queue>) -> Self {
        Worker {
            number,
            thread: own_thread(),
            waiter: queue.clone(),
            host: queue.host.clone(),
            queue,
            gathered: Deliveries::default(),
        }
    }

    pub(super) fn run(mut self) {
        let _leave = Leave(self.queue.clone(), self.number);
        loop {
            if self.gathered.len() >= HANDFUL_MAX {
                self.gathered.send();
            }
            let next = match self.queue.next(&self, false) {
                Next::Nothing => {
                    self.gathered.send();
                    self.queue.next(&self, true)
                }
                next => next,
            };
            match next {
                Next::Work(Work::Begin { job, long }, link) => self.begin(job, long, link),
                Next::Work(Work::GoOn(read), _) => self.go_on(*read),
                Next::Work(Work::End(read, error), _) => {
                    let database = &read.job.database.spec().name;
                    tracing::info!(database, why = error.message, "a read was ended");
                    self.end(*read, error, false);
                }
                Next::Nothing => {}
                Next::Stop => break,
            }
        }
        self.gathered.send();
    }

    fn begin(&mut self, job: ReadJob, long: bool, link: Option<Link>) {
        let checked = self.check(&job);
        match checked.and_then(|()| self.link(&job.database, link)) {
            Ok(link) => self.go_on(Read::begin(job, long, link)),
            Err(error) => {
                self.answer(&job.reply, error);
                self.queue.has_stopped(job.database.spec().id, long, None);
            }
        }
    }

    fn check(&self, job: &ReadJob) -> Result<(), v1::Error> {
        if job.deadline <= self.host.now() {
            return Err(failure::unavailable(
                "the read waited too long for a thread",
                BEHIND_PAUSE,
            ));
        }
        if job.statements.is_empty() {
            return Err(failure::invalid("the call holds no statement"));
        }
        match &*job.database.shared.health.borrow() {
            health if health.readable() => Ok(()),
            Health::Behind { why, .. } => Err(failure::unavailable(why.clone(), BEHIND_PAUSE)),
            _ => Err(failure::corrupt(
                "the database needs repair on this node: read from another one",
            )),
        }
    }

    fn go_on(&mut self, mut read: Read) {
        let control = read.control().clone();
        *control.gathered.lock() = std::mem::take(&mut self.gathered);
        let began = self.host.now();
        let (host, queue) = (&self.host, &self.queue);
        let between = Between {
            waiter: &self.waiter,
            lockstep: host.lockstep(),
            turn_is_over: &|| {
                host.now().saturating_duration_since(began) >= TURN && queue.others_wait()
            },
        };
        let went = read.go_on(&between);
        self.gathered = std::mem::take(&mut *control.gathered.lock());
        match went {
            Ok(Stop::Over | Stop::Gone) => self.keep(read, true),
            Ok(Stop::NoRoom) => {
                read.release_memory();
                self.park(read, false);
            }
            Ok(Stop::Turn) => self.park(read, true),
            Err(error) => self.end(read, error, true),
        }
    }

    fn park(&mut self, read: Read, ready: bool) {
        self.gathered.send();
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::SlowReceiverKeepsThread) {
            while matches!(read.room(&self.waiter), crate::database::reply::Room::None) {
                std::thread::yield_now();
            }
        }
        match self.queue.park(read, ready) {
            Err(read) => self.end(*read, closing(), true),
            Ok(Some(Work::End(read, error))) => self.end(*read, error, false),
            Ok(_) => {}
        }
    }

    /// `ran`: it is a read that this thread has begun or gone on with.
    fn end(&mut self, read: Read, error: v1::Error, ran: bool) {
        // The error may belong to a connection or a file that is not what it was: the next job gets a new one.
        let lost = matches!(
            error.code(),
            v1::ErrorCode::Corrupt | v1::ErrorCode::Internal
        );
        self.answer(&read.job.reply, error);
        if lost {
            let (database, long) = (read.job.database.spec().id, read.long && ran);
            drop(read);
            self.queue.has_stopped(database, long, None);
        } else {
            self.keep(read, ran);
        }
    }

    fn answer(&mut self, reply: &ReplyTo, error: v1::Error) {
        self.gathered.push(reply, Err(error), false);
    }

    /// Gives back the connection of a read that is over.
    fn keep(&mut self, read: Read, ran: bool) {
        let (database, long) = (read.job.database.spec().id, read.long && ran);
        self.queue.has_stopped(database, long, read.end());
    }

    /// The connection for a read: the one that was kept, if it still shows the database as it is.
    fn link(&self, database: &Database, kept: Option<Link>) -> Result<Link, v1::Error> {
        let generation = database.shared.generation();
        if let Some(link) = kept
            && link.generation == generation
        {
            return Ok(link);
        }
        let link = Link::open(database, &self.host, generation)?;
        self.queue.register(database.spec().id, &link.control);
        Ok(link)
    }
}

/// Tells the pool that the thread is over, also if it panics.
struct Leave(Arc<Queue>, usize);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.left(self.1);
    }
}
