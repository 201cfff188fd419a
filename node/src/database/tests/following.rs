//! How a database stands to its log: unwell and told so after a restart, diverged, parked, behind with a bounded memory.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use halite_ltx::PageNo;
use halite_proto::v1::{DatabaseState, ErrorCode};

use super::harness::*;
use crate::database::*;

const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)";
const INSERT: &str = "INSERT INTO t(v) VALUES('x')";

/// What `to` lacks of what `from` has now.
fn pull(from: &Node, to: &Node) -> (Vec<u8>, DatabaseState) {
    let theirs = to.database.page_checksums(PageNo::FIRST, usize::MAX);
    let snapshot = answer(from.database.snapshot())
        .map_err(|error| error.message)
        .expect("snapshot");
    let mut bytes = Vec::new();
    snapshot
        .write_diff(theirs.into_iter().map(Ok), &mut bytes)
        .expect("written");
    (bytes, snapshot.state().clone())
}

fn install(to: &Node, (bytes, state): (Vec<u8>, DatabaseState)) -> Result<Applied, InstallError> {
    answer(to.database.install(Box::new(io::Cursor::new(bytes)), state))
}

fn health(node: &Node) -> Health {
    node.database.health().borrow().clone()
}

fn wait_for(node: &Node, wanted: impl Fn(&Health) -> bool) -> Health {
    let mut health = node.database.health();
    wait(health.wait_for(|health| wanted(health)))
        .expect("alive")
        .clone()
}

fn orphans(node: &Node) -> Vec<PathBuf> {
    let name = node.path.file_name().expect("name").to_owned();
    let prefix = format!("{}.orphan-", name.to_string_lossy());
    std::fs::read_dir(node.path.parent().expect("dir"))
        .expect("listed")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| {
            let name = path.file_name().expect("name").to_string_lossy();
            name.starts_with(&prefix)
        })
        .collect()
}

/// A follower that has the first transactions, in its file; the log has more, and has lost them.
fn restarted_without(dir: &tempfile::TempDir, log: &Arc<TestLog>, has: usize) -> Node {
    let path = dir.path().join("c.db");
    let node = Node::start(&TestLog::new(), &path);
    let committed = log.committed();
    for entry in &committed[..has] {
        answer(node.database.apply(entry.clone())).expect("applied");
    }
    answer(node.database.checkpoint())
        .map_err(|error| error.message)
        .expect("checkpoint");
    let checkpoints = node.stop();
    let redo = Redo {
        checkpoint: checkpoints.done.lock().clone(),
        committed: committed.last().map(CommittedLtx::mark),
        to: committed.last().expect("entries").index,
        ..Redo::nothing()
    };
    let own = TestLog::new();
    own.know(&committed);
    own.purge(committed.last().expect("entries").index);
    Node::restart(&own, &path, redo, checkpoints)
}

#[test]
fn database_that_had_not_taken_what_is_purged_says_so_after_a_restart() {
    let (dir, log, primary, _follower) = pair(&[TABLE, INSERT, INSERT]);
    let node = restarted_without(&dir, &log, 2);
    let said = health(&node);
    assert!(matches!(said, Health::NeedsRepair { .. }), "{said:?}");
    assert!(said.trouble().contains("what is committed"), "{said:?}");
    // It leads nothing, holds its log, gives nobody its pages, and is mended from one that is well.
    node.database.open_lane(LEADERSHIP);
    assert_eq!(code(&node.run(INSERT)), ErrorCode::Unavailable);
    assert!(!node.database.is_fine() && !node.database.wants_lane());
    assert_eq!(
        node.database.oldest_needed(),
        Some(log.committed()[1].index + 1)
    );
    assert!(answer(node.database.snapshot()).is_err());
    install(&node, pull(&primary, &node)).expect("installed");
    assert_eq!(health(&node), Health::Fine);
    assert_eq!(node.database.oldest_needed(), None);
    node.assert_same(&primary);
}

#[test]
fn database_that_has_all_is_well_after_a_restart() {
    let (dir, log, primary, _follower) = pair(&[TABLE, INSERT, INSERT]);
    let node = restarted_without(&dir, &log, 3);
    assert_eq!(health(&node), Health::Fine);
    node.assert_same(&primary);
}

#[test]
fn file_with_more_than_was_ever_committed_is_kept_as_an_orphan_and_mended() {
    let (dir, log, primary, _follower) = pair(&[TABLE, INSERT]);
    let path = dir.path().join("c.db");
    let theirs = TestLog::new();
    let node = Node::start(&theirs, &path);
    for entry in log.committed() {
        answer(node.database.apply(entry)).expect("applied");
    }
    node.database.open_lane(LEADERSHIP);
    node.run("INSERT INTO t(v) VALUES('surplus')")
        .expect("written");
    answer(node.database.checkpoint())
        .map_err(|error| error.message)
        .expect("checkpoint");
    let checkpoints = node.stop();
    for content in ["one", "another"] {
        if content == "another" {
            primary.run(INSERT).expect("written");
        }
        let committed = log.committed();
        let redo = Redo {
            checkpoint: checkpoints.done.lock().clone(),
            committed: committed.last().map(CommittedLtx::mark),
            to: 1000,
            ..Redo::nothing()
        };
        let node = Node::restart(&TestLog::new(), &path, redo, checkpoints.clone());
        let said = health(&node);
        assert!(said.trouble().contains("never committed"), "{said:?}");
        assert!(!said.readable());
        let kept = orphans(&node);
        assert_eq!(kept.len(), 1, "{kept:?}");
        let stock = rusqlite::Connection::open(&kept[0]).expect("opened");
        let surplus: i64 = stock
            .query_row("SELECT count(*) FROM t WHERE v = 'surplus'", [], |row| {
                row.get(0)
            })
            .expect("read");
        assert_eq!(surplus, 1);
        if content == "another" {
            install(&node, pull(&primary, &node)).expect("installed");
            assert_eq!(health(&node), Health::Fine);
            node.assert_same(&primary);
        }
        node.stop();
    }
}

#[test]
fn entry_with_the_same_transaction_id_and_another_content_is_not_passed_over() {
    let (dir, log, primary, _follower) = pair(&[TABLE, INSERT, INSERT]);
    for back in [1, 2] {
        let node = Node::start(&TestLog::new(), &dir.path().join(format!("{back}.db")));
        for entry in log.committed() {
            answer(node.database.apply(entry)).expect("applied");
        }
        let mut other = log.committed()[3 - back].clone();
        other.command.post_checksum ^= 1;
        let error = answer(node.database.apply(other)).expect_err("not passed over");
        assert!(matches!(error, ApplyError::Forked { .. }), "{error}");
        let said = health(&node);
        assert!(matches!(said, Health::NeedsRepair { .. }), "{said:?}");
        assert!(!said.readable(), "{said:?}");
        assert_eq!(orphans(&node).len(), 1);
        install(&node, pull(&primary, &node)).expect("installed");
        assert_eq!(health(&node), Health::Fine);
        node.assert_same(&primary);
    }
}

#[test]
fn lane_is_not_opened_on_another_content_than_the_committed_one() {
    let (dir, log, _primary, _follower) = pair(&[TABLE, INSERT]);
    let own = TestLog::new();
    let node = Node::start(&own, &dir.path().join("c.db"));
    for entry in log.committed() {
        answer(node.database.apply(entry)).expect("applied");
    }
    let mut committed = log.committed();
    committed[1].command.post_checksum ^= 1;
    own.know(&committed);
    node.database.open_lane(LEADERSHIP);
    assert_eq!(code(&node.run(INSERT)), ErrorCode::Unavailable);
    assert!(matches!(health(&node), Health::NeedsRepair { .. }));
}

#[test]
fn what_a_database_behind_is_handed_takes_no_memory_and_comes_from_the_log() {
    let (dir, log, primary, _follower) = pair(&[TABLE, INSERT]);
    let node = Node::start(&TestLog::new(), &dir.path().join("c.db"));
    let own = TestLog::new();
    drop(node);
    let node = Node::start(&own, &dir.path().join("d.db"));
    let known = log.committed();
    answer(node.database.apply(flaky(known[0].clone(), 4))).expect("applied at last");
    wait_for(&node, |health| *health == Health::Fine);
    let stuck = node.database.apply(flaky(known[1].clone(), 6));
    wait_for(&node, |health| matches!(health, Health::Behind { .. }));
    let data = known[1].command.data.clone();
    let held = Arc::new(());
    for _ in 0..40 {
        primary
            .run("INSERT INTO t(v) VALUES(randomblob(100000))")
            .expect("written");
    }
    own.know(&log.committed());
    for entry in log.committed().into_iter().skip(2) {
        let kept = Arc::new(Counted {
            data: entry.command.data.clone(),
            _held: held.clone(),
        });
        let mut entry = entry;
        entry.command.data.clear();
        entry.command.chunks = 1;
        entry.chunks = Some(kept);
        assert!(answer(node.database.apply(entry)).is_err(), "not taken");
    }
    // The last answer may come before its entry is let go of.
    node.database.settle();
    assert_eq!(Arc::strong_count(&held), 1, "nothing is kept");
    answer(stuck).expect("applied at last");
    wait_for(&node, |health| *health == Health::Fine);
    node.assert_same(&primary);
    drop(data);
}

struct Counted {
    data: bytes::Bytes,
    _held: Arc<()>,
}

impl ChunkSource for Counted {
    fn chunk(&self, _number: u32) -> io::Result<bytes::Bytes> {
        Ok(self.data.clone())
    }
}

#[test]
fn database_behind_the_log_needs_repair() {
    let (dir, log, primary, _follower) = pair(&[TABLE, INSERT, INSERT, INSERT]);
    let own = TestLog::new();
    let node = Node::start(&own, &dir.path().join("c.db"));
    let entries = log.committed();
    let stuck = node.database.apply(flaky(entries[0].clone(), 4));
    wait_for(&node, |health| matches!(health, Health::Behind { .. }));
    for entry in &entries[1..] {
        assert!(answer(node.database.apply(entry.clone())).is_err());
    }
    own.know(&entries);
    own.purge(entries[2].index);
    answer(stuck).expect("applied at last");
    let said = wait_for(&node, |health| matches!(health, Health::NeedsRepair { .. }));
    assert!(said.trouble().contains("log does not hold"), "{said:?}");
    install(&node, pull(&primary, &node)).expect("installed");
    assert_eq!(health(&node), Health::Fine);
    node.assert_same(&primary);
}

#[test]
fn entry_that_makes_the_lane_panic_parks_the_database_until_it_is_tried_again() {
    let (dir, log, primary, _follower) = pair(&[TABLE, INSERT, INSERT]);
    let own = TestLog::new();
    let node = Node::start(&own, &dir.path().join("c.db"));
    let mut entries = log.committed();
    answer(node.database.apply(entries[0].clone())).expect("applied");
    entries[1] = explosive(entries[1].clone(), 2);
    own.know(&entries);
    assert!(wait(node.database.apply(entries[1].clone())).is_err());
    let said = wait_for(&node, |health| matches!(health, Health::Parked { .. }));
    let index = format!("index={}", entries[1].index);
    for told in [index.as_str(), "txid=", "boom"] {
        assert!(said.trouble().contains(told), "{said:?}");
    }
    // It stays where it is, and stays alive.
    assert!(answer(node.database.apply(entries[2].clone())).is_err());
    node.database.open_lane(LEADERSHIP);
    assert_eq!(code(&node.run(INSERT)), ErrorCode::Unavailable);
    answer(node.database.close_lane(None));
    assert_eq!(node.integer("SELECT count(*) FROM t"), 0);
    assert_eq!(
        node.database.oldest_needed(),
        Some(entries[0].index + 1),
        "its log is held"
    );
    // Tried again it panics once more, then no longer: another version was installed.
    assert!(wait(node.database.resume()).is_err());
    wait_for(&node, |health| matches!(health, Health::Parked { .. }));
    answer(node.database.resume())
        .map_err(|error| error.message)
        .expect("resumed");
    assert_eq!(health(&node), Health::Fine);
    node.assert_same(&primary);
}

#[test]
fn parked_database_is_parked_again_at_the_next_start_and_mended_by_page_diff() {
    let (dir, log, primary, _follower) = pair(&[TABLE, INSERT, INSERT]);
    let path = dir.path().join("c.db");
    let mut entries = log.committed();
    entries[1] = explosive(entries[1].clone(), u32::MAX);
    let redo = Redo {
        entries: Box::new(entries.clone().into_iter().map(Ok)),
        committed: entries.last().map(CommittedLtx::mark),
        to: 1000,
        ..Redo::nothing()
    };
    let node = Node::restart(&TestLog::new(), &path, redo, Arc::default());
    let said = health(&node);
    assert!(matches!(said, Health::Parked { .. }), "{said:?}");
    assert!(said.trouble().contains("boom"), "{said:?}");
    assert!(!said.readable());
    install(&node, pull(&primary, &node)).expect("installed");
    assert_eq!(health(&node), Health::Fine);
    node.assert_same(&primary);
}

#[test]
fn page_diff_is_installed_only_when_the_file_holds_it() {
    let (dir, log, primary, _follower) = pair(&[TABLE, INSERT]);
    let node = Node::start(&TestLog::new(), &dir.path().join("c.db"));
    for entry in log.committed() {
        answer(node.database.apply(entry)).expect("applied");
    }
    let reader = node
        .database
        .shared
        .pager()
        .expect("open")
        .reader()
        .expect("reader");
    reader
        .execute_batch("BEGIN; SELECT * FROM t")
        .expect("snapshot");
    primary.run(INSERT).expect("written");
    primary.run(INSERT).expect("written");
    let refused = install(&node, pull(&primary, &node)).expect_err("a reader is in the way");
    assert!(matches!(refused, InstallError::Io(_)), "{refused}");
    assert!(node.checkpoints.done.lock().is_none());
    assert!(!node.database.is_fine());
    // Asked again it is refused again, as long as it is not there.
    install(&node, pull(&primary, &node)).expect_err("the reader is still in the way");
    drop(reader);
    install(&node, pull(&primary, &node)).expect("nobody is in the way");
    let done = node.checkpoints.done.lock().clone().expect("checkpoint");
    assert_eq!(done.txid, primary.applied().position.txid.get());
    assert_eq!(health(&node), Health::Fine);
    node.assert_same(&primary);
}

#[test]
fn entries_beyond_the_bound_are_let_go_of_and_read_from_the_log() {
    let (dir, log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    for _ in 0..60 {
        primary
            .run("INSERT INTO t VALUES(randomblob(900000))")
            .expect("written");
    }
    let own = TestLog::new();
    let node = Node::start(&own, &dir.path().join("c.db"));
    own.know(&log.committed());
    let answers: Vec<_> = log
        .committed()
        .into_iter()
        .map(|entry| node.database.apply(entry))
        .collect();
    answers
        .into_iter()
        .for_each(|reply| answer(reply).expect("applied"));
    node.assert_same(&primary);
}
