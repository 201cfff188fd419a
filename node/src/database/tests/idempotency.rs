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
