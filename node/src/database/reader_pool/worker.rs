//! One reader thread: its connections, and how it runs a job.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use halite_proto::v1;
use rusqlite::{Connection, ffi};

use super::{Next, Queue, ReadJob};
use crate::database::guard::{Guard, Mode};
use crate::database::reply::{CallResults, Deliveries};
use crate::database::{Database, DatabaseId, Health, Host, failure, statement};

/// Statements kept prepared per connection.
const STATEMENT_CACHE: usize = 128;
/// Connections kept per thread; beyond it the one unused for longest is closed.
const LINKS_MAX: usize = 64;
/// A reply carries about this many bytes of rows at most, unless a single row is larger.
const PIECE_BYTES: usize = 128 << 10;
/// A database that is behind is asked again after this, at the earliest.
const BEHIND_PAUSE: Duration = Duration::from_millis(200);
/// A reply carries this many rows at most.
const PIECE_ROWS: usize = 1024;

struct Link {
    connection: Connection,
    guard: Guard,
    /// Of the database's content; see `Shared::generation`.
    generation: u64,
    /// When it was used last, in jobs of the thread.
    used: u64,
}

/// See the module. Lives on its thread.
pub(super) struct Worker {
    queue: Arc<Queue>,
    host: Arc<dyn Host>,
    links: HashMap<DatabaseId, Link>,
    stop: Arc<AtomicBool>,
    jobs: u64,
}

impl Worker {
    pub(super) fn new(queue: Arc<Queue>, host: Arc<dyn Host>) -> Self {
        Worker {
            queue,
            host,
            links: HashMap::new(),
            stop: Arc::default(),
            jobs: 0,
        }
    }

    pub(super) fn run(mut self) {
        let _leave = Leave(self.queue.clone());
        let mut forgotten_up_to = 0;
        while let Some(next) = self.queue.next(forgotten_up_to) {
            match next {
                Next::Jobs(jobs) => self.run_jobs(jobs),
                Next::Forget { databases, up_to } => {
                    databases
                        .iter()
                        .for_each(|database| drop(self.links.remove(database)));
                    forgotten_up_to = up_to;
                    self.queue.forgotten(&databases);
                }
            }
        }
        self.links.clear();
    }

    fn run_jobs(&mut self, jobs: Vec<ReadJob>) {
        let mut gathered = Deliveries::default();
        for job in jobs {
            self.stop.store(self.queue.stopped(), Ordering::Relaxed);
            if let Err(error) = self.run_job(&job, &mut gathered) {
                // It may belong to a connection or a file that is not what it was: the next job gets a new one.
                if matches!(
                    error.code(),
                    v1::ErrorCode::Corrupt | v1::ErrorCode::Internal
                ) {
                    self.links.remove(&job.database.spec().id);
                }
                gathered.push(&job.reply, Err(error), false);
            }
        }
        gathered.send();
    }

    fn run_job(&mut self, job: &ReadJob, gathered: &mut Deliveries) -> Result<(), v1::Error> {
        if job.deadline <= self.host.now() {
            return Err(failure::deadline_exceeded(
                "the read waited too long for a thread",
            ));
        }
        if job.statements.is_empty() {
            return Err(failure::invalid("the call holds no statement"));
        }
        match &*job.database.shared.health.borrow() {
            health if health.readable() => {}
            Health::Behind { why, .. } => {
                return Err(failure::unavailable(why.clone(), BEHIND_PAUSE));
            }
            _ => {
                return Err(failure::corrupt(
                    "the database needs repair on this node: read from another one",
                ));
            }
        }
        self.jobs += 1;
        let lockstep = self.host.lockstep();
        let link = self.link(&job.database)?;
        let mut pieces = Pieces {
            job,
            gathered,
            lockstep,
            current: CallResults::default(),
            bytes: 0,
            rows: 0,
        };
        if let [only] = job.statements.as_slice() {
            read_statement(link, job, 0, only, &mut pieces)?;
        } else {
            // One snapshot for all of them.
            let own = |sql: &str| link.connection.execute_batch(sql);
            own("BEGIN").map_err(|error| statement::explain(error, &link.guard))?;
            let read = job
                .statements
                .iter()
                .enumerate()
                .try_for_each(|(index, text)| read_statement(link, job, index, text, &mut pieces));
            if !link.connection.is_autocommit() {
                own("COMMIT").map_err(|error| statement::explain(error, &link.guard))?;
            }
            read?;
        }
        pieces.finish();
        Ok(())
    }

    /// The thread's connection to a database.
    fn link(&mut self, database: &Database) -> Result<&Link, v1::Error> {
        let id = database.spec().id;
        let generation = database.shared.generation();
        if self
            .links
            .get(&id)
            .is_some_and(|link| link.generation != generation)
        {
            self.links.remove(&id);
        }
        if self.links.len() >= LINKS_MAX && !self.links.contains_key(&id) {
            let oldest = self
                .links
                .iter()
                .min_by_key(|(_, link)| link.used)
                .map(|(id, _)| *id);
            oldest.map(|id| self.links.remove(&id));
        }
        let used = self.jobs;
        match self.links.entry(id) {
            Entry::Occupied(entry) => {
                let link = entry.into_mut();
                link.used = used;
                Ok(link)
            }
            Entry::Vacant(entry) => {
                let link = open_link(database, &self.host, &self.stop, generation, used)?;
                Ok(entry.insert(link))
            }
        }
    }
}

fn open_link(
    database: &Database,
    host: &Arc<dyn Host>,
    stop: &Arc<AtomicBool>,
    generation: u64,
    used: u64,
) -> Result<Link, v1::Error> {
    let pager = database.shared.pager().ok_or_else(|| {
        failure::unavailable("the database is being closed", Duration::from_millis(200))
    })?;
    let mut connection = pager
        .reader()
        .map_err(|error| failure::internal(format!("reader cannot be opened: {error}")))?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    let stop = stop.clone();
    let guard = Guard::install(&mut connection, host.clone(), move || {
        stop.load(Ordering::Relaxed)
    })
    .map_err(|error| failure::internal(format!("reader cannot be guarded: {error}")))?;
    Ok(Link {
        connection,
        guard,
        generation,
        used,
    })
}

/// Runs one statement and hands its rows on in pieces.
fn read_statement(
    link: &Link,
    job: &ReadJob,
    index: usize,
    text: &v1::Statement,
    pieces: &mut Pieces<'_>,
) -> Result<(), v1::Error> {
    let at = |error: v1::Error| v1::Error {
        statement_index: index as u32,
        ..error
    };
    let read = link.guard.armed(Mode::Caller, job.deadline, || {
        let mut prepared = statement::prepare(&link.connection, &link.guard, text).map_err(at)?;
        if !prepared.readonly() {
            return Err(at(failure::not_read_only()));
        }
        pieces.begin_statement(index, statement::columns(&prepared));
        let width = prepared.column_count();
        let mut rows = prepared.raw_query();
        // What the first step can see is covered by what is shown after it.
        let mut row = rows
            .next()
            .map_err(|error| at(statement::explain(error, &link.guard)))?;
        pieces.saw(job.database.shared.seen_up_to());
        while let Some(current) = row {
            let (values, bytes) = statement::read_row(current, width).map_err(at)?;
            pieces.push(values, bytes).map_err(at)?;
            row = rows
                .next()
                .map_err(|error| at(statement::explain(error, &link.guard)))?;
        }
        Ok(())
    });
    match read {
        Err(error) if error.sqlite_code == ffi::SQLITE_ERROR => Err(at(proven(link, error))),
        other => other,
    }
}

/// SQLite looks names up in the schema it remembers, and keeps to it when the file cannot be read: then a table that was created meanwhile
/// seems not to be there. What the disk says counts more.
fn proven(link: &Link, error: v1::Error) -> v1::Error {
    let version = link
        .connection
        .query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0));
    match version {
        Ok(_) => error,
        Err(unreadable) => statement::explain(unreadable, &link.guard),
    }
}

/// The answer to one job, in pieces.
struct Pieces<'a> {
    job: &'a ReadJob,
    gathered: &'a mut Deliveries,
    /// Nobody takes anything before the job is done: there is no room to wait for.
    lockstep: bool,
    current: CallResults,
    bytes: usize,
    rows: usize,
}

impl Pieces<'_> {
    fn begin_statement(&mut self, index: usize, columns: Vec<String>) {
        if self.current.results.is_empty() {
            self.current.first_statement = index as u32;
        }
        self.current.results.push(v1::StatementResult {
            columns,
            ..v1::StatementResult::default()
        });
    }

    fn saw(&mut self, raft_index: u64) {
        // A later statement may be the first that reads the database at all.
        self.current.raft_index = self.current.raft_index.max(raft_index);
    }

    fn push(&mut self, row: v1::Row, bytes: usize) -> Result<(), v1::Error> {
        if self.bytes + bytes > PIECE_BYTES && self.rows > 0 || self.rows >= PIECE_ROWS {
            self.send_piece()?;
        }
        self.bytes += bytes;
        self.rows += 1;
        if let Some(result) = self.current.results.last_mut() {
            result.rows.push(row);
        }
        Ok(())
    }

    /// Sends what there is, and waits until the receiver has room for more.
    fn send_piece(&mut self) -> Result<(), v1::Error> {
        let statement = self.current.first_statement + self.current.results.len() as u32 - 1;
        let next = CallResults {
            first_statement: statement,
            results: vec![v1::StatementResult::default()],
            raft_index: self.current.raft_index,
        };
        let piece = std::mem::replace(&mut self.current, next);
        (self.bytes, self.rows) = (0, 0);
        self.gathered.push(&self.job.reply, Ok(piece), true);
        // Before waiting, everything that is gathered goes out: others may be waiting for it.
        self.gathered.send();
        if self.lockstep || self.job.reply.sink.wait_for_room(self.job.deadline) {
            Ok(())
        } else {
            Err(failure::deadline_exceeded(
                "the receiver of the rows was too slow, or is gone",
            ))
        }
    }

    fn finish(self) {
        self.gathered.push(&self.job.reply, Ok(self.current), false);
    }
}

/// Tells the pool that the thread is over, also if it panics.
struct Leave(Arc<Queue>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.left();
    }
}
