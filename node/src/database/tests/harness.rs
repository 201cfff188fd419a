//! A cluster without a network: a log in memory that hands what lanes propose to all databases of the test, at once or when told.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use halite_ltx::PageSize;
use halite_proto::v1;
use halite_sim_disk::CrashDisk;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::database::*;

/// Nothing in these tests takes longer, or it hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn wait<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, future)
            .await
            .expect("it hangs")
    })
}

pub(super) fn answer<T>(receiver: oneshot::Receiver<T>) -> T {
    wait(receiver).expect("answered")
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Committed and handed to every database as soon as it is proposed.
    AtOnce,
    /// Kept until [`TestLog::deliver`].
    Held,
    /// Raft does not take it.
    Refused,
}

/// What a lane hears that asks whether it still leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It does.
    AtOnce,
    /// Nothing, until [`TestLog::give_word`].
    Held,
}

struct State {
    word: Word,
    waiters: Vec<(Leadership, OnConfirmed)>,
    delivery: Delivery,
    committed: Vec<CommittedLtx>,
    held: Vec<v1::LtxCommand>,
    chunks: Vec<v1::LtxChunk>,
    /// Of what is held.
    rooms: Vec<Permit>,
    targets: Vec<Arc<Database>>,
    next_index: u64,
    purged: u64,
}

pub(super) struct TestLog {
    state: Mutex<State>,
}

struct Chunks(Vec<Bytes>);

impl ChunkSource for Chunks {
    fn chunk(&self, number: u32) -> io::Result<Bytes> {
        self.0
            .get(number as usize)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl TestLog {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(TestLog {
            state: Mutex::new(State {
                word: Word::AtOnce,
                waiters: Vec::new(),
                delivery: Delivery::AtOnce,
                committed: Vec::new(),
                held: Vec::new(),
                chunks: Vec::new(),
                rooms: Vec::new(),
                targets: Vec::new(),
                next_index: 1,
                purged: 0,
            }),
        })
    }

    pub(super) fn set(&self, delivery: Delivery) {
        self.state.lock().delivery = delivery;
    }

    pub(super) fn set_word(&self, word: Word) {
        self.state.lock().word = word;
    }

    /// The leaderships that lanes have asked about.
    pub(super) fn asked(&self) -> Vec<Leadership> {
        let state = self.state.lock();
        state.waiters.iter().map(|(asked, _)| *asked).collect()
    }

    /// Tells all that wait.
    pub(super) fn give_word(&self, word: &Result<(), v1::Error>) {
        let waiters = std::mem::take(&mut self.state.lock().waiters);
        for (_, waiter) in waiters {
            waiter.tell(word.clone());
        }
    }

    /// Forgets all that wait, as a node does that is stopping.
    pub(super) fn forget_waiters(&self) {
        let waiters = std::mem::take(&mut self.state.lock().waiters);
        drop(waiters);
    }

    pub(super) fn follow(&self, database: &Arc<Database>) {
        self.state.lock().targets.push(database.clone());
    }

    pub(super) fn unfollow(&self, database: &Arc<Database>) {
        self.state
            .lock()
            .targets
            .retain(|target| !Arc::ptr_eq(target, database));
    }

    /// Chunks that were proposed.
    pub(super) fn chunks(&self) -> usize {
        self.state.lock().chunks.len()
    }

    pub(super) fn last_chunk(&self) -> v1::LtxChunk {
        let state = self.state.lock();
        state.chunks.last().expect("a chunk").clone()
    }

    /// The chunks that are held are applied; their closing entry is not there yet.
    pub(super) fn apply_chunks(&self) {
        let rooms = std::mem::take(&mut self.state.lock().rooms);
        drop(rooms);
    }

    pub(super) fn committed(&self) -> Vec<CommittedLtx> {
        self.state.lock().committed.clone()
    }

    pub(super) fn held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Commits what was held.
    pub(super) fn deliver(&self) {
        let mut state = self.state.lock();
        for command in std::mem::take(&mut state.held) {
            state.commit(command);
        }
    }

    /// Loses what was held.
    pub(super) fn lose(&self) -> Vec<v1::LtxCommand> {
        std::mem::take(&mut self.state.lock().held)
    }

    pub(super) fn commit(&self, command: v1::LtxCommand) {
        self.state.lock().commit(command);
    }

    /// These are committed and on this log's disk, whoever was handed them.
    pub(super) fn know(&self, entries: &[CommittedLtx]) {
        let mut state = self.state.lock();
        state.committed.extend_from_slice(entries);
        state.next_index = state.committed.last().map_or(1, |last| last.index + 1);
    }

    /// The entries up to `index` have left the log.
    pub(super) fn purge(&self, index: u64) {
        self.state.lock().purged = index;
    }
}

impl CommittedLog for TestLog {
    fn newest(&self) -> Option<Mark> {
        self.state.lock().committed.last().map(CommittedLtx::mark)
    }

    fn transactions(&self, first: u64, last: u64) -> Transactions {
        let state = self.state.lock();
        let first = first.max(state.purged + 1);
        // What has chunks is met only by who reads them, too.
        let is_of = |entry: &CommittedLtx, chunk: &&v1::LtxChunk| {
            chunk.proposal_id == entry.command.proposal_id
        };
        let begins = |entry: &CommittedLtx| {
            let chunks = state.chunks.iter().filter(|chunk| is_of(entry, chunk));
            entry.index - chunks.count() as u64
        };
        let held = |entry: &CommittedLtx| begins(entry) >= first && entry.index <= last;
        let held: Vec<_> = state
            .committed
            .iter()
            .filter(|e| held(e))
            .cloned()
            .collect();
        Box::new(held.into_iter().map(Ok))
    }
}

impl State {
    fn commit(&mut self, command: v1::LtxCommand) {
        let chunks: Vec<Bytes> = self
            .chunks
            .iter()
            .filter(|chunk| chunk.proposal_id == command.proposal_id)
            .map(|chunk| chunk.data.clone())
            .collect();
        assert_eq!(chunks.len(), command.chunks as usize);
        let chunks = (command.chunks > 0).then(|| Arc::new(Chunks(chunks)) as Arc<dyn ChunkSource>);
        let ltx = CommittedLtx {
            // Its chunks have come before it.
            index: self.next_index + u64::from(command.chunks),
            term: 1,
            command,
            chunks,
        };
        self.next_index = ltx.index + 1;
        self.committed.push(ltx.clone());
        for target in &self.targets {
            drop(target.apply(ltx.clone()));
        }
    }
}

impl Proposer for TestLog {
    fn propose(
        &self,
        _leadership: Leadership,
        command: v1::Command,
        room: Permit,
    ) -> Result<(), NotProposed> {
        let mut state = self.state.lock();
        if state.delivery == Delivery::Held {
            state.rooms.push(room);
        }
        if state.delivery == Delivery::Refused {
            return Err(NotProposed {
                reason: "told so".into(),
            });
        }
        match command.kind {
            Some(v1::command::Kind::Chunk(chunk)) => state.chunks.push(chunk),
            Some(v1::command::Kind::Ltx(command)) if state.delivery == Delivery::Held => {
                state.held.push(command)
            }
            Some(v1::command::Kind::Ltx(command)) => state.commit(command),
            other => panic!("proposed {other:?}"),
        }
        Ok(())
    }

    fn takes_in(&self, _now: Instant) -> bool {
        true
    }

    fn confirm(&self, leadership: Leadership, waiter: OnConfirmed) {
        let mut state = self.state.lock();
        match state.word {
            Word::AtOnce => {
                drop(state);
                waiter.tell(Ok(()));
            }
            Word::Held => state.waiters.push((leadership, waiter)),
        }
    }
}

#[derive(Default)]
pub(super) struct Checkpoints {
    pub(super) target: Mutex<Option<v1::DatabaseCheckpoint>>,
    pub(super) done: Mutex<Option<v1::DatabaseCheckpoint>>,
    finished: Condvar,
}

impl Checkpoints {
    /// Waits until a checkpoint has brought `txid` into the file.
    pub(super) fn wait_done(&self, txid: u64) {
        let mut done = self.done.lock();
        while done.as_ref().is_none_or(|done| done.txid < txid) {
            assert!(
                !self.finished.wait_for(&mut done, PATIENCE).timed_out(),
                "no checkpoint"
            );
        }
    }
}

impl CheckpointStore for Checkpoints {
    fn save_target(
        &self,
        _database: DatabaseId,
        target: &v1::DatabaseCheckpoint,
    ) -> io::Result<()> {
        *self.target.lock() = Some(target.clone());
        Ok(())
    }

    fn save_done(
        &self,
        _database: DatabaseId,
        done: &v1::DatabaseCheckpoint,
        _durable: bool,
    ) -> io::Result<()> {
        assert_eq!(
            self.target.lock().as_ref(),
            Some(done),
            "the target comes before"
        );
        *self.done.lock() = Some(done.clone());
        self.finished.notify_all();
        Ok(())
    }
}

pub(super) const LEADERSHIP: Leadership = Leadership {
    term: 1,
    leader_id: 1,
};

/// A node's copy of the test's database.
pub(super) struct Node {
    pub(super) database: Arc<Database>,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) path: PathBuf,
    pub(super) log: Arc<TestLog>,
}

pub(super) fn options() -> DatabaseOptions {
    DatabaseOptions {
        checkpoint_idle: Duration::from_secs(3600),
        // A slow machine must not cut in two what a test means to be one batch.
        batch_work_max: Duration::from_secs(3600),
        ..DatabaseOptions::default()
    }
}

pub(super) fn spec(path: &Path) -> DatabaseSpec {
    DatabaseSpec {
        id: DatabaseId::new(7),
        name: "test".into(),
        path: path.to_owned(),
        page_size: PageSize::DEFAULT,
    }
}

impl Node {
    /// A blank follower.
    pub(super) fn start(log: &Arc<TestLog>, path: &Path) -> Node {
        Node::restart(log, path, Redo::nothing(), Arc::default())
    }

    pub(super) fn restart(
        log: &Arc<TestLog>,
        path: &Path,
        redo: Redo,
        checkpoints: Arc<Checkpoints>,
    ) -> Node {
        Node::open(log, path, redo, checkpoints, options())
    }

    fn open(
        log: &Arc<TestLog>,
        path: &Path,
        redo: Redo,
        checkpoints: Arc<Checkpoints>,
        options: DatabaseOptions,
    ) -> Node {
        let (proposer, store) = (log.clone(), checkpoints.clone());
        let redo = Redo {
            log: Some(redo.log.unwrap_or_else(|| log.clone())),
            ..redo
        };
        let database = Database::open(spec(path), redo, proposer, store, options).expect("opened");
        log.follow(&database);
        Node {
            database,
            checkpoints,
            path: path.to_owned(),
            log: log.clone(),
        }
    }

    /// The same, and it takes writes.
    pub(super) fn primary(log: &Arc<TestLog>, path: &Path) -> Node {
        let node = Node::start(log, path);
        node.database.open_lane(LEADERSHIP);
        node
    }

    /// A primary on a disk that can fail.
    pub(super) fn primary_on(log: &Arc<TestLog>, path: &Path, disk: &CrashDisk) -> Node {
        let options = DatabaseOptions {
            disk: Some(Arc::new(disk.clone())),
            ..options()
        };
        let node = Node::open(log, path, Redo::nothing(), Arc::default(), options);
        node.database.open_lane(LEADERSHIP);
        node
    }

    pub(super) fn stop(self) -> Arc<Checkpoints> {
        self.log.unfollow(&self.database);
        wait(self.database.shutdown());
        self.checkpoints
    }

    pub(super) fn run(&self, sql: &str) -> Result<CallResults, v1::Error> {
        self.call(vec![statement(sql)])
    }

    pub(super) fn call(&self, statements: Vec<v1::Statement>) -> Result<CallResults, v1::Error> {
        let (job, receiver) = job(statements);
        self.database.submit(vec![job]);
        answer(receiver)
    }

    /// Runs jobs as one batch: the gate is shut for another one while they are handed over.
    pub(super) fn one_batch(
        &self,
        jobs: Vec<(WriteJob, Answer)>,
    ) -> Vec<Result<CallResults, v1::Error>> {
        let (jobs, receivers): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        self.log.set(Delivery::Held);
        let (blocker, blocked) = sql_job("PRAGMA user_version = 1");
        self.database.submit(vec![blocker]);
        self.database.settle();
        assert_eq!(self.log.held(), 1, "the gate is shut");
        self.database.submit(jobs);
        self.log.set(Delivery::AtOnce);
        self.log.deliver();
        answer(blocked).expect("blocker");
        receivers.into_iter().map(answer).collect()
    }

    pub(super) fn applied(&self) -> Applied {
        *self.database.applied().borrow()
    }

    pub(super) fn query(&self, sql: &str) -> Vec<Vec<rusqlite::types::Value>> {
        let reader = self
            .database
            .shared
            .pager()
            .expect("open")
            .reader()
            .expect("reader");
        let mut statement = reader.prepare(sql).expect("prepared");
        let width = statement.column_count();
        statement
            .query_map([], |row| (0..width).map(|column| row.get(column)).collect())
            .expect("queried")
            .collect::<Result<_, _>>()
            .expect("read")
    }

    pub(super) fn integer(&self, sql: &str) -> i64 {
        match self.query(sql).as_slice() {
            [row] => match row.as_slice() {
                [rusqlite::types::Value::Integer(integer)] => *integer,
                other => panic!("no integer: {other:?}"),
            },
            other => panic!("not one row: {other:?}"),
        }
    }

    /// Waits until the database has what the other has, and compares.
    pub(super) fn assert_same(&self, other: &Node) {
        let wanted = other.applied();
        let mut applied = self.database.applied();
        wait(applied.wait_for(|applied| applied.position.txid >= wanted.position.txid))
            .expect("alive");
        assert_eq!(self.applied().position, wanted.position);
        let pages = |node: &Node| node.database.page_checksums(PageNo::FIRST, usize::MAX);
        assert_eq!(pages(self), pages(other));
    }
}

pub(super) fn statement(sql: &str) -> v1::Statement {
    v1::Statement {
        sql: sql.into(),
        ..v1::Statement::default()
    }
}

pub(super) fn key(client: u8, call_id: u64) -> Option<CallKey> {
    Some(CallKey {
        client_id: [client; 16],
        call_id,
    })
}

pub(super) type Answer = oneshot::Receiver<Result<CallResults, v1::Error>>;

pub(super) fn job(statements: Vec<v1::Statement>) -> (WriteJob, Answer) {
    let (reply, receiver) = ReplyTo::oneshot();
    let job = WriteJob {
        key: None,
        answered_below: 0,
        statements,
        deadline: Instant::now() + PATIENCE,
        retry: false,
        begun: false,
        reply,
    };
    (job, receiver)
}

pub(super) fn sql_job(sql: &str) -> (WriteJob, Answer) {
    job(vec![statement(sql)])
}

pub(super) fn keyed(sql: &str, key: Option<CallKey>) -> (WriteJob, Answer) {
    let (mut job, receiver) = sql_job(sql);
    job.key = key;
    (job, receiver)
}

pub(super) fn code(result: &Result<CallResults, v1::Error>) -> v1::ErrorCode {
    match result {
        Ok(results) => panic!("no error: {results:?}"),
        Err(error) => error.code(),
    }
}

pub(super) fn options_now() -> TransactionOptions {
    TransactionOptions {
        key: None,
        answered_below: 0,
        wait_until: Instant::now() + PATIENCE,
        duration_max: PATIENCE,
    }
}

/// A primary and a follower over one log.
pub(super) fn pair(schema: &[&str]) -> (tempfile::TempDir, Arc<TestLog>, Node, Node) {
    let dir = tempfile::tempdir().expect("dir");
    let log = TestLog::new();
    let follower = Node::start(&log, &dir.path().join("b.db"));
    let primary = Node::primary(&log, &dir.path().join("a.db"));
    for sql in schema {
        primary.run(sql).expect("schema");
    }
    (dir, log, primary, follower)
}

pub(super) fn text(value: &str) -> v1::Value {
    v1::Value {
        kind: Some(v1::value::Kind::Text(value.into())),
    }
}

pub(super) fn integer(value: i64) -> v1::Value {
    v1::Value {
        kind: Some(v1::value::Kind::Integer(value)),
    }
}

/// The entry, with bytes that cannot be read the first few times.
pub(super) fn flaky(mut entry: CommittedLtx, failures: u32) -> CommittedLtx {
    let data = std::mem::take(&mut entry.command.data);
    entry.command.chunks = 1;
    entry.chunks = Some(Arc::new(Flaky {
        data,
        failures_left: failures.into(),
    }));
    entry
}

/// The entry, with bytes that make whoever reads them panic the first few times.
pub(super) fn explosive(mut entry: CommittedLtx, panics: u32) -> CommittedLtx {
    let data = std::mem::take(&mut entry.command.data);
    entry.command.chunks = 1;
    entry.chunks = Some(Arc::new(Explosive {
        data,
        panics_left: panics.into(),
    }));
    entry
}

struct Explosive {
    data: Bytes,
    panics_left: AtomicU32,
}

impl ChunkSource for Explosive {
    fn chunk(&self, _number: u32) -> io::Result<Bytes> {
        let left = |left: u32| left.checked_sub(1);
        let panics = self
            .panics_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        assert!(panics.is_err(), "boom");
        Ok(self.data.clone())
    }
}

/// Fails the first few times it is asked.
struct Flaky {
    data: Bytes,
    failures_left: AtomicU32,
}

impl ChunkSource for Flaky {
    fn chunk(&self, _number: u32) -> io::Result<Bytes> {
        let failing = self
            .failures_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        match failing {
            Ok(_) => Err(io::Error::other("disk on fire")),
            Err(_) => Ok(self.data.clone()),
        }
    }
}
