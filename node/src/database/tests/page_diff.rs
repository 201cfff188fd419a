//! Page diff: bootstrap, catch-up and repair are one mechanism.

use std::io;

use halite_ltx::PageNo;
use halite_proto::v1::{DatabaseState, ErrorCode, LtxCommand};

use super::harness::*;
use crate::database::*;

const FILL: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300) INSERT INTO t(v) SELECT randomblob(2000) FROM n";

/// Asks `from` for what `to` lacks, and installs it.
fn diff(from: &Node, to: &Node) -> (Result<Applied, InstallError>, u32) {
    let (bytes, state, pages) = pull(from, to);
    (install(to, bytes, state), pages)
}

/// What `to` lacks of what `from` has now: the LTX, the state it leads to, and how many pages.
fn pull(from: &Node, to: &Node) -> (Vec<u8>, DatabaseState, u32) {
    let theirs = to.database.page_checksums(PageNo::FIRST, usize::MAX);
    let snapshot = answer(from.database.snapshot())
        .map_err(|error| error.message)
        .expect("snapshot");
    let mut bytes = Vec::new();
    let pages = snapshot
        .write_diff(theirs.into_iter().map(Ok), &mut bytes)
        .expect("written");
    let state = snapshot.state().clone();
    (bytes, state, pages)
}

fn install(to: &Node, bytes: Vec<u8>, state: DatabaseState) -> Result<Applied, InstallError> {
    answer(to.database.install(Box::new(io::Cursor::new(bytes)), state))
}

fn history() -> (tempfile::TempDir, Arc<TestLog>, Node, Node) {
    let (dir, log, primary, follower) = pair(&["CREATE TABLE t(id INTEGER PRIMARY KEY, v)", FILL]);
    let (write, receiver) = keyed("INSERT INTO t(v) VALUES('keyed')", key(1, 1));
    primary.database.submit(vec![write]);
    answer(receiver).expect("written");
    follower.assert_same(&primary);
    (dir, log, primary, follower)
}

#[test]
fn blank_node_gets_everything_and_follows_on() {
    let (dir, log, primary, _follower) = history();
    let blank = Node::start(&log, &dir.path().join("c.db"));
    let (installed, pages) = diff(&primary, &blank);
    assert_eq!(installed.expect("installed"), primary.applied());
    assert_eq!(pages, primary.applied().page_count);
    blank.assert_same(&primary);
    // The file holds it, not only the WAL: the log need not lead there.
    let done = blank.checkpoints.done.lock().clone().expect("checkpoint");
    assert_eq!(done.txid, primary.applied().position.txid.get());
    primary
        .run("INSERT INTO t(v) VALUES('more')")
        .expect("written");
    blank.assert_same(&primary);
    assert_eq!(blank.integer("SELECT count(*) FROM t"), 302);
    // The outcomes came along.
    answer(primary.database.close_lane(None));
    blank.database.open_lane(LEADERSHIP);
    let (retry, receiver) = keyed("INSERT INTO t(v) VALUES('keyed')", key(1, 1));
    blank.database.submit(vec![retry]);
    answer(receiver).expect("known");
    assert_eq!(blank.integer("SELECT count(*) FROM t"), 302);
}

#[test]
fn lagging_node_gets_only_what_differs() {
    let (_dir, log, primary, follower) = history();
    log.unfollow(&follower.database);
    primary
        .run("UPDATE t SET v = 'changed' WHERE id = 5")
        .expect("written");
    primary
        .run("INSERT INTO t(v) VALUES('more')")
        .expect("written");
    let (installed, pages) = diff(&primary, &follower);
    installed.expect("installed");
    assert!(pages < 10, "{pages}");
    follower.assert_same(&primary);
    // Entries that are in it already are passed over.
    for entry in log.committed() {
        answer(follower.database.apply(entry)).expect("skipped");
    }
    follower.assert_same(&primary);
}

#[test]
fn diverged_node_is_repaired_and_its_readers_notice() {
    let (dir, log, primary, _follower) = history();
    let other_log = TestLog::new();
    let node = Node::start(&other_log, &dir.path().join("c.db"));
    for entry in log.committed() {
        answer(node.database.apply(entry)).expect("applied");
    }
    // Both go on from the same position, with the same schema cookie and different schemas.
    node.database.open_lane(LEADERSHIP);
    node.run("CREATE TABLE theirs(y)").expect("written");
    answer(node.database.close_lane(None));
    primary.run("CREATE TABLE ours(x)").expect("written");
    primary.run("INSERT INTO ours VALUES(1)").expect("written");
    let pool = ReaderPool::start(1, SystemHost::shared()).expect("started");
    let read = |sql: &str| {
        let (reply, receiver) = ReplyTo::oneshot();
        pool.run(vec![ReadJob {
            database: node.database.clone(),
            statements: vec![statement(sql)],
            deadline: std::time::Instant::now() + PATIENCE,
            reply,
        }]);
        answer(receiver)
    };
    read("SELECT * FROM theirs").expect("there");
    let entry = log.committed().pop().expect("entry");
    assert!(answer(node.database.apply(entry)).is_err());
    assert!(matches!(
        *node.database.health().borrow(),
        Health::NeedsRepair { .. }
    ));
    diff(&primary, &node).0.expect("installed");
    assert_eq!(*node.database.health().borrow(), Health::Fine);
    node.assert_same(&primary);
    read("SELECT * FROM theirs").expect_err("gone");
    assert_eq!(
        read("SELECT x FROM ours").expect("there").results[0]
            .rows
            .len(),
        1
    );
    log.follow(&node.database);
    primary.run("INSERT INTO ours VALUES(2)").expect("written");
    node.assert_same(&primary);
}

#[test]
fn what_comes_during_a_repair_is_applied_after_it() {
    let (dir, log, primary, _follower) = history();
    let own = TestLog::new();
    let node = Node::start(&own, &dir.path().join("c.db"));
    let known = log.committed();
    // A gap: the first entry never came.
    assert!(answer(node.database.apply(known[1].clone())).is_err());
    let (bytes, state, _) = pull(&primary, &node);
    for id in 1..=3 {
        let update = format!("UPDATE t SET v = 'changed' WHERE id = {id}");
        primary.run(&update).expect("written");
    }
    own.know(&log.committed()[known.len()..]);
    for entry in log.committed().into_iter().skip(known.len()) {
        assert!(answer(node.database.apply(entry)).is_err());
    }
    install(&node, bytes, state).expect("installed");
    assert_eq!(*node.database.health().borrow(), Health::Fine);
    node.assert_same(&primary);
}

#[test]
fn pages_older_than_what_was_committed_do_not_repair() {
    let (dir, log, primary, _follower) = history();
    let node = Node::start(&TestLog::new(), &dir.path().join("c.db"));
    let (bytes, state, _) = pull(&primary, &node);
    let older = (bytes.clone(), state.clone());
    let before = primary.applied();
    for id in 1..=2 {
        let update = format!("UPDATE t SET v = 'changed' WHERE id = {id}");
        primary.run(&update).expect("written");
    }
    // Only the newest is handed over: nothing leads there from the older pages.
    let newest = log.committed().pop().expect("entry");
    assert!(answer(node.database.apply(newest)).is_err());
    install(&node, bytes, state).expect("installed");
    assert_eq!(node.applied(), before);
    let health = node.database.health().borrow().clone();
    assert!(health.trouble().contains("older"), "{health:?}");
    assert!(!node.database.is_fine() && health.readable());
    // Nor does a lane build on them, whoever leads: when the database is well it may.
    node.database.open_lane(LEADERSHIP);
    assert_eq!(code(&node.run("SELECT 1")), ErrorCode::Unavailable);
    assert!(!node.database.wants_lane());
    diff(&primary, &node).0.expect("installed");
    assert_eq!(*node.database.health().borrow(), Health::Fine);
    node.assert_same(&primary);
    assert!(node.database.wants_lane());
    // What readers have seen never goes back.
    let gap = CommittedLtx {
        command: LtxCommand {
            txid: primary.applied().position.txid.get() + 2,
            ..LtxCommand::default()
        },
        ..log.committed().pop().expect("entry")
    };
    assert!(answer(node.database.apply(gap)).is_err());
    install(&node, older.0, older.1).expect("passed over");
    node.assert_same(&primary);
}

#[test]
fn damaged_or_outdated_diff_changes_nothing() {
    let (dir, log, primary, _follower) = history();
    let blank = Node::start(&log, &dir.path().join("c.db"));
    let snapshot = answer(primary.database.snapshot())
        .map_err(|error| error.message)
        .expect("snapshot");
    let mut bytes = Vec::new();
    snapshot
        .write_diff(std::iter::empty(), &mut bytes)
        .expect("written");
    let state = snapshot.state().clone();
    let install = |bytes: Vec<u8>, state| {
        answer(
            blank
                .database
                .install(Box::new(io::Cursor::new(bytes)), state),
        )
    };
    let mut torn = bytes.clone();
    torn.truncate(bytes.len() / 2);
    assert!(matches!(
        install(torn, state.clone()),
        Err(InstallError::Damaged(_))
    ));
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    assert!(matches!(
        install(flipped, state.clone()),
        Err(InstallError::Damaged(_))
    ));
    let mut wrong = state.clone();
    wrong.checksum ^= 1;
    assert!(matches!(
        install(bytes.clone(), wrong),
        Err(InstallError::Mismatch(_))
    ));
    let mut other_size = state.clone();
    other_size.page_size = 8192;
    assert!(matches!(
        install(bytes.clone(), other_size),
        Err(InstallError::Invalid(_))
    ));
    assert_eq!(blank.applied(), Applied::ZERO);
    install(bytes, state).expect("installed");
}

#[test]
fn a_database_of_one_transaction_is_sent_in_part_to_who_takes_any_pages() {
    let (dir, _log, primary, _follower) = pair(&[]);
    let path = dir.path().join("import.db");
    let stock = rusqlite::Connection::open(&path).expect("opened");
    let fill = format!("CREATE TABLE t(id INTEGER PRIMARY KEY, v); {FILL}");
    stock.execute_batch(&fill).expect("filled");
    drop(stock);
    answer(primary.database.import(path, false))
        .map_err(|error| error.message)
        .expect("imported");
    assert_eq!(primary.applied().position.txid.get(), 1);
    let pages = primary.applied().page_count as usize;
    let theirs: Vec<u64> = primary
        .database
        .page_checksums(PageNo::FIRST, pages - 3)
        .into_iter()
        .collect();
    for (any_pages, sent) in [(false, pages), (true, 3)] {
        let snapshot = answer(primary.database.snapshot())
            .map_err(|error| error.message)
            .expect("snapshot");
        let mut diff = snapshot.into_diff(theirs.clone(), any_pages);
        let mut ltx = Vec::new();
        while let Some(piece) = diff.next_piece(1000).expect("read") {
            ltx.extend(piece);
        }
        let mut decoder = halite_ltx::Decoder::new(&ltx[..]).expect("a header");
        let (mut found, mut page) = (0, Vec::new());
        while decoder.next_page(&mut page).expect("a page").is_some() {
            found += 1;
        }
        decoder.finish().expect("whole");
        assert_eq!(found, sent, "any_pages={any_pages}");
    }
}

#[test]
fn exported_file_is_an_ordinary_database() {
    let (dir, _log, primary, _follower) = history();
    let path = dir.path().join("export.db");
    let snapshot = answer(primary.database.snapshot())
        .map_err(|error| error.message)
        .expect("snapshot");
    snapshot
        .write_file(std::fs::File::create(&path).expect("created"))
        .expect("written");
    let stock = rusqlite::Connection::open(&path).expect("opened");
    let count: i64 = stock
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .expect("read");
    assert_eq!(count, 301);
    let fine: String = stock
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("checked");
    assert_eq!(fine, "ok");
}

#[test]
fn imported_file_replicates_as_one_transaction() {
    let (dir, _log, primary, follower) = pair(&[]);
    let path = dir.path().join("import.db");
    let stock = rusqlite::Connection::open(&path).expect("opened");
    stock
        .execute_batch("CREATE TABLE i(v); INSERT INTO i VALUES(1), (2), (3)")
        .expect("filled");
    drop(stock);
    let imported = answer(primary.database.import(path.clone(), false))
        .map_err(|error| error.message)
        .expect("imported");
    assert_eq!(imported, primary.applied());
    assert_eq!(imported.position.txid.get(), 1);
    follower.assert_same(&primary);
    assert_eq!(follower.integer("SELECT sum(v) FROM i"), 6);
    let again = answer(primary.database.import(path.clone(), false)).expect_err("not empty");
    assert_eq!(again.code(), ErrorCode::AlreadyExists);
    primary.run("DELETE FROM i").expect("written");
    answer(primary.database.import(path, true))
        .map_err(|error| error.message)
        .expect("imported");
    follower.assert_same(&primary);
    assert_eq!(follower.integer("SELECT sum(v) FROM i"), 6);
    let nothing =
        answer(primary.database.import(dir.path().join("nothing"), true)).expect_err("no file");
    assert_eq!(nothing.code(), ErrorCode::Invalid);
}
