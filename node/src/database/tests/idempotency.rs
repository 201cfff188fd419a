//! A retry is answered, not run again: here, in one batch, and on a new primary.

use halite_proto::v1::ErrorCode;

use super::harness::*;

const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)";

fn submit(
    node: &Node,
    job: (crate::database::WriteJob, Answer),
) -> Result<crate::database::CallResults, halite_proto::v1::Error> {
    node.database.submit(vec![job.0]);
    answer(job.1)
}

#[test]
fn retry_on_the_new_primary_gets_the_first_outcome() {
    let (_dir, log, old, new) = pair(&[TABLE]);
    let first = submit(&old, keyed("INSERT INTO t(v) VALUES('a')", key(1, 10))).expect("written");
    // The next one's answer is lost with its primary, but the entry is committed.
    log.set(Delivery::Held);
    let (lost, receiver) = keyed("INSERT INTO t(v) VALUES('b'), ('c')", key(1, 11));
    old.database.submit(vec![lost]);
    old.database.settle();
    let closed = old.database.close_lane(None);
    assert_eq!(code(&answer(receiver)), ErrorCode::OutcomeUnknown);
    answer(closed);
    log.set(Delivery::AtOnce);
    log.deliver();
    wait(
        old.database
            .applied()
            .wait_for(|applied| applied.position.txid.get() == 3),
    )
    .expect("alive");
    new.assert_same(&old);
    let expected = new.applied().raft_index;

    new.database.open_lane(LEADERSHIP);
    let again = submit(&new, keyed("INSERT INTO t(v) VALUES('a')", key(1, 10))).expect("known");
    assert_eq!(again.raft_index, first.raft_index);
    assert_eq!(
        again.results[0].last_insert_rowid,
        first.results[0].last_insert_rowid
    );
    let again = submit(
        &new,
        keyed("INSERT INTO t(v) VALUES('b'), ('c')", key(1, 11)),
    )
    .expect("known");
    assert_eq!(
        (again.raft_index, again.results[0].rows_affected),
        (expected, 2)
    );
    assert_eq!(new.integer("SELECT count(*) FROM t"), 3);
}

#[test]
fn twins_in_one_batch_are_run_once() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    let answers = primary.one_batch(vec![
        keyed("INSERT INTO t(v) VALUES('a')", key(1, 1)),
        keyed("INSERT INTO t(v) VALUES('a')", key(1, 1)),
        keyed("INSERT INTO t(v) VALUES('a')", key(2, 1)),
    ]);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(
        answers[2].as_ref().expect("other client").results[0].last_insert_rowid,
        2
    );
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 2);
}

#[test]
fn answered_calls_are_not_run_again() {
    let (_dir, _log, primary, _follower) = pair(&[TABLE]);
    submit(&primary, keyed("INSERT INTO t(v) VALUES('a')", key(1, 1))).expect("written");
    let (mut second, receiver) = keyed("INSERT INTO t(v) VALUES('b')", key(1, 2));
    second.answered_below = 2;
    primary.database.submit(vec![second]);
    answer(receiver).expect("written");
    assert_eq!(
        code(&submit(
            &primary,
            keyed("INSERT INTO t(v) VALUES('a')", key(1, 1))
        )),
        ErrorCode::Invalid
    );
    let (mut absurd, receiver) = keyed("INSERT INTO t(v) VALUES('c')", key(1, 5));
    absurd.answered_below = 6;
    primary.database.submit(vec![absurd]);
    assert_eq!(code(&answer(receiver)), ErrorCode::Invalid);
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 2);
}

#[test]
fn failed_call_may_be_retried() {
    let (_dir, log, primary, _follower) = pair(&[TABLE]);
    log.set(Delivery::Refused);
    let refused = submit(&primary, keyed("INSERT INTO t(v) VALUES('a')", key(1, 1)));
    assert_eq!(code(&refused), ErrorCode::Unavailable);
    log.set(Delivery::AtOnce);
    submit(&primary, keyed("INSERT INTO t(v) VALUES('a')", key(1, 1))).expect("written");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
}

#[test]
fn retry_gets_the_rows_of_the_first_try_or_is_told_that_they_are_not_kept() {
    const SMALL: &str = "INSERT INTO t(v) VALUES('a'), ('b') RETURNING id, v";
    const LARGE: &str = "INSERT INTO t(v) VALUES('c') RETURNING id, hex(zeroblob(100000))";
    let (_dir, _log, old, new) = pair(&[TABLE]);
    let first = submit(&old, keyed(SMALL, key(1, 1))).expect("written");
    assert_eq!(first.results[0].rows.len(), 2);
    let large = submit(&old, keyed(LARGE, key(1, 2))).expect("written");
    assert_eq!(large.results[0].rows.len(), 1);
    // A SELECT beside a write is a part of its outcome.
    let (mut batch, receiver) = keyed("INSERT INTO t(v) VALUES('d')", key(1, 3));
    batch.statements.push(halite_proto::v1::Statement {
        sql: "SELECT count(*) FROM t".to_owned(),
        ..halite_proto::v1::Statement::default()
    });
    let retried = batch.statements.clone();
    old.database.submit(vec![batch]);
    let batch = answer(receiver).expect("written");
    answer(old.database.close_lane(None));
    wait(
        new.database
            .applied()
            .wait_for(|applied| applied.position == old.applied().position),
    )
    .expect("alive");

    new.database.open_lane(LEADERSHIP);
    let again = submit(&new, keyed(SMALL, key(1, 1)));
    assert_eq!(again, Ok(first));
    let again = submit(&new, keyed(LARGE, key(1, 2)));
    assert_eq!(code(&again), ErrorCode::RowsNotKept);
    let (mut job, receiver) = keyed("", key(1, 3));
    job.statements = retried;
    new.database.submit(vec![job]);
    let again = answer(receiver);
    assert_eq!(again, Ok(batch));
    assert_eq!(new.integer("SELECT count(*) FROM t"), 4);
}
