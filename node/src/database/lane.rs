//! The lane: the one thread that owns a database's writer and applier.
//!
//! It takes one thing after the other from its [`inbox`](inbox::Inbox): entries to apply, batches of jobs, an interactive transaction, a checkpoint.
//! Nothing here decides whether a commit is good (see [`gate`]), when its callers may hear of it (see [`commit`]), nor whether the database is well
//! (see [`Follow`]).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use halite_ltx::{PageNo, Txid};
use halite_pager::{Applier, CapturedTransaction, OpenOptions, PagerError, Writer};
use halite_proto::v1;
use prost::Message;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::follow::Follow;
use super::guard::Guard;
use super::sessions::Sessions;
use super::snapshot::DatabaseSnapshot;
use super::{
    Applied, CheckpointStore, CommittedLog, Database, DatabaseOptions, DatabaseSpec, Health, Host,
    Leadership, Mark, OpenError, Proposer, Redo, WriteJob, failure, statement,
};
use catch_up::Rereading;
use commit::{Told, Verdict, Weight};
use gate::LaneGate;
use inbox::{Gather, Inbox, Sealed};
use message::{Job, Ordered, PendingApply, Task, Work};
use redo_spool::RedoSpool;
use shared::Shared;
use unconfirmed::Unconfirmed;

mod apply;
mod batch;
mod catch_up;
mod checkpoint;
mod commit;
mod damage;
mod gate;
pub(super) mod inbox;
mod install;
mod interactive;
mod keep;
pub(super) mod message;
mod orphan;
mod park;
mod rebuild;
mod redo;
mod redo_spool;
mod scrub;
pub(super) mod shared;
mod unconfirmed;

/// How long a stock program may keep a database from being opened before that counts as failed: whoever opens it tries again, and others
/// wait meanwhile.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Statements of callers kept prepared.
const STATEMENT_CACHE: usize = 256;

/// See the module. Lives on its thread.
struct Lane {
    // Closed before the pager is let go.
    writer: Writer,
    applier: Applier,
    pager: Arc<halite_pager::Database>,
    spec: DatabaseSpec,
    options: DatabaseOptions,
    host: Arc<dyn Host>,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    gate: Arc<LaneGate>,
    guard: Guard,
    proposer: Arc<dyn Proposer>,
    unconfirmed: Arc<Unconfirmed>,
    checkpoints: Arc<dyn CheckpointStore>,
    /// While the lane is open.
    leadership: Option<Leadership>,
    applied: Applied,
    follow: Follow,
    /// Where entries are read again that could not be taken when they came.
    log: Option<Arc<dyn CommittedLog>>,
    /// What is still to be redone: the disk refused it at the start.
    unfinished: Option<RedoSpool>,
    /// The entry that the disk refuses.
    stuck: Option<PendingApply>,
    reread: Option<Rereading>,
    /// What is in the file did not come from the log, and no copy of it is kept yet.
    strange: bool,
    /// What a page diff has brought is not in the file yet.
    diff_unsaved: bool,
    /// All pages are not looked at again before.
    look_again_at: Option<Instant>,
    /// Which page is looked at next, and when.
    scrub_from: PageNo,
    scrub_at: Option<Instant>,
    /// When the next step towards what is committed is due.
    retry_at: Option<Instant>,
    /// The entry that is being applied.
    applying: Option<Mark>,
    sessions: Sessions,
    last_timestamp_ms: i64,
    idle_at: Option<Instant>,
    /// When it was last told that a checkpoint failed; `None` since one was made.
    checkpoint_failed_at: Option<Instant>,
    /// An own entry that the quorum has and SQLite could not write: comes before everything else.
    unwritten: Option<Box<PendingApply>>,
}

/// Opens the file, redoes what the log has, and starts the lane's thread.
pub(super) fn open(
    spec: DatabaseSpec,
    redo: Redo,
    proposer: Arc<dyn Proposer>,
    checkpoints: Arc<dyn CheckpointStore>,
    options: DatabaseOptions,
) -> Result<Arc<Database>, OpenError> {
    let pager_options = OpenOptions {
        page_size: spec.page_size,
        lock_timeout: LOCK_TIMEOUT,
        disk: options.disk.clone(),
        ..OpenOptions::default()
    };
    let pager =
        halite_pager::Database::open(&spec.path, &pager_options).map_err(OpenError::Pager)?;
    if pager.page_size() != spec.page_size {
        return Err(OpenError::PageSize {
            expected: spec.page_size,
            found: pager.page_size(),
        });
    }
    let mut redo = redo;
    let mut entries = redo.entries.peekable();
    if redo.checkpoint.is_none() && entries.peek().is_none() && pager.page_count() > 0 {
        return Err(OpenError::ForeignFile(spec.path));
    }
    redo.entries = Box::new(entries);
    let log = redo.log.clone();
    let mut applier = pager.applier().map_err(OpenError::Connection)?;
    let redone = redo::redo(&mut applier, redo)?;
    if let Health::Parked { .. } = redone.health {
        applier = pager.applier().map_err(OpenError::Connection)?;
    }
    let why = redone.health.trouble();
    match &redone.health {
        Health::Fine => {}
        Health::Behind { .. } => {
            tracing::error!(database = %spec.name, why, "database is behind");
        }
        Health::NeedsRepair { .. } => {
            tracing::error!(database = %spec.name, why, "database needs repair");
        }
        Health::Parked { .. } => tracing::error!(database = %spec.name, why, "database is parked"),
    }

    let host = options.host.clone();
    let inbox = Arc::new(Inbox::new(options.queued_jobs_max, host.clone()));
    let shared = Arc::new(Shared::new(
        redone.applied,
        redone.health.clone(),
        pager.clone(),
        host.clone(),
    ));
    let gate = Arc::new(LaneGate::new(
        spec.id,
        inbox.clone(),
        shared.clone(),
        proposer.clone(),
        options.window.clone(),
        options.entry_bytes_max,
        host.random(),
    ));
    let (writer, guard) =
        open_writer(&pager, &gate, &inbox, &host).map_err(OpenError::Connection)?;
    let follow = Follow::new(redone.applied.position, redone.newest, redone.health);
    let unconfirmed = Unconfirmed::new(options.queued_jobs_max, batch::RESULT_BYTES_MAX);
    let mut lane = Lane {
        writer,
        applier,
        pager,
        spec: spec.clone(),
        options,
        host: host.clone(),
        inbox: inbox.clone(),
        shared: shared.clone(),
        gate,
        guard,
        proposer,
        unconfirmed,
        checkpoints,
        leadership: None,
        applied: redone.applied,
        retry_at: follow.needs_steps().then(|| host.now()),
        follow,
        log,
        unfinished: redone.unfinished,
        stuck: None,
        reread: None,
        strange: redone.strange,
        diff_unsaved: false,
        look_again_at: None,
        scrub_from: PageNo::FIRST,
        scrub_at: None,
        applying: None,
        sessions: redone.sessions,
        last_timestamp_ms: redone.last_timestamp_ms,
        idle_at: None,
        checkpoint_failed_at: None,
        unwritten: None,
    };
    lane.plan_scrub();
    if redone.forked {
        lane.keep_orphan();
    }
    let (stopped_sender, stopped) = watch::channel(false);
    let thread_inbox = inbox.clone();
    let thread = host
        .spawn(
            format!("lane-{}", spec.name),
            Box::new(move || {
                thread_inbox.lane_began();
                lane.shared.disk_calls.watch_this_thread();
                let end = std::panic::catch_unwind(AssertUnwindSafe(move || lane.live()));
                stopped_sender.send_replace(true);
                // Last: whoever runs the lane in lockstep goes on from here.
                thread_inbox.lane_ended();
                if let Err(panic) = end {
                    std::panic::resume_unwind(panic);
                }
            }),
        )
        .map_err(OpenError::Thread)?;
    if host.lockstep() {
        inbox.settle();
    }
    Ok(Arc::new(Database::new(
        spec, inbox, shared, stopped, thread,
    )))
}

/// Opens the connection for SQL writes, guarded.
fn open_writer(
    pager: &Arc<halite_pager::Database>,
    gate: &Arc<LaneGate>,
    inbox: &Arc<Inbox>,
    host: &Arc<dyn Host>,
) -> Result<(Writer, Guard), PagerError> {
    let decide = gate.clone();
    let mut writer = pager.writer(Box::new(move |transaction: &CapturedTransaction<'_>| {
        halite_pager::Gate::commit(&*decide, transaction)
    }))?;
    let connection = writer.connection_mut();
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.execute_batch("PRAGMA foreign_keys = ON")?;
    let stop = inbox.clone();
    let guard = Guard::install(connection, pager, host.clone(), move || stop.interrupted())?;
    gate.set_guard(guard.clone());
    Ok((writer, guard))
}

impl Lane {
    /// Runs to the end, panics or not.
    fn live(mut self) {
        while let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| self.run())) {
            self.park(&*panic);
        }
    }

    fn run(&mut self) {
        let mut gather = None;
        loop {
            let due = [self.idle_at, self.retry_at, self.scrub_at];
            let wake_at = due.into_iter().flatten().min();
            match self
                .inbox
                .next(batch::BATCH_JOBS_MAX, wake_at, gather.take())
            {
                Work::Ordered(item) => self.take_ordered(item),
                Work::Task(task) => self.take_task(task),
                Work::Jobs(jobs) => gather = self.take_and_gather(jobs),
                Work::Idle if self.retry_at.is_some_and(|at| at <= self.host.now()) => {
                    self.catch_up_step();
                }
                Work::Idle => {
                    self.use_idle_time();
                    continue;
                }
                Work::Shutdown => return,
            }
            self.scrub_if_due();
            self.look_into_suspicion();
            self.checkpoint_if_large();
        }
    }

    /// Nothing came until something was due that is done meanwhile.
    fn use_idle_time(&mut self) {
        if self.idle_at.is_some_and(|at| at <= self.host.now()) {
            self.checkpoint_idle();
        }
        self.scrub_if_due();
        self.look_into_suspicion();
    }

    /// Runs jobs; says how many to expect next: the callers that have just been answered, and those that came meanwhile.
    fn take_and_gather(&mut self, jobs: Vec<Job>) -> Option<Gather> {
        let (started, answered) = (self.host.now(), jobs.len());
        self.take_jobs(jobs);
        let now = self.host.now();
        let wait = (now.saturating_duration_since(started) / 2).min(self.options.gather_max);
        let jobs = answered + self.inbox.queued_jobs();
        (jobs > 1 && !wait.is_zero()).then(|| Gather {
            jobs,
            until: now + wait,
        })
    }

    fn take_ordered(&mut self, item: Ordered) {
        match item {
            Ordered::Apply(entry) => self.apply(entry),
            Ordered::Told(told) => self.take_told(told),
            Ordered::Open(leadership) => self.take_writes(leadership),
            Ordered::Close { done } => {
                self.leadership = None;
                // Nobody listening is the listener's business, here and below.
                let _ = done.send(());
            }
            Ordered::Install(install) => self.install(install),
            // The commit it is meant for is over.
            Ordered::Refuse { .. } => {}
        }
    }

    fn take_task(&mut self, task: Task) {
        match task {
            Task::Checkpoint { reply } => {
                let result = self.checkpoint().and_then(|complete| match complete {
                    true => Ok(()),
                    false => Err(failure::unavailable(
                        "readers keep a part of the WAL from the file",
                        Duration::from_secs(1),
                    )),
                });
                let _ = reply.send(result);
            }
            Task::Snapshot { reply } => {
                let _ = reply.send(self.snapshot());
            }
            Task::Resume { reply } => {
                let _ = reply.send(self.resume());
            }
            Task::Keep { keep, reply } => {
                let _ = reply.send(self.keep(keep));
            }
            Task::SealIfBlank { reply } => {
                // Nobody waiting for it: it goes away at once.
                let _ = reply.send(self.seal_if_blank());
            }
        }
    }

    fn take_jobs(&mut self, jobs: Vec<Job>) {
        let mut writes: Vec<WriteJob> = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::Write(job) => writes.push(job),
                Job::Alone(job) => self.run_alone(job),
                Job::Begin(begin) => self.run_interactive(begin),
                Job::Import {
                    path,
                    overwrite,
                    reply,
                } => self.import(&path, overwrite, reply),
            }
        }
        if !writes.is_empty() {
            self.run_batch(writes);
        }
    }

    fn snapshot(&self) -> Result<DatabaseSnapshot, v1::Error> {
        match self.follow.health() {
            Health::Fine => {}
            // Only the newest state is of use to a copy.
            Health::Behind { why, .. } => {
                return Err(failure::unavailable(why.clone(), Duration::from_secs(1)));
            }
            Health::NeedsRepair { why, .. } | Health::Parked { why, .. } => {
                return Err(failure::corrupt(format!(
                    "the database needs repair here: {why}"
                )));
            }
        }
        let pages = self
            .pager
            .snapshot()
            .map_err(|error| failure::internal(failure::describe(&error)))?;
        let state = v1::DatabaseState {
            txid: self.applied.position.txid.get(),
            checksum: self.applied.position.checksum.get(),
            page_size: self.spec.page_size.get(),
            page_count: self.applied.page_count,
            raft_index: self.applied.raft_index,
            raft_term: self.applied.raft_term,
            sessions: self.sessions.to_proto().encode_to_vec().into(),
        };
        DatabaseSnapshot::new(state, pages, self.last_timestamp_ms)
    }

    fn import(
        &mut self,
        path: &std::path::Path,
        overwrite: bool,
        reply: oneshot::Sender<Result<Applied, v1::Error>>,
    ) {
        if let Some(error) = self.refusal() {
            let _ = reply.send(Err(error));
            return;
        }
        if !overwrite && !self.is_empty() {
            return self.tell_confirmed(Weight::ONE_CALL, move |told| {
                let _ = reply.send(Err(match told {
                    Told::NotWritten(error) => error,
                    _ => failure::already_exists("the database is not empty"),
                }));
            });
        }
        let verdict = self
            .commit(Vec::new(), |lane| lane.writer.import(path))
            .explained(|error| failure::invalid(failure::describe(&error)));
        if let Verdict::Committed(_) = verdict {
            // The text may have another encoding now.
            match self.pager.applier() {
                Ok(applier) => self.applier = applier,
                Err(error) => {
                    tracing::error!(database = %self.spec.name, error = failure::describe(&error), "applier cannot be opened again")
                }
            }
            self.renew_connections();
        }
        let applied = self.applied;
        self.tell(verdict, Weight::ONE_CALL, move |told| {
            let _ = reply.send(match told {
                Told::Stands(raft_index) => Ok(Applied {
                    raft_index,
                    ..applied
                }),
                Told::NotWritten(error) => Err(error),
                Told::Unknown(_) => Err(failure::outcome_unknown()),
            });
        });
        self.retry_unwritten();
    }

    /// Takes no more writes, if no transaction was ever committed under this leadership or before it, and none is asked for. What is under way is
    /// over when the lane comes to this; what it does not know the outcome of was begun under a leadership that has ended.
    fn seal_if_blank(&self) -> Option<Sealed> {
        let leadership = self.leadership?;
        let is_blank = self.applied.position.txid == Txid::ZERO
            && self.follow.is_fine()
            && self.follow.lacks().is_none();
        is_blank.then(|| self.inbox.seal(leadership)).flatten()
    }

    /// No table, index, view or trigger is in it.
    fn is_empty(&self) -> bool {
        let count = self
            .connection()
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| {
                row.get::<_, i64>(0)
            });
        matches!(count, Ok(0))
    }

    /// Writes an own entry that SQLite could not.
    fn retry_unwritten(&mut self) {
        if let Some(entry) = self.unwritten.take() {
            self.catch_up(*entry);
        }
    }

    // ---- the writer's connection ----

    fn connection(&self) -> &Connection {
        self.writer.connection()
    }

    /// No transaction is open on it.
    fn writer_is_idle(&self) -> bool {
        self.connection().is_autocommit()
    }

    /// Runs a statement of the lane's own.
    fn own(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection()
            .prepare_cached(sql)?
            .raw_execute()
            .map(drop)
    }

    fn begin(&self) -> rusqlite::Result<()> {
        self.own("BEGIN IMMEDIATE")
    }

    fn explain(&self, error: rusqlite::Error) -> v1::Error {
        statement::explain(error, &self.guard)
    }

    fn reopen_writer(&mut self) -> Result<(), PagerError> {
        let (writer, guard) = open_writer(&self.pager, &self.gate, &self.inbox, &self.host)?;
        self.writer = writer;
        self.guard = guard;
        Ok(())
    }

    /// Connections keep to the encoding of the text, and to much else, that they found when they were opened.
    fn renew_connections(&mut self) {
        if let Err(error) = self.reopen_writer() {
            tracing::error!(database = %self.spec.name, error = failure::describe(&error), "writer cannot be opened again");
        }
        self.shared.next_generation();
    }

    /// Why nothing may be written now.
    fn refusal(&self) -> Option<v1::Error> {
        if self.leadership.is_none() || self.inbox.interrupted() {
            return Some(self.closed());
        }
        self.unconfirmed.is_full().then(|| {
            failure::unavailable(
                "too many answers wait for the word of a quorum",
                Duration::from_millis(100),
            )
        })
    }
}
