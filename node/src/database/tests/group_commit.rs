//! Jobs in one batch do not disturb each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use halite_proto::v1::{self, ErrorCode};

use super::harness::*;
use crate::database::{Database, DatabaseOptions, Redo, ReplyTo, replies};

const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT UNIQUE)";

#[test]
fn one_failing_job_leaves_the_others_alone() {
    let (_dir, log, primary, follower) = pair(&[TABLE]);
    let entries = log.committed().len();
    let answers = primary.one_batch(vec![
        sql_job("INSERT INTO t(v) VALUES('a')"),
        sql_job("INSERT INTO t(v) VALUES('b'), ('a')"),
        sql_job("INSERT OR FAIL INTO t(v) VALUES('c'), ('a')"),
        sql_job("INSERT INTO t(v) VALUES('d')"),
        sql_job("this is not SQL"),
        job(vec![
            statement("INSERT INTO t(v) VALUES('e')"),
            statement("INSERT INTO t(v) VALUES('a')"),
        ]),
    ]);
    assert!(answers[0].is_ok() && answers[3].is_ok());
    for failed in [1, 2, 4, 5] {
        assert_eq!(code(&answers[failed]), ErrorCode::Sql, "{failed}");
    }
    let error = answers[5].as_ref().expect_err("unique");
    assert_eq!((error.sqlite_code, error.statement_index), (2067, 1));
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 2);
    assert_eq!(
        primary.integer("SELECT count(*) FROM t WHERE v IN ('a', 'd')"),
        2
    );
    assert_eq!(
        log.committed().len(),
        entries + 2,
        "the blocker and one batch"
    );
    follower.assert_same(&primary);
}

#[test]
fn job_that_ends_the_transaction_does_not_take_the_others_along() {
    let (_dir, log, primary, follower) = pair(&[TABLE]);
    let entries = log.committed().len();
    let answers = primary.one_batch(vec![
        sql_job("INSERT INTO t(v) VALUES('a')"),
        sql_job("INSERT OR ROLLBACK INTO t(v) VALUES('b'), ('a')"),
        sql_job("INSERT INTO t(v) VALUES('c')"),
        sql_job("INSERT OR ROLLBACK INTO t(v) VALUES('c')"),
        sql_job("INSERT INTO t(v) VALUES('d')"),
    ]);
    let kinds: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(kinds, [true, false, true, false, true]);
    assert_eq!(code(&answers[1]), ErrorCode::Sql);
    assert_eq!(
        primary.integer("SELECT count(*) FROM t WHERE v IN ('a', 'c', 'd')"),
        3
    );
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 3);
    // The blocker; then what came before a job that ended the transaction, and what came after it.
    assert_eq!(log.committed().len(), entries + 4);
    follower.assert_same(&primary);
}

#[test]
fn deferred_foreign_key_fails_only_the_job_that_violates_it() {
    let (_dir, _log, primary, follower) = pair(&[
        "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
        "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)",
    ]);
    let mut jobs: Vec<_> = (1..=9)
        .map(|id| sql_job(&format!("INSERT INTO parent VALUES({id})")))
        .collect();
    jobs.insert(4, sql_job("INSERT INTO child(p) VALUES(1000)"));
    // Violated in between, made good at the end.
    jobs.push(job(vec![
        statement("INSERT INTO child(p) VALUES(77)"),
        statement("INSERT INTO parent VALUES(77)"),
    ]));
    jobs.push(job(vec![
        statement("PRAGMA defer_foreign_keys = ON"),
        statement("INSERT INTO child(p) VALUES(2000)"),
    ]));
    let answers = primary.one_batch(jobs);
    for (at, answer) in answers.iter().enumerate() {
        let violates = at == 4 || at == 11;
        assert_eq!(answer.is_err(), violates, "{at}: {answer:?}");
    }
    assert_eq!(
        answers[4].as_ref().expect_err("foreign key").sqlite_code,
        787
    );
    assert_eq!(primary.integer("SELECT count(*) FROM parent"), 10);
    assert_eq!(primary.integer("SELECT count(*) FROM child"), 1);
    follower.assert_same(&primary);
}

#[test]
fn each_job_gets_its_own_rows_changes_and_rowid() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let answers = primary.one_batch(vec![
        sql_job("INSERT INTO t(v) VALUES('a'), ('b')"),
        sql_job("UPDATE t SET v = v || '!' RETURNING id, v"),
        sql_job("CREATE TABLE other(x)"),
        sql_job("SELECT count(*) AS n FROM t"),
        sql_job("DELETE FROM t WHERE id = 99"),
        job(vec![
            v1::Statement {
                args: vec![integer(50), text("z")],
                ..statement("INSERT INTO t VALUES(?1, ?2)")
            },
            statement("SELECT last_insert_rowid()"),
        ]),
    ]);
    let results: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.expect("ok").results)
        .collect();
    assert_eq!(
        (results[0][0].rows_affected, results[0][0].last_insert_rowid),
        (2, 2)
    );
    assert_eq!(
        (results[1][0].rows_affected, results[1][0].last_insert_rowid),
        (2, 0)
    );
    assert_eq!(results[1][0].columns, ["id", "v"]);
    assert_eq!(results[1][0].rows[1].values, [integer(2), text("b!")]);
    assert_eq!(
        (results[2][0].rows_affected, results[2][0].last_insert_rowid),
        (0, 0)
    );
    assert_eq!(results[3][0].rows[0].values, [integer(2)]);
    assert_eq!(results[4][0].rows_affected, 0);
    assert_eq!(
        (results[5][0].rows_affected, results[5][0].last_insert_rowid),
        (1, 50)
    );
    assert_eq!(results[5][1].rows[0].values, [integer(50)]);
}

#[test]
fn jobs_that_change_nothing_make_no_entry() {
    let (_dir, log, primary, _follower) = pair(&[TABLE]);
    let entries = log.committed().len();
    log.set(Delivery::Refused);
    let index = primary.applied().raft_index;
    assert_eq!(primary.run("SELECT 1").expect("read").raft_index, index);
    assert_eq!(
        primary.run("UPDATE t SET v = 'x'").expect("no row").results[0].rows_affected,
        0
    );
    assert_eq!(log.committed().len(), entries);
    assert_eq!(
        code(&primary.run("INSERT INTO t(v) VALUES('a')")),
        ErrorCode::Unavailable
    );
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 0);
}

#[test]
fn vacuum_runs_alone_and_replicates() {
    let (_dir, _log, primary, follower) = pair(&["CREATE TABLE t(v)"]);
    primary
        .run("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 500) INSERT INTO t SELECT randomblob(4000) FROM n")
        .expect("filled");
    primary.run("DELETE FROM t").expect("emptied");
    let before = primary.applied().page_count;
    let answers = primary.one_batch(vec![
        sql_job("INSERT INTO t VALUES('kept')"),
        sql_job("/* now */ VACUUM"),
        sql_job("INSERT INTO t VALUES('kept too')"),
    ]);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(primary.applied().page_count < before / 10);
    follower.assert_same(&primary);
    assert_eq!(follower.integer("SELECT count(*) FROM t"), 2);
}

const ENDLESS: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) INSERT INTO t(v) SELECT x FROM n WHERE x < 0";

#[test]
fn job_is_interrupted_at_its_deadline_and_the_others_are_kept() {
    let (_dir, _log, primary, follower) = pair(&[TABLE]);
    let (mut endless, never) = sql_job(ENDLESS);
    // Time enough to be begun.
    endless.deadline = Instant::now() + Duration::from_secs(2);
    let answers = primary.one_batch(vec![
        sql_job("INSERT INTO t(v) VALUES('a')"),
        (endless, never),
        sql_job("INSERT INTO t(v) VALUES('b')"),
    ]);
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(code(&answers[1]), ErrorCode::DeadlineExceeded);
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 2);
    follower.assert_same(&primary);
}

#[test]
fn job_is_interrupted_when_its_caller_goes_and_the_others_are_kept() {
    let (_dir, _log, primary, follower) = pair(&[TABLE]);
    let (mut endless, caller) = sql_job(ENDLESS);
    endless.deadline = Instant::now() + PATIENCE * 10;
    let (before, first) = sql_job("INSERT INTO t(v) VALUES('a')");
    primary.database.submit(vec![before, endless]);
    while primary.database.status().queued_jobs > 0 {
        std::thread::yield_now();
    }
    let (after, last) = sql_job("INSERT INTO t(v) VALUES('b')");
    primary.database.submit(vec![after]);
    drop(caller);
    answer(first).expect("written");
    answer(last).expect("written");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 2);
    follower.assert_same(&primary);
}

#[test]
fn job_of_short_statements_ends_between_them_when_its_caller_goes() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let (sink, receiver) = replies(1);
    let (mut several, _never) = job(vec![statement("INSERT INTO t(v) VALUES('a')"); 2]);
    several.reply = ReplyTo { sink, token: 1 };
    // Gone before it began: not even the first one is run.
    drop(receiver);
    primary.database.submit(vec![several]);
    primary
        .run("INSERT INTO t(v) VALUES('b')")
        .expect("written");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
}

#[test]
fn retry_of_a_call_whose_first_caller_is_gone_is_carried_out_once() {
    let (_dir, log, primary, follower) = pair(&[TABLE]);
    // It was past its commit when the caller went: the retry gets what became of it.
    log.set(Delivery::Held);
    let (first, caller) = keyed("INSERT INTO t(v) VALUES('a')", key(1, 1));
    primary.database.submit(vec![first]);
    primary.database.settle();
    drop(caller);
    let (retry, again) = keyed("INSERT INTO t(v) VALUES('a')", key(1, 1));
    primary.database.submit(vec![retry]);
    log.set(Delivery::AtOnce);
    log.deliver();
    answer(again).expect("recorded");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
    // It was interrupted: the retry is carried out.
    let slow = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000) INSERT INTO t(v) SELECT x FROM n WHERE x = 1000000";
    let (first, caller) = keyed(slow, key(1, 2));
    primary.database.submit(vec![first]);
    drop(caller);
    let (retry, again) = keyed(slow, key(1, 2));
    primary.database.submit(vec![retry]);
    answer(again).expect("carried out");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 2);
    follower.assert_same(&primary);
}

#[test]
fn expired_job_is_not_run() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let (mut late, answered) = sql_job("INSERT INTO t(v) VALUES('a')");
    late.deadline = Instant::now();
    primary.database.submit(vec![late]);
    assert_eq!(code(&answer(answered)), ErrorCode::Unavailable);
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 0);
}

#[test]
fn arguments_are_checked() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let named = |name: &str| v1::NamedValue {
        name: name.into(),
        value: Some(text("x")),
    };
    let cases: Vec<(&str, Vec<v1::Value>, Vec<v1::NamedValue>, bool)> = vec![
        ("INSERT INTO t(v) VALUES(?1)", vec![text("a")], vec![], true),
        ("INSERT INTO t(v) VALUES(?1)", vec![], vec![], false),
        (
            "INSERT INTO t(v) VALUES(?1)",
            vec![text("b"), text("c")],
            vec![],
            false,
        ),
        (
            "INSERT INTO t(v) VALUES(:v)",
            vec![],
            vec![named(":v")],
            true,
        ),
        (
            "INSERT INTO t(v) VALUES(:v)",
            vec![],
            vec![named(":w")],
            false,
        ),
        (
            "INSERT INTO t(id, v) VALUES(:i, :v)",
            vec![],
            vec![named(":v")],
            false,
        ),
        ("", vec![], vec![], false),
        ("-- nothing", vec![], vec![], false),
        ("SELECT 1; SELECT 2", vec![], vec![], false),
        ("SELECT 1; -- that is all", vec![], vec![], true),
    ];
    for (sql, args, named_args, fine) in cases {
        let result = primary.call(vec![v1::Statement {
            sql: sql.into(),
            args,
            named_args,
        }]);
        assert_eq!(result.is_ok(), fine, "{sql}: {result:?}");
        if !fine {
            assert_eq!(code(&result), ErrorCode::Invalid, "{sql}");
        }
    }
}

#[test]
fn slow_batch_is_cut_and_everybody_is_answered() {
    let dir = tempfile::tempdir().expect("dir");
    let log = TestLog::new();
    let options = DatabaseOptions {
        batch_work_max: Duration::ZERO,
        ..options()
    };
    let database = Database::open(
        spec(&dir.path().join("a.db")),
        Redo::nothing(),
        log.clone(),
        Arc::new(Checkpoints::default()),
        options,
    )
    .expect("opened");
    log.follow(&database);
    database.open_lane(LEADERSHIP);
    let mut jobs = vec![sql_job(TABLE)];
    jobs.extend((0..9).map(|n| sql_job(&format!("INSERT INTO t(v) VALUES({n})"))));
    let (jobs, receivers): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    database.submit(jobs);
    for (n, receiver) in receivers.into_iter().enumerate() {
        let result = answer(receiver).expect("written").results.remove(0);
        assert_eq!(result.last_insert_rowid, n as i64, "in order");
    }
    assert_eq!(log.committed().len(), 10, "each is a batch of its own");
}
