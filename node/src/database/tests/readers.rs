//! The reader pool: what it runs, what it hands back, and that it waits for slow receivers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use halite_archive::BlockingJob;
use halite_proto::v1::{self, ErrorCode};
use halite_sim_disk::CrashDisk;
use parking_lot::Mutex;

use super::harness::*;
use crate::database::*;

pub(super) fn pool() -> Arc<ReaderPool> {
    ReaderPool::start(2, SystemHost::shared()).expect("started")
}

pub(super) fn read(
    pool: &ReaderPool,
    node: &Node,
    sqls: &[&str],
) -> Result<CallResults, v1::Error> {
    let (reply, receiver) = ReplyTo::oneshot();
    pool.run(vec![read_job(node, sqls, reply)]);
    answer(receiver)
}

fn read_job(node: &Node, sqls: &[&str], reply: ReplyTo) -> ReadJob {
    ReadJob {
        database: node.database.clone(),
        statements: sqls.iter().map(|sql| statement(sql)).collect(),
        deadline: Instant::now() + PATIENCE,
        reply,
    }
}

#[test]
fn a_table_is_not_called_missing_because_the_disk_cannot_be_read() {
    let (dir, disk) = (tempfile::tempdir().expect("dir"), CrashDisk::new());
    let node = Node::primary_on(&TestLog::new(), &dir.path().join("a.db"), &disk);
    let pool = ReaderPool::start(1, SystemHost::shared()).expect("started");
    let error = read(&pool, &node, &["SELECT v FROM t"]).expect_err("not there yet");
    assert_eq!(error.code(), ErrorCode::Sql, "{error:?}");
    node.run("CREATE TABLE t(v)").expect("created");
    disk.cut_power();
    let error = read(&pool, &node, &["SELECT v FROM t"]).expect_err("no disk");
    assert_eq!(error.code(), ErrorCode::Internal, "{error:?}");
}

#[test]
fn reads_are_answered_and_writes_handed_back() {
    let (_dir, _log, primary, follower) =
        pair(&["CREATE TABLE t(v)", "INSERT INTO t VALUES(1), (2)"]);
    follower.assert_same(&primary);
    let pool = pool();
    let results = read(
        &pool,
        &follower,
        &["SELECT v FROM t ORDER BY v", "SELECT count(*) AS n FROM t"],
    )
    .expect("read");
    assert_eq!(results.raft_index, follower.applied().raft_index);
    assert_eq!(results.results.len(), 2);
    assert_eq!(results.results[0].rows[1].values, [integer(2)]);
    assert_eq!(results.results[1].columns, ["n"]);
    for sql in [
        "INSERT INTO t VALUES(3)",
        "CREATE TABLE u(x)",
        "PRAGMA user_version = 3",
        "VACUUM",
    ] {
        let error = read(&pool, &follower, &[sql]).expect_err(sql);
        assert!(is_not_read_only(&error), "{sql}: {error:?}");
    }
    let error = read(&pool, &follower, &["SELECT 1", "DELETE FROM t"]).expect_err("write");
    assert_eq!((is_not_read_only(&error), error.statement_index), (true, 1));
    for (sql, expected) in [
        ("SELECT * FROM nothing", ErrorCode::Sql),
        ("BEGIN", ErrorCode::Invalid),
        ("ATTACH ':memory:' AS x", ErrorCode::Invalid),
        ("PRAGMA query_only = ON", ErrorCode::Invalid),
        ("", ErrorCode::Invalid),
    ] {
        assert_eq!(code(&read(&pool, &follower, &[sql])), expected, "{sql}");
    }
    // The connection is as good as before.
    read(&pool, &follower, &["SELECT 1"]).expect("read");
}

#[test]
fn statement_has_the_columns_of_now_and_not_those_it_was_prepared_for() {
    let (_dir, _log, primary, follower) = pair(&["CREATE TABLE t(a)", "INSERT INTO t VALUES(1)"]);
    // Of one thread: the same connection reads each time.
    let pool = ReaderPool::start(1, SystemHost::shared()).expect("started");
    for (changes, columns) in [
        (&["SELECT 1"][..], &["a"][..]),
        (&["ALTER TABLE t ADD COLUMN b DEFAULT 2"], &["a", "b"]),
        (&["ALTER TABLE t RENAME COLUMN b TO c"], &["a", "c"]),
        (&["ALTER TABLE t DROP COLUMN a"], &["c"]),
        (
            &[
                "DROP TABLE t",
                "CREATE TABLE t(x, y, z)",
                "INSERT INTO t VALUES(1, 2, 3)",
            ],
            &["x", "y", "z"],
        ),
    ] {
        let changes = changes.iter().map(|sql| statement(sql)).collect();
        primary.call(changes).expect("changed");
        let read = |node| read(&pool, node, &["SELECT * FROM t"]).expect("read");
        let returning = "DELETE FROM t WHERE rowid < 0 RETURNING *";
        let replace = "UPDATE t SET rowid = rowid RETURNING *";
        for told in [
            read(&primary),
            read(&follower),
            primary.run(replace).expect("written"),
            primary.run("SELECT * FROM t").expect("read"),
        ] {
            assert_eq!(told.results[0].columns, columns);
            assert_eq!(told.results[0].rows[0].values.len(), columns.len());
        }
        let none = primary.run(returning).expect("written");
        assert_eq!(none.results[0].columns, columns, "no row");
    }
}

#[test]
fn plan_is_by_the_schema_of_now() {
    let (_dir, _log, primary, follower) = pair(&["CREATE TABLE t(a, b)"]);
    let pool = ReaderPool::start(1, SystemHost::shared()).expect("started");
    let plan = "EXPLAIN QUERY PLAN SELECT * FROM t WHERE a = 1";
    let mut plans = Vec::new();
    for change in ["SELECT 1", "CREATE INDEX i ON t(a)", "DROP INDEX i"] {
        primary.run(change).expect("changed");
        let told = [
            read(&pool, &primary, &[plan]).expect("read"),
            read(&pool, &follower, &[plan]).expect("read"),
            primary.run(plan).expect("read"),
        ];
        plans.push(told.map(|told| format!("{:?}", told.results[0].rows).contains("INDEX i")));
    }
    assert_eq!(plans, [[false; 3], [true; 3], [false; 3]]);
    primary.run("DROP TABLE t").expect("dropped");
    let gone = read(&pool, &follower, &[plan]).expect_err("there is no such table");
    assert!(gone.message.contains("no such table"), "{}", gone.message);
}

#[test]
fn read_is_interrupted_at_its_deadline() {
    let (_dir, _log, primary, _follower) = pair(&[]);
    let pool = pool();
    let (reply, receiver) = ReplyTo::oneshot();
    let endless =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let mut job = read_job(&primary, &[endless], reply);
    job.deadline = Instant::now() + Duration::from_millis(50);
    pool.run(vec![job]);
    assert_eq!(code(&answer(receiver)), ErrorCode::DeadlineExceeded);
}

#[test]
fn read_is_interrupted_when_its_caller_goes() {
    let (_dir, _log, primary, _follower) = pair(&[]);
    let pool = ReaderPool::start(1, SystemHost::shared()).expect("started");
    let endless =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let (reply, caller) = ReplyTo::oneshot();
    let mut job = read_job(&primary, &[endless], reply);
    job.deadline = Instant::now() + PATIENCE * 10;
    pool.run(vec![job]);
    while pool.queued() > 0 {
        std::thread::yield_now();
    }
    drop(caller);
    // The only thread is free.
    read(&pool, &primary, &["SELECT 1"]).expect("read");
}

const MANY: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 200000) SELECT x, 'some text' FROM n";

#[test]
fn large_result_comes_in_pieces_and_waits_for_its_receiver() {
    let (_dir, _log, primary, _follower) = pair(&[]);
    let pool = pool();
    let (sink, mut receiver) = replies(3);
    pool.run(vec![read_job(
        &primary,
        &[MANY],
        ReplyTo { sink, token: 9 },
    )]);
    let mut whole = CallResults::default();
    let mut pieces = 0;
    let mut most = 0;
    'call: loop {
        let arrived = wait(receiver.recv());
        most = most.max(arrived.len());
        for reply in arrived {
            assert_eq!(reply.token, 9);
            let piece = reply.outcome.expect("rows");
            assert!(
                piece
                    .results
                    .iter()
                    .map(|result| result.rows.len())
                    .sum::<usize>()
                    <= 1024
            );
            whole.append(piece);
            pieces += 1;
            if !reply.more {
                break 'call;
            }
        }
    }
    assert_eq!(whole.results.len(), 1);
    assert_eq!(whole.results[0].rows.len(), 200_000);
    assert_eq!(whole.results[0].rows[199_999].values[0], integer(200_000));
    assert_eq!(whole.results[0].columns, ["x", "'some text'"]);
    assert!(pieces > 100);
    assert!(most <= 4, "no more than the room there is: {most}");
}

#[test]
fn receiver_that_leaves_stops_the_read() {
    let (_dir, _log, primary, _follower) = pair(&[]);
    let pool = ReaderPool::start(1, SystemHost::shared()).expect("started");
    let (sink, receiver) = replies(1);
    pool.run(vec![read_job(
        &primary,
        &[MANY],
        ReplyTo { sink, token: 1 },
    )]);
    drop(receiver);
    read(&pool, &primary, &["SELECT 1"]).expect("the only thread is free again");
}

#[test]
fn statement_after_a_long_one_keeps_its_place() {
    let (_dir, _log, primary, _follower) = pair(&[]);
    let results = read(&pool(), &primary, &["SELECT 1", MANY, "SELECT 2"])
        .expect("read")
        .results;
    assert_eq!(results.len(), 3);
    assert_eq!(
        (
            results[0].rows.len(),
            results[1].rows.len(),
            results[2].rows.len()
        ),
        (1, 200_000, 1)
    );
    assert_eq!(results[2].rows[0].values, [integer(2)]);
}

#[test]
fn forgotten_database_can_be_closed_and_opened_again() {
    let (_dir, log, primary, follower) = pair(&["CREATE TABLE t(v)"]);
    follower.assert_same(&primary);
    let pool = pool();
    (0..8).for_each(|_| drop(read(&pool, &follower, &["SELECT * FROM t"]).expect("read")));
    assert!(pool.forget(follower.database.spec().id));
    let path = follower.path.clone();
    let checkpoints = follower.stop();
    let redo = Redo {
        checkpoint: checkpoints.done.lock().clone(),
        entries: Box::new(log.committed().into_iter().map(Ok)),
        ..Redo::nothing()
    };
    let again = Node::restart(&log, &path, redo, checkpoints);
    again.assert_same(&primary);
    read(&pool, &again, &["SELECT * FROM t"]).expect("read");
    pool.shutdown();
    assert_eq!(
        code(&read(&pool, &again, &["SELECT 1"])),
        ErrorCode::Unavailable
    );
}

#[test]
fn many_jobs_are_all_answered() {
    let (_dir, _log, primary, _follower) = pair(&["CREATE TABLE t(v)", "INSERT INTO t VALUES(5)"]);
    let pool = pool();
    let (sink, mut receiver) = replies(16);
    let jobs = (0..1000)
        .map(|token| {
            read_job(
                &primary,
                &["SELECT v FROM t"],
                ReplyTo {
                    sink: sink.clone(),
                    token,
                },
            )
        })
        .collect();
    pool.run(jobs);
    let mut tokens = Vec::new();
    while tokens.len() < 1000 {
        for reply in wait(receiver.recv()) {
            assert_eq!(
                reply.outcome.expect("read").results[0].rows[0].values,
                [integer(5)]
            );
            tokens.push(reply.token);
        }
    }
    tokens.sort_unstable();
    assert!(tokens.iter().copied().eq(0..1000));
}

/// Starts a read whose receiver takes nothing.
fn stalled_read(pool: &ReaderPool, node: &Node, token: u64) -> ReplyReceiver {
    let (sink, receiver) = replies(1);
    pool.run(vec![read_job(node, &[MANY], ReplyTo { sink, token })]);
    receiver
}

/// Waits for what other threads do; there is nothing to be told by.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Everything that comes for a call: how many rows, and the error at the end.
fn drain(receiver: &mut ReplyReceiver) -> (usize, Option<v1::Error>) {
    let mut rows = 0;
    loop {
        for reply in wait(receiver.recv()) {
            match reply.outcome {
                Err(error) => return (rows, Some(error)),
                Ok(piece) => rows += piece.results.iter().map(|r| r.rows.len()).sum::<usize>(),
            }
            if !reply.more {
                return (rows, None);
            }
        }
    }
}

/// The same of many receivers at a time: none is slow because another one is being drained.
fn drain_all(receivers: Vec<ReplyReceiver>) -> Vec<(usize, Option<v1::Error>)> {
    std::thread::scope(|scope| {
        let drain_one = |mut receiver| scope.spawn(move || drain(&mut receiver));
        let draining: Vec<_> = receivers.into_iter().map(drain_one).collect();
        let drained = draining.into_iter().map(|thread| thread.join());
        drained.map(|all| all.expect("drained")).collect()
    })
}

#[test]
fn slow_receivers_hold_no_thread_and_get_all_rows() {
    let (_dir, _log, primary, _follower) = pair(&["CREATE TABLE t(v)", "INSERT INTO t VALUES(5)"]);
    let pool = ReaderPool::start(1, SystemHost::shared()).expect("started");
    let receivers: Vec<_> = (0..8).map(|n| stalled_read(&pool, &primary, n)).collect();
    let rows = read(&pool, &primary, &["SELECT v FROM t"]).expect("a thread is free");
    assert_eq!(rows.results[0].rows[0].values, [integer(5)]);
    until("all are put aside", || pool.parked() == 8);
    for drained in drain_all(receivers) {
        assert_eq!(drained, (200_000, None));
    }
    assert_eq!(pool.parked(), 0);
}

/// Has no room after the first rows, and has some, and says so, before its read is put aside.
struct Hasty {
    sink: Arc<dyn ReplySink>,
    began: AtomicBool,
    /// What another thread of the pool has seen the news by.
    seen: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl ReplySink for Hasty {
    fn deliver(&self, replies: Vec<CallReply>) {
        self.began.store(true, Ordering::Relaxed);
        self.sink.deliver(replies);
    }

    fn is_gone(&self, token: u64) -> bool {
        self.sink.is_gone(token)
    }

    fn gone(self: Arc<Self>) -> BoxFuture<'static, ()> {
        self.sink.clone().gone()
    }

    fn room(&self, waiter: &Arc<dyn RoomWaiter>) -> Room {
        let began = self.began.load(Ordering::Relaxed);
        match began.then(|| self.seen.lock().take()).flatten() {
            Some(seen) => {
                waiter.wake();
                seen();
                Room::None
            }
            None => Room::Some,
        }
    }
}

#[test]
fn room_that_is_made_before_a_read_is_put_aside_is_not_overlooked() {
    let (_dir, _log, primary, _follower) = pair(&["CREATE TABLE t(v)", "INSERT INTO t VALUES(5)"]);
    let pool = pool();
    let (sink, mut receiver) = replies(16);
    let (reply, answered) = ReplyTo::oneshot();
    let other = read_job(&primary, &["SELECT v FROM t"], reply);
    let of_other = pool.clone();
    let seen: Box<dyn FnOnce() + Send> = Box::new(move || {
        of_other.run(vec![other]);
        answer(answered).expect("the other thread is free");
    });
    let sink = Arc::new(Hasty {
        sink,
        began: AtomicBool::new(false),
        seen: Mutex::new(Some(seen)),
    });
    // Shorter than a receiver may take nothing: at that end it would be looked at again.
    let deadline = Instant::now() + Duration::from_secs(5);
    let rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000) SELECT x FROM n";
    pool.run(vec![ReadJob {
        deadline,
        ..read_job(&primary, &[rows], ReplyTo { sink, token: 1 })
    }]);
    assert_eq!(drain(&mut receiver), (2000, None));
}

#[test]
fn reads_of_one_slow_receiver_wait_for_each_other_and_are_all_answered() {
    let (_dir, _log, primary, _follower) = pair(&[]);
    let pool = pool();
    let (sink, mut receiver) = replies(4);
    // Far more pieces than there is room for.
    let some = MANY.replace("200000", "20000");
    let several = ["SELECT 1", some.as_str(), "SELECT 2"];
    let jobs = (0..20).map(|token| {
        let sink = sink.clone();
        read_job(&primary, &several, ReplyTo { sink, token })
    });
    pool.run(jobs.collect());
    let mut rows = 0;
    let mut answered = 0;
    while answered < 20 {
        // No more than its two threads have begun before there was no room.
        assert!(pool.parked() <= 2, "{} are put aside", pool.parked());
        for reply in wait(receiver.recv()) {
            answered += usize::from(!reply.more);
            let piece = reply.outcome.expect("rows");
            rows += piece.results.iter().map(|r| r.rows.len()).sum::<usize>();
        }
    }
    assert_eq!(rows, 20 * 20_002);
}

#[test]
fn only_so_many_reads_wait_for_their_receivers() {
    let (_dir, _log, primary, _follower) = pair(&[]);
    let pool = pool();
    let receivers: Vec<_> = (0..80).map(|n| stalled_read(&pool, &primary, n)).collect();
    read(&pool, &primary, &["SELECT 1"]).expect("a thread is free");
    until("all have begun", || pool.queued() == 0);
    read(&pool, &primary, &["SELECT 1"]).expect("a thread is free");
    assert!(pool.parked() <= 32, "{} are put aside", pool.parked());
    let mut ended = 0;
    for drained in drain_all(receivers) {
        match drained {
            (200_000, None) => {}
            // On a busy machine some may have waited for too long as well.
            (_, Some(error))
                if matches!(
                    error.code(),
                    ErrorCode::Unavailable | ErrorCode::DeadlineExceeded
                ) =>
            {
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(ended >= 40, "{ended} were ended");
}

/// The real host, with a clock that can be put forward.
#[derive(Default)]
struct Ahead {
    millis: AtomicU64,
}

impl Host for Ahead {
    fn now(&self) -> Instant {
        SystemHost.now() + Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn unix_ms(&self) -> i64 {
        SystemHost.unix_ms()
    }

    fn random(&self) -> u64 {
        SystemHost.random()
    }

    fn spawn(&self, name: String, run: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        SystemHost.spawn(name, run)
    }

    fn spawn_blocking(&self, job: BlockingJob) {
        SystemHost.spawn_blocking(job);
    }
}

#[test]
fn receiver_that_takes_nothing_for_long_gets_an_error_and_no_state_is_held_for_it() {
    let (_dir, _log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    let host = Arc::new(Ahead::default());
    let pool = ReaderPool::start(1, host.clone()).expect("started");
    let (sink, mut receiver) = replies(1);
    let mut job = read_job(&primary, &[MANY], ReplyTo { sink, token: 1 });
    job.deadline += Duration::from_secs(3600);
    pool.run(vec![job]);
    until("it is put aside", || pool.parked() == 1);
    host.millis.store(9_000, Ordering::SeqCst);
    read(&pool, &primary, &["SELECT v FROM t"]).expect("read");
    assert_eq!(pool.parked(), 1);
    host.millis.store(11_000, Ordering::SeqCst);
    read(&pool, &primary, &["SELECT v FROM t"]).expect("read");
    assert_eq!(pool.parked(), 0);
    let (rows, error) = drain(&mut receiver);
    let error = error.expect("not all rows");
    assert!(rows > 0 && rows < 200_000, "{rows}");
    assert_eq!(error.code(), ErrorCode::DeadlineExceeded);
    assert!(
        error.message.contains("its receiver took no rows"),
        "{error:?}"
    );
}

const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

fn endless(pool: &ReaderPool, node: &Node) -> Answer {
    let (reply, receiver) = ReplyTo::oneshot();
    let mut job = read_job(node, &[ENDLESS], reply);
    job.deadline += Duration::from_secs(3600);
    pool.run(vec![job]);
    receiver
}

#[test]
fn reads_that_may_run_for_long_leave_a_thread_to_the_others() {
    let (_dir, _log, primary, _follower) = pair(&[]);
    let pool = pool();
    let receivers: Vec<_> = (0..4).map(|_| endless(&pool, &primary)).collect();
    let (reply, receiver) = ReplyTo::oneshot();
    let mut short = read_job(&primary, &["SELECT 1"], reply);
    short.deadline = Instant::now() + Duration::from_secs(9);
    pool.run(vec![short]);
    answer(receiver).expect("a thread is free");
    pool.shutdown();
    for receiver in receivers {
        assert_eq!(code(&answer(receiver)), ErrorCode::Unavailable);
    }
}

#[test]
fn answers_do_not_wait_for_a_long_read_after_them() {
    let (_dir, _log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    let pool = ReaderPool::start(1, SystemHost::shared()).expect("started");
    let (reply, quick) = ReplyTo::oneshot();
    let first = read_job(&primary, &["SELECT 1"], reply);
    let (reply, long) = ReplyTo::oneshot();
    let mut second = read_job(&primary, &[ENDLESS], reply);
    second.deadline += Duration::from_secs(3600);
    pool.run(vec![first, second]);
    answer(quick).expect("answered");
    pool.shutdown();
    assert_eq!(code(&answer(long)), ErrorCode::Unavailable);
}

#[test]
fn forgetting_a_database_ends_reads_that_run_and_reads_that_wait() {
    let (_dir, _log, primary, follower) = pair(&["CREATE TABLE t(v)"]);
    follower.assert_same(&primary);
    let pool = pool();
    let mut waiting = stalled_read(&pool, &follower, 1);
    until("it is put aside", || pool.parked() == 1);
    let running = endless(&pool, &follower);
    let queued = endless(&pool, &follower);
    assert!(pool.forget(follower.database.spec().id));
    assert_eq!(pool.parked(), 0);
    for receiver in [running, queued] {
        assert_eq!(code(&answer(receiver)), ErrorCode::Unavailable);
    }
    let (_, error) = drain(&mut waiting);
    assert_eq!(error.expect("ended").code(), ErrorCode::Unavailable);
    follower.stop();
}

#[test]
fn large_rows_come_in_messages_of_bounded_size() {
    let (_dir, _log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    let pool = pool();
    let (sink, mut receiver) = replies(64);
    let rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 40) SELECT zeroblob(2 << 20) FROM n";
    let reply = |token| ReplyTo {
        sink: sink.clone(),
        token,
    };
    pool.run(vec![read_job(&primary, &[rows], reply(1))]);
    // A write gives all its rows at once.
    let returning =
        "INSERT INTO t VALUES(1), (2), (3), (4), (5), (6), (7), (8) RETURNING zeroblob(2 << 20)";
    let (mut write, _) = sql_job(returning);
    write.reply = reply(2);
    primary.database.submit(vec![write]);
    let (mut read, mut wrote, mut ended) = (0, 0, 0);
    while ended < 2 {
        let message = wait(receiver.recv());
        let bytes: usize = message
            .iter()
            .flat_map(|reply| &reply.outcome.as_ref().expect("rows").results)
            .flat_map(|result| &result.rows)
            .map(prost::Message::encoded_len)
            .sum();
        assert!(bytes < 3 << 20, "a message of {bytes} bytes");
        for reply in message {
            let rows: usize = reply
                .outcome
                .expect("rows")
                .results
                .iter()
                .map(|r| r.rows.len())
                .sum();
            match reply.token {
                1 => read += rows,
                _ => wrote += rows,
            }
            ended += usize::from(!reply.more);
        }
    }
    assert_eq!((read, wrote), (40, 8));
}

#[test]
fn values_and_rows_beyond_the_limits_are_refused_at_once() {
    let (_dir, _log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    let pool = pool();
    let large_row = format!("SELECT {}", ["zeroblob(20 << 20)"; 3].join(", "));
    for sql in [
        "SELECT hex(zeroblob(400000000))",
        "SELECT zeroblob(1 << 26)",
        &large_row,
    ] {
        let error = read(&pool, &primary, &[sql]).expect_err(sql);
        assert_eq!(error.code(), ErrorCode::Sql, "{sql}: {error:?}");
        assert_eq!(
            error.sqlite_code,
            rusqlite::ffi::SQLITE_TOOBIG,
            "{sql}: {error:?}"
        );
    }
    let many = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 40) SELECT zeroblob(2 << 20) FROM n";
    assert_eq!(code(&read(&pool, &primary, &[many])), ErrorCode::Invalid);
    read(&pool, &primary, &["SELECT 1"]).expect("read");
}
