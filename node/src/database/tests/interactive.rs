//! Interactive transactions hold the lane, and let it go whatever happens.

use std::time::{Duration, Instant};

use halite_proto::v1::ErrorCode;

use super::harness::*;
use crate::database::{Transaction, TransactionOptions};

const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)";

fn begin(node: &Node) -> Transaction {
    wait(node.database.begin(options_now()))
        .map_err(|error| error.message)
        .expect("begun")
}

#[test]
fn statements_see_each_other_and_nobody_else_does() {
    let (_dir, log, primary, follower) = pair(&[TABLE]);
    let entries = log.committed().len();
    let mut transaction = begin(&primary);
    let (other, other_answer) = sql_job("INSERT INTO t(v) VALUES('other')");
    primary.database.submit(vec![other]);
    let inserted =
        wait(transaction.execute(statement("INSERT INTO t(v) VALUES('a')"))).expect("inserted");
    assert_eq!((inserted.rows_affected, inserted.last_insert_rowid), (1, 1));
    let failed =
        wait(transaction.execute(statement("INSERT INTO t(v) VALUES('a')"))).expect_err("unique");
    assert!(!failed.ended);
    wait(transaction.execute(statement("SAVEPOINT s"))).expect("savepoint");
    wait(transaction.execute(statement("INSERT INTO t(v) VALUES('b')"))).expect("inserted");
    wait(transaction.execute(statement("ROLLBACK TO s"))).expect("rolled back to");
    let refused = wait(transaction.execute(statement("COMMIT"))).expect_err("refused");
    assert_eq!(
        (refused.error.code(), refused.ended),
        (ErrorCode::Invalid, false)
    );
    let refused = wait(transaction.execute(statement("BEGIN"))).expect_err("refused");
    let words = "cannot start a transaction within a transaction";
    assert_eq!(
        (refused.error.sqlite_code, refused.error.message.as_str()),
        (1, words)
    );
    let rows = wait(transaction.execute(statement("SELECT v FROM t")))
        .expect("read")
        .rows;
    assert_eq!(rows.len(), 1);
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 0);
    let committed = wait(transaction.commit()).expect("committed");
    answer(other_answer).expect("the lane is free");
    assert_eq!(log.committed().len(), entries + 2);
    assert_eq!(log.committed()[entries].index, committed.raft_index);
    follower.assert_same(&primary);
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 2);
}

#[test]
fn savepoint_allowed_in_a_transaction_is_still_refused_outside() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let mut transaction = begin(&primary);
    wait(transaction.execute(statement("SAVEPOINT s"))).expect("savepoint");
    wait(transaction.rollback());
    assert_eq!(code(&primary.run("SAVEPOINT s")), ErrorCode::Invalid);
}

#[test]
fn dropped_or_rolled_back_transaction_leaves_nothing() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let mut transaction = begin(&primary);
    wait(transaction.execute(statement("INSERT INTO t(v) VALUES('a')"))).expect("inserted");
    drop(transaction);
    primary
        .run("INSERT INTO t(v) VALUES('b')")
        .expect("the lane is free");
    let mut transaction = begin(&primary);
    wait(transaction.execute(statement("INSERT INTO t(v) VALUES('c')"))).expect("inserted");
    wait(transaction.rollback());
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
}

#[test]
fn abandoned_begin_does_not_hold_the_lane() {
    let (_dir, log, primary, _follower) = pair(&[TABLE]);
    log.set(Delivery::Held);
    let (write, receiver) = sql_job("INSERT INTO t(v) VALUES('a')");
    primary.database.submit(vec![write]);
    primary.database.settle();
    let begun = wait(async {
        tokio::time::timeout(
            Duration::from_millis(1),
            primary.database.begin(options_now()),
        )
        .await
    });
    assert!(begun.is_err(), "the gate is shut");
    log.set(Delivery::AtOnce);
    log.deliver();
    answer(receiver).expect("written");
    let started = Instant::now();
    primary
        .run("INSERT INTO t(v) VALUES('b')")
        .expect("the lane is free");
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn transaction_ends_at_its_deadline() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let options = TransactionOptions {
        duration_max: Duration::from_millis(50),
        ..options_now()
    };
    let mut transaction = wait(primary.database.begin(options))
        .map_err(|error| error.message)
        .expect("begun");
    wait(transaction.execute(statement("INSERT INTO t(v) VALUES('a')"))).expect("inserted");
    // Comes back when the lane has let go.
    primary
        .run("INSERT INTO t(v) VALUES('b')")
        .expect("the lane is free");
    let late = wait(transaction.execute(statement("SELECT 1"))).expect_err("over");
    assert_eq!(
        (late.error.code(), late.ended),
        (ErrorCode::DeadlineExceeded, true)
    );
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);

    let mut transaction = wait(primary.database.begin(options))
        .map_err(|error| error.message)
        .expect("begun");
    let endless =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let late = wait(transaction.execute(statement(endless))).expect_err("interrupted");
    assert_eq!(
        (late.error.code(), late.ended),
        (ErrorCode::DeadlineExceeded, true)
    );
}

#[test]
fn closing_the_lane_ends_the_transaction_even_in_the_middle_of_a_statement() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let mut transaction = begin(&primary);
    wait(transaction.execute(statement("INSERT INTO t(v) VALUES('a')"))).expect("inserted");
    answer(primary.database.close_lane(None));
    let late = wait(transaction.commit()).expect_err("over");
    assert_eq!(
        (late.error.code(), late.ended),
        (ErrorCode::NotPrimary, true)
    );
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 0);

    primary.database.open_lane(LEADERSHIP);
    let mut transaction = begin(&primary);
    let endless =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let closed = std::thread::scope(|scope| {
        let running = scope.spawn(|| wait(transaction.execute(statement(endless))));
        let closed = primary.database.close_lane(None);
        answer(closed);
        running.join().expect("joined")
    });
    assert_eq!(
        closed.expect_err("interrupted").error.code(),
        ErrorCode::NotPrimary
    );
}

#[test]
fn transaction_ends_when_its_caller_goes_in_the_middle_of_a_statement() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let mut transaction = begin(&primary);
    wait(transaction.execute(statement("INSERT INTO t(v) VALUES('a')"))).expect("inserted");
    let endless =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    wait(async {
        let going = tokio::time::timeout(
            Duration::from_millis(100),
            transaction.execute(statement(endless)),
        );
        going.await.expect_err("it is endless");
    });
    drop(transaction);
    primary
        .run("INSERT INTO t(v) VALUES('b')")
        .expect("the lane is free");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
}

#[test]
fn violated_deferred_constraint_leaves_the_transaction_open() {
    let (_dir, _log, primary, _follower) = pair(&[
        "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
        "CREATE TABLE child(p REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)",
    ]);
    let mut transaction = begin(&primary);
    wait(transaction.execute(statement("INSERT INTO child VALUES(5)"))).expect("deferred");
    let failed = wait(transaction.commit()).expect_err("violated");
    assert_eq!((failed.error.sqlite_code, failed.ended), (787, false));
    wait(transaction.execute(statement("INSERT INTO parent VALUES(5)"))).expect("made good");
    wait(transaction.commit()).expect("committed");
}

#[test]
fn transaction_under_a_key_is_not_begun_twice() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let options = || TransactionOptions {
        key: key(3, 1),
        ..options_now()
    };
    let mut transaction = wait(primary.database.begin(options()))
        .map_err(|error| error.message)
        .expect("begun");
    wait(transaction.execute(statement("INSERT INTO t(v) VALUES('a')"))).expect("inserted");
    wait(transaction.commit()).expect("committed");
    let again = wait(primary.database.begin(options()))
        .err()
        .expect("known");
    assert_eq!(again.code(), ErrorCode::AlreadyExists);
}
