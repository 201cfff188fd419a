//! Who decides over a commit, and what becomes of the ones that were refused.

use std::io;
use std::sync::Arc;

use halite_proto::v1::ErrorCode;

use super::harness::*;
use crate::database::{ApplyError, ChunkSource, Health, Leadership};

const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)";

#[test]
fn nothing_is_visible_before_the_entry_comes_back() {
    let (_dir, log, primary, _follower) = pair(&[TABLE]);
    log.set(Delivery::Held);
    let (write, receiver) = sql_job("INSERT INTO t(v) VALUES('a')");
    primary.database.submit(vec![write]);
    primary.database.settle();
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 0);
    log.deliver();
    let results = answer(receiver).expect("written");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
    assert_eq!(results.raft_index, primary.applied().raft_index);
}

#[test]
fn entry_of_a_closed_gate_is_applied_when_it_comes_after_all() {
    let (_dir, log, primary, follower) = pair(&[TABLE]);
    log.set(Delivery::Held);
    let (write, receiver) = sql_job("INSERT INTO t(v) VALUES('a')");
    primary.database.submit(vec![write]);
    primary.database.settle();
    let (waiting, never) = sql_job("INSERT INTO t(v) VALUES('b')");
    primary.database.submit(vec![waiting]);
    answer(primary.database.close_lane(None));
    assert_eq!(code(&answer(receiver)), ErrorCode::OutcomeUnknown);
    assert_eq!(code(&answer(never)), ErrorCode::NotPrimary);
    assert_eq!(code(&primary.run("SELECT 1")), ErrorCode::NotPrimary);
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 0);
    log.set(Delivery::AtOnce);
    log.deliver();
    let mut applied = primary.database.applied();
    wait(applied.wait_for(|applied| applied.position.txid.get() == 2)).expect("alive");
    follower.assert_same(&primary);
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
    primary.database.open_lane(Leadership {
        term: 2,
        leader_id: 1,
    });
    primary
        .run("INSERT INTO t(v) VALUES('c')")
        .expect("open again");
    follower.assert_same(&primary);
}

#[test]
fn foreign_entry_takes_the_transaction_id() {
    let (dir, log, primary, follower) = pair(&[TABLE]);
    // Another node at the same position, whose entry wins.
    let other_log = TestLog::new();
    let other = Node::start(&other_log, &dir.path().join("c.db"));
    for entry in log.committed() {
        answer(other.database.apply(entry)).expect("applied");
    }
    other.database.open_lane(LEADERSHIP);
    other
        .run("INSERT INTO t(v) VALUES('theirs')")
        .expect("written there");
    let theirs = other_log.committed().remove(0).command;

    log.set(Delivery::Held);
    let (write, receiver) = sql_job("INSERT INTO t(v) VALUES('ours')");
    primary.database.submit(vec![write]);
    primary.database.settle();
    log.commit(theirs);
    assert_eq!(code(&answer(receiver)), ErrorCode::OutcomeUnknown);
    log.lose();
    caught_up(&primary, &other).assert_same(&other);
    follower.assert_same(&primary);
    assert_eq!(
        primary.integer("SELECT count(*) FROM t WHERE v = 'theirs'"),
        1
    );
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
}

/// Waits until `node` stands where `other` does.
fn caught_up<'a>(node: &'a Node, other: &Node) -> &'a Node {
    let wanted = other.applied().position;
    let mut applied = node.database.applied();
    wait(applied.wait_for(|applied| applied.position == wanted)).expect("alive");
    node
}

#[test]
fn large_transaction_travels_in_chunks() {
    let (_dir, log, primary, follower) = pair(&["CREATE TABLE t(v)"]);
    primary
        .run("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1500) INSERT INTO t SELECT randomblob(3500) FROM n")
        .expect("written");
    let last = log.committed().pop().expect("entry").command;
    assert!(last.chunks >= 5, "chunks={}", last.chunks);
    assert!(last.data.is_empty());
    follower.assert_same(&primary);
    assert_eq!(follower.integer("SELECT count(*) FROM t"), 1500);
}

const LARGE: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3000) INSERT INTO t SELECT randomblob(3500) FROM n";

#[test]
fn chunks_wait_until_those_before_them_are_applied() {
    let (_dir, log, primary, follower) = pair(&["CREATE TABLE t(v)"]);
    log.set(Delivery::Held);
    let (write, receiver) = sql_job(LARGE);
    primary.database.submit(vec![write]);
    primary.database.settle();
    let mut proposed = log.chunks();
    assert!(proposed <= 4, "more than 4 MiB on their way: {proposed}");
    assert_eq!(log.held(), 0, "closed before its chunks are taken in");
    while log.held() == 0 {
        log.apply_chunks();
        primary.database.settle();
        assert!(log.chunks() > proposed || log.held() > 0, "stands still");
        assert!(log.chunks() <= proposed + 4, "more than 4 MiB on their way");
        proposed = log.chunks();
    }
    log.deliver();
    answer(receiver).expect("written");
    follower.assert_same(&primary);
}

#[test]
fn a_lane_that_is_closed_while_its_chunks_wait_writes_nothing() {
    let (_dir, log, primary, follower) = pair(&["CREATE TABLE t(v)"]);
    log.set(Delivery::Held);
    let (write, receiver) = sql_job(LARGE);
    primary.database.submit(vec![write]);
    primary.database.settle();
    answer(primary.database.close_lane(None));
    assert_eq!(code(&answer(receiver)), ErrorCode::NotPrimary);
    log.lose();
    log.apply_chunks();
    log.set(Delivery::AtOnce);
    primary.database.open_lane(Leadership {
        term: 2,
        leader_id: 1,
    });
    primary.run("INSERT INTO t(v) VALUES('c')").expect("open");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
    follower.assert_same(&primary);
}

#[test]
fn a_transaction_of_which_a_chunk_was_turned_away_is_proposed_anew() {
    let (_dir, log, primary, follower) = pair(&["CREATE TABLE t(v)"]);
    log.set(Delivery::Held);
    let (write, receiver) = sql_job(LARGE);
    primary.database.submit(vec![write]);
    primary.database.settle();
    let (proposed, first) = (log.chunks(), log.last_chunk().proposal_id);
    // Of a transaction that is over.
    primary.database.refuse(first.wrapping_sub(1));
    log.apply_chunks();
    primary.database.settle();
    assert!(log.chunks() > proposed, "ended by what was not its own");
    assert_eq!(log.last_chunk().proposal_id, first);
    // While it waits for room, and when all of it was proposed.
    primary.database.refuse(first);
    log.apply_chunks();
    primary.database.settle();
    let second = log.last_chunk().proposal_id;
    assert_ne!(second, first, "the rest was proposed all the same");
    all_chunks_are_applied(&log, &primary);
    log.lose();
    primary.database.refuse(second);
    primary.database.settle();
    assert_ne!(log.last_chunk().proposal_id, second);
    all_chunks_are_applied(&log, &primary);
    log.deliver();
    answer(receiver).expect("written");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 3000);
    follower.assert_same(&primary);
}

#[test]
fn a_transaction_whose_chunks_are_always_turned_away_is_not_written() {
    let (_dir, log, primary, follower) = pair(&["CREATE TABLE t(v)"]);
    log.set(Delivery::Held);
    let (write, receiver) = sql_job(LARGE);
    primary.database.submit(vec![write]);
    for _ in 0..5 {
        primary.database.settle();
        primary.database.refuse(log.last_chunk().proposal_id);
        log.apply_chunks();
    }
    assert_eq!(code(&answer(receiver)), ErrorCode::Unavailable);
    assert_eq!(log.held(), 0, "closed though a part is missing");
    log.set(Delivery::AtOnce);
    primary.run("INSERT INTO t(v) VALUES('c')").expect("open");
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 1);
    follower.assert_same(&primary);
}

/// Until the entry is proposed that closes a large transaction.
fn all_chunks_are_applied(log: &TestLog, primary: &Node) {
    while log.held() == 0 {
        log.apply_chunks();
        primary.database.settle();
    }
}

#[test]
fn gap_and_divergence_stop_a_follower_and_are_told() {
    let (dir, log, primary, _follower) = pair(&[TABLE]);
    primary
        .run("INSERT INTO t(v) VALUES('a')")
        .expect("written");
    primary
        .run("INSERT INTO t(v) VALUES('b')")
        .expect("written");
    let entries = log.committed();
    let lone = TestLog::new();
    let node = Node::start(&lone, &dir.path().join("c.db"));
    answer(node.database.apply(entries[0].clone())).expect("applied");
    answer(node.database.apply(entries[0].clone())).expect("skipped");
    assert!(matches!(
        answer(node.database.apply(entries[2].clone())),
        Err(ApplyError::Gap { .. })
    ));
    assert!(matches!(
        answer(node.database.apply(entries[1].clone())),
        Err(ApplyError::NeedsRepair(_))
    ));
    assert!(matches!(
        *node.database.health().borrow(),
        Health::NeedsRepair { readable: true, .. }
    ));
    assert!(!node.database.status().health.trouble().is_empty());

    let node = Node::start(&lone, &dir.path().join("d.db"));
    answer(node.database.apply(entries[0].clone())).expect("applied");
    let mut other = entries[1].clone();
    other.command.pre_checksum ^= 1;
    assert!(matches!(
        answer(node.database.apply(other)),
        Err(ApplyError::Diverged { .. })
    ));

    let node = Node::start(&lone, &dir.path().join("e.db"));
    let mut torn = entries[0].clone();
    torn.command.data.truncate(torn.command.data.len() - 9);
    assert!(matches!(
        answer(node.database.apply(torn)),
        Err(ApplyError::Corrupt { .. })
    ));
    assert_eq!(node.applied().position.txid.get(), 0);
}

#[test]
fn stale_entry_passes_a_shut_gate() {
    let (_dir, log, primary, _follower) = pair(&[TABLE]);
    log.set(Delivery::Held);
    let (write, receiver) = sql_job("INSERT INTO t(v) VALUES('a')");
    primary.database.submit(vec![write]);
    primary.database.settle();
    answer(primary.database.apply(log.committed()[0].clone())).expect("skipped");
    log.deliver();
    answer(receiver).expect("written");
}

#[test]
fn shutdown_at_a_shut_gate_rolls_back() {
    let (_dir, log, primary, _follower) = pair(&[TABLE]);
    log.set(Delivery::Held);
    let (write, receiver) = sql_job("INSERT INTO t(v) VALUES('a')");
    primary.database.submit(vec![write]);
    primary.database.settle();
    let database = primary.database.clone();
    primary.stop();
    assert_eq!(code(&answer(receiver)), ErrorCode::OutcomeUnknown);
    assert!(wait(database.apply(log.committed()[0].clone())).is_err());
}

#[test]
fn entry_whose_chunks_have_left_the_log_needs_repair() {
    struct Gone;
    impl ChunkSource for Gone {
        fn chunk(&self, _number: u32) -> io::Result<bytes::Bytes> {
            Err(io::ErrorKind::NotFound.into())
        }
    }
    let (dir, log, _primary, _follower) = pair(&[TABLE]);
    let node = Node::start(&TestLog::new(), &dir.path().join("c.db"));
    let mut entry = log.committed()[0].clone();
    entry.command.data.clear();
    entry.command.chunks = 1;
    entry.chunks = Some(Arc::new(Gone));
    assert!(matches!(
        answer(node.database.apply(entry)),
        Err(ApplyError::Corrupt { .. })
    ));
    assert!(!node.database.is_fine());
}

#[test]
fn entry_that_cannot_be_written_now_is_tried_again_in_order() {
    let (dir, log, primary, _follower) = pair(&[
        TABLE,
        "INSERT INTO t(v) VALUES('a')",
        "INSERT INTO t(v) VALUES('b')",
    ]);
    let entries = log.committed();
    let own = TestLog::new();
    let node = Node::start(&own, &dir.path().join("c.db"));
    node.database.open_lane(LEADERSHIP);
    node.database.settle();
    own.know(&entries);
    let first = flaky(entries[0].clone(), 2);
    let mut health = node.database.health();
    let first = node.database.apply(first);
    let later: Vec<_> = entries[1..]
        .iter()
        .map(|entry| node.database.apply(entry.clone()))
        .collect();
    let behind = wait(health.wait_for(|health| matches!(health, Health::Behind { .. })))
        .expect("alive")
        .clone();
    assert!(behind.trouble().contains("disk on fire"), "{behind:?}");
    // It has given up the lane by itself, and a closing is answered meanwhile.
    assert_eq!(code(&node.run("SELECT 1")), ErrorCode::Unavailable);
    answer(node.database.close_lane(None));
    answer(first).expect("applied at last");
    // What came meanwhile is not kept: it is read from the log again.
    later
        .into_iter()
        .for_each(|reply| drop(answer(reply).expect_err("not taken then")));
    wait(health.wait_for(|health| *health == Health::Fine)).expect("alive");
    node.assert_same(&primary);
    // Whoever knows that this node is still primary opens the lane again.
    assert!(node.database.wants_lane());
    node.database.open_lane(LEADERSHIP);
    assert!(!node.database.wants_lane());
    node.run("SELECT 1").expect("open again");
}
