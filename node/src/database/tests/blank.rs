//! A blank database is given up only where nothing can be lost with it.

use halite_proto::v1;

use super::harness::*;
use crate::database::*;

fn seal(node: &Node) -> Option<Sealed> {
    answer(node.database.seal_if_blank())
}

fn blank() -> (tempfile::TempDir, Node) {
    let dir = tempfile::tempdir().expect("dir");
    let node = Node::primary(&TestLog::new(), &dir.path().join("a.db"));
    (dir, node)
}

fn assert_refused(node: &Node) {
    let refused = node.run("CREATE TABLE t (a)").expect_err("refused");
    assert_eq!(refused.code(), v1::ErrorCode::Unavailable);
    assert_eq!(refused.message, "the database is being dropped");
    assert!(refused.retry_after_ms > 0);
}

#[test]
fn a_blank_database_takes_no_writes_until_the_seal_is_gone() {
    let (_dir, node) = blank();
    let sealed = seal(&node).expect("blank");
    assert_eq!(sealed.leadership(), LEADERSHIP);
    assert_refused(&node);
    let begun = wait(node.database.begin(options_now()));
    let refused = begun.err().map(|error| error.code());
    assert_eq!(refused, Some(v1::ErrorCode::Unavailable));
    assert!(seal(&node).is_none(), "one at a time");
    drop(sealed);
    node.run("CREATE TABLE t (a)").expect("written");
    assert!(seal(&node).is_none(), "it holds something");
}

#[test]
fn a_seal_that_nobody_waits_for_is_gone_at_once() {
    let (_dir, node) = blank();
    drop(node.database.seal_if_blank());
    node.database.settle();
    node.run("CREATE TABLE t (a)").expect("written");
}

#[test]
fn what_is_under_way_or_waits_keeps_a_database_from_being_sealed() {
    let (_dir, node) = blank();
    node.log.set(Delivery::Held);
    let (first, written) = sql_job("CREATE TABLE t (a)");
    node.database.submit(vec![first]);
    node.database.settle();
    assert_eq!(node.log.held(), 1, "at the gate");
    let asked = node.database.seal_if_blank();
    node.log.set(Delivery::AtOnce);
    node.log.deliver();
    answer(written).expect("acknowledged");
    assert!(answer(asked).is_none());

    let (_dir, node) = blank();
    let mut transaction = wait(node.database.begin(options_now())).expect("begun");
    let asked = node.database.seal_if_blank();
    wait(transaction.execute(statement("CREATE TABLE t (a)"))).expect("ran");
    wait(transaction.commit()).expect("acknowledged");
    assert!(answer(asked).is_none());

    // Its time comes after the question, and it is not refused.
    let (_dir, node) = blank();
    let transaction = wait(node.database.begin(options_now())).expect("begun");
    let asked = node.database.seal_if_blank();
    let (job, written) = sql_job("CREATE TABLE t (a)");
    node.database.submit(vec![job]);
    wait(transaction.rollback());
    assert!(answer(asked).is_none());
    answer(written).expect("acknowledged");
}

#[test]
fn only_a_lane_that_is_open_gives_its_word() {
    let dir = tempfile::tempdir().expect("dir");
    let node = Node::start(&TestLog::new(), &dir.path().join("a.db"));
    assert!(seal(&node).is_none());
    node.database.open_lane(LEADERSHIP);
    let sealed = seal(&node).expect("blank");
    answer(node.database.close_lane(None));
    assert!(seal(&node).is_none());
    assert_eq!(
        code(&node.run("CREATE TABLE t (a)")),
        v1::ErrorCode::NotPrimary
    );
    drop(sealed);
    assert_eq!(
        code(&node.run("CREATE TABLE t (a)")),
        v1::ErrorCode::NotPrimary
    );
}

/// A drop that is proposed under the leadership that was named may still be on its way.
#[test]
fn a_seal_holds_when_the_lane_is_opened_again_under_its_leadership_and_no_longer() {
    let (_dir, node) = blank();
    let sealed = seal(&node).expect("blank");
    answer(node.database.close_lane(None));
    node.database.open_lane(LEADERSHIP);
    assert_refused(&node);
    answer(node.database.close_lane(None));
    let next = Leadership {
        term: LEADERSHIP.term + 1,
        ..LEADERSHIP
    };
    node.database.open_lane(next);
    let again = seal(&node).expect("blank");
    assert_eq!(again.leadership(), next);
    drop(sealed);
    assert_refused(&node);
    // Nobody knows what became of the drop.
    again.keep();
    assert_refused(&node);
    answer(node.database.close_lane(None));
    node.database.open_lane(LEADERSHIP);
    node.run("CREATE TABLE t (a)").expect("written");
}
