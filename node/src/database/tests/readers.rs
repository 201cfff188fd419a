//! The reader pool: what it runs, what it hands back, and that it waits for slow receivers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use halite_proto::v1::{self, ErrorCode};
use halite_sim_disk::CrashDisk;

use super::harness::*;
use crate::database::*;

fn pool() -> Arc<ReaderPool> {
    ReaderPool::start(2, SystemHost::shared()).expect("started")
}

fn read(pool: &ReaderPool, node: &Node, sqls: &[&str]) -> Result<CallResults, v1::Error> {
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
        ("PRAGMA query_only = OFF", ErrorCode::Invalid),
        ("", ErrorCode::Invalid),
    ] {
        assert_eq!(code(&read(&pool, &follower, &[sql])), expected, "{sql}");
    }
    // The connection is as good as before.
    read(&pool, &follower, &["SELECT 1"]).expect("read");
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
    pool.forget(follower.database.spec().id);
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
