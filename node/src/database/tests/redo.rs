//! What a start makes of the files a crash has left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::harness::*;
use crate::database::{Applied, Database, DatabaseOptions, Health, OpenError, Redo};

/// Copies database and WAL as they are on disk at this moment: what a power loss may leave.
fn copy(from: &Path, to: &Path, with_wal: bool) {
    let wal = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    std::fs::copy(from, to).expect("copied");
    if with_wal {
        std::fs::copy(wal(from), wal(to)).expect("copied");
    } else {
        drop(std::fs::remove_file(wal(to)));
    }
}

fn redo_of(node: &Node, log: &TestLog, up_to: usize) -> Redo {
    let checkpoint = node.checkpoints.done.lock().clone();
    let after = checkpoint
        .as_ref()
        .map_or(0, |checkpoint| checkpoint.raft_index);
    let entries: Vec<_> = log
        .committed()
        .into_iter()
        .take(up_to)
        .filter(|entry| entry.index > after)
        .map(Ok)
        .collect();
    Redo {
        checkpoint,
        entries: Box::new(entries.into_iter()),
        ..Redo::nothing()
    }
}

/// A row in the file, by a checkpoint, and one that only WAL and log have.
fn pair_beyond_a_checkpoint() -> (tempfile::TempDir, Arc<TestLog>, Node, Node) {
    let (dir, log, primary, follower) = pair(&["CREATE TABLE t(v)", "INSERT INTO t VALUES(1)"]);
    answer(primary.database.checkpoint())
        .map_err(|error| error.message)
        .expect("checkpoint");
    primary.run("INSERT INTO t VALUES(2)").expect("written");
    (dir, log, primary, follower)
}

#[test]
fn every_crash_leads_to_the_state_of_the_log() {
    let (dir, log, primary, _follower) = pair(&["CREATE TABLE t(id INTEGER PRIMARY KEY, v)"]);
    let mut positions = vec![Applied::ZERO];
    let quiet = TestLog::new();
    for step in 0..12 {
        primary
            .run(&format!(
                "INSERT INTO t(v) SELECT randomblob(3000) FROM (VALUES({step}), (2), (3))"
            ))
            .expect("written");
        if step == 5 {
            primary.run("DELETE FROM t WHERE id > 4").expect("written");
            primary.run("VACUUM").expect("vacuumed");
        }
        if step == 3 || step == 8 {
            answer(primary.database.checkpoint())
                .map_err(|error| error.message)
                .expect("checkpoint");
        }
        positions.push(primary.applied());
        let total = log.committed().len();
        let checkpointed = primary.checkpoints.done.lock().as_ref().map_or(0, |done| {
            log.committed()
                .iter()
                .filter(|entry| entry.index <= done.raft_index)
                .count()
        });
        for (number, (with_wal, up_to)) in [
            (true, total),
            (false, total),
            (true, total - 1),
            (false, total - 1),
        ]
        .into_iter()
        .enumerate()
        {
            // The log may be behind the WAL, never behind a checkpoint.
            if up_to < checkpointed {
                continue;
            }
            let path = dir.path().join(format!("crash-{step}-{number}.db"));
            copy(&primary.path, &path, with_wal);
            let node = Node::restart(
                &quiet,
                &path,
                redo_of(&primary, &log, up_to),
                Arc::default(),
            );
            assert_eq!(
                *node.database.health().borrow(),
                Health::Fine,
                "{step} {number}"
            );
            let expected = log.committed()[up_to - 1].command.clone();
            assert_eq!(node.applied().position.txid.get(), expected.txid);
            assert_eq!(
                node.applied().position.checksum.get(),
                expected.post_checksum
            );
            let sum = node.database.shared.pager().expect("open").checksum();
            assert_eq!(sum.get(), expected.post_checksum, "{step} {number}");
            for entry in log.committed().into_iter().skip(up_to) {
                answer(node.database.apply(entry)).expect("applied");
            }
            node.assert_same(&primary);
            node.stop();
        }
    }
}

#[test]
fn file_that_cannot_be_brought_there_is_opened_but_not_read() {
    let (dir, log, primary, _follower) = pair_beyond_a_checkpoint();
    let path = dir.path().join("c.db");
    copy(&primary.path, &path, true);
    // A bit has rotted in the file, in the page of the table.
    let mut bytes = std::fs::read(&path).expect("read");
    let at = bytes.len() - 1;
    bytes[4096 + 100] ^= 0xff;
    bytes[at] ^= 0;
    std::fs::write(&path, bytes).expect("written");
    std::fs::remove_file(format!("{}-wal", path.display())).expect("removed");
    let quiet = TestLog::new();
    let mut redo = redo_of(&primary, &log, usize::MAX);
    redo.entries = Box::new(std::iter::empty());
    let node = Node::restart(&quiet, &path, redo, Arc::default());
    assert!(matches!(
        *node.database.health().borrow(),
        Health::NeedsRepair {
            readable: false,
            ..
        }
    ));
    assert!(answer(node.database.snapshot()).is_err());
    assert!(answer(node.database.checkpoint()).is_err());
    let pool = crate::database::ReaderPool::start(1, crate::database::SystemHost::shared())
        .expect("started");
    let (reply, receiver) = crate::database::ReplyTo::oneshot();
    pool.run(vec![crate::database::ReadJob {
        database: node.database.clone(),
        statements: vec![statement("SELECT 1")],
        deadline: std::time::Instant::now() + PATIENCE,
        reply,
    }]);
    assert_eq!(
        code(&answer(receiver)),
        halite_proto::v1::ErrorCode::Corrupt
    );
    // Repaired by page diff.
    let snapshot = answer(primary.database.snapshot())
        .map_err(|error| error.message)
        .expect("snapshot");
    let theirs = node
        .database
        .page_checksums(halite_ltx::PageNo::FIRST, usize::MAX);
    let mut diff = Vec::new();
    snapshot
        .write_diff(theirs.into_iter().map(Ok), &mut diff)
        .expect("written");
    answer(node.database.install(
        Box::new(std::io::Cursor::new(diff)),
        snapshot.state().clone(),
    ))
    .expect("installed");
    node.assert_same(&primary);
}

#[test]
fn file_of_which_sqlite_makes_nothing_is_not_opened() {
    let (dir, log, primary, _follower) = pair_beyond_a_checkpoint();
    let path = dir.path().join("c.db");
    // The version that may write it, the format of the schema, and the largest root page.
    for at in [18, 47, 52] {
        copy(&primary.path, &path, false);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[at] ^= 0x80;
        std::fs::write(&path, bytes).expect("written");
        let opened = Database::open(
            spec(&path),
            redo_of(&primary, &log, usize::MAX),
            TestLog::new(),
            Arc::new(Checkpoints::default()),
            options(),
        );
        let error = opened.expect_err("refused");
        assert!(error.is_damage(), "{at}: {error}");
    }
}

#[test]
fn redo_that_the_disk_refuses_is_tried_again() {
    let (dir, log, primary, _follower) = pair(&["CREATE TABLE t(v)", "INSERT INTO t VALUES(1)"]);
    let mut redo = redo_of(&primary, &log, usize::MAX);
    let entries: Vec<_> = redo
        .entries
        .map(|entry| entry.map(|entry| flaky(entry, 3)))
        .collect();
    redo.entries = Box::new(entries.into_iter());
    let node = Node::restart(
        &TestLog::new(),
        &dir.path().join("c.db"),
        redo,
        Arc::default(),
    );
    let mut health = node.database.health();
    let first = health.borrow().clone();
    assert!(!first.readable(), "{first:?}");
    assert!(first.trouble().contains("disk on fire"), "{first:?}");
    wait(health.wait_for(|health| *health == Health::Fine)).expect("alive");
    node.assert_same(&primary);
}

#[test]
fn page_diff_that_a_crash_took_needs_repair() {
    let (dir, log, primary, _follower) = pair(&["CREATE TABLE t(v)", "INSERT INTO t VALUES(1)"]);
    answer(primary.database.checkpoint())
        .map_err(|error| error.message)
        .expect("checkpoint");
    let path = dir.path().join("c.db");
    copy(&primary.path, &path, false);
    let mut redo = redo_of(&primary, &log, usize::MAX);
    let reached = primary.applied().position.txid.get();
    // A checkpoint of what a diff had brought was begun; the log does not have what is between.
    redo.reached = reached + 1;
    let node = Node::restart(&TestLog::new(), &path, redo, Arc::default());
    let health = node.database.health().borrow().clone();
    assert!(health.trouble().contains("does not lead to"), "{health:?}");
    assert!(!health.readable());
    node.stop();
    // With all of it there is nothing to repair.
    let mut redo = redo_of(&primary, &log, usize::MAX);
    redo.reached = reached;
    let node = Node::restart(&TestLog::new(), &path, redo, Arc::default());
    assert_eq!(*node.database.health().borrow(), Health::Fine);
}

#[test]
fn gap_in_the_log_needs_repair() {
    let (dir, log, primary, _follower) = pair(&[
        "CREATE TABLE t(v)",
        "INSERT INTO t VALUES(1)",
        "INSERT INTO t VALUES(2)",
    ]);
    let path = dir.path().join("c.db");
    copy(&primary.path, &path, true);
    let mut entries = log.committed();
    entries.remove(1);
    let redo = Redo {
        checkpoint: None,
        entries: Box::new(entries.into_iter().map(Ok)),
        ..Redo::nothing()
    };
    let node = Node::restart(&TestLog::new(), &path, redo, Arc::default());
    assert!(matches!(
        *node.database.health().borrow(),
        Health::NeedsRepair {
            readable: false,
            ..
        }
    ));
}

#[test]
fn foreign_file_is_left_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("a.db");
    rusqlite::Connection::open(&path)
        .expect("opened")
        .execute_batch("CREATE TABLE mine(x)")
        .expect("filled");
    let log = TestLog::new();
    let opened = Database::open(
        spec(&path),
        Redo::nothing(),
        log,
        Arc::new(Checkpoints::default()),
        options(),
    );
    assert!(matches!(opened, Err(OpenError::ForeignFile(_))));
    let stock = rusqlite::Connection::open(&path).expect("opened");
    stock
        .execute_batch("SELECT * FROM mine")
        .expect("untouched");
}

#[test]
fn blank_database_can_be_opened_again() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("a.db");
    let log = TestLog::new();
    Node::start(&log, &path).stop();
    let node = Node::start(&log, &path);
    assert_eq!(node.applied(), Applied::ZERO);
    assert_eq!(*node.database.health().borrow(), Health::Fine);
}

#[test]
fn growing_wal_is_checkpointed_by_the_lane() {
    let dir = tempfile::tempdir().expect("dir");
    let log = TestLog::new();
    let checkpoints = Arc::new(Checkpoints::default());
    let small = DatabaseOptions {
        checkpoint_wal_bytes: 256 << 10,
        ..options()
    };
    let path = dir.path().join("a.db");
    let database = Database::open(
        spec(&path),
        Redo::nothing(),
        log.clone(),
        checkpoints.clone(),
        small,
    )
    .expect("opened");
    log.follow(&database);
    database.open_lane(LEADERSHIP);
    let run = |sql: &str| {
        let (write, receiver) = sql_job(sql);
        database.submit(vec![write]);
        answer(receiver).expect("written");
    };
    run("CREATE TABLE t(v)");
    for _ in 0..100 {
        run("INSERT INTO t VALUES(randomblob(20000))");
    }
    let done = checkpoints.done.lock().clone().expect("checkpoint");
    assert!(done.txid > 50, "{}", done.txid);
    assert!(
        std::fs::metadata(format!("{}-wal", path.display()))
            .expect("wal")
            .len()
            < 2 << 20
    );
}

#[test]
fn idle_database_is_checkpointed() {
    let dir = tempfile::tempdir().expect("dir");
    let log = TestLog::new();
    let checkpoints = Arc::new(Checkpoints::default());
    let options = DatabaseOptions {
        checkpoint_idle: Duration::from_millis(20),
        ..options()
    };
    let path = dir.path().join("a.db");
    let database = Database::open(
        spec(&path),
        Redo::nothing(),
        log.clone(),
        checkpoints.clone(),
        options,
    )
    .expect("opened");
    log.follow(&database);
    database.open_lane(LEADERSHIP);
    for txid in 1..=3 {
        let (write, receiver) = sql_job(&format!("CREATE TABLE t{txid}(v)"));
        database.submit(vec![write]);
        answer(receiver).expect("written");
        checkpoints.wait_done(txid);
    }
    database.settle();
    assert_eq!(database.status().wal_bytes, 0);
}

#[test]
fn checkpoint_that_a_reader_cuts_short_is_not_called_done_and_survives_a_crash() {
    let (dir, log, primary, _follower) = pair(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        "INSERT INTO t(v) VALUES('a')",
    ]);
    let reader = primary
        .database
        .shared
        .pager()
        .expect("open")
        .reader()
        .expect("reader");
    reader
        .execute_batch("BEGIN; SELECT * FROM t")
        .expect("snapshot");
    for n in 0..20 {
        primary
            .run(&format!("INSERT INTO t(v) SELECT randomblob(2000) || {n}"))
            .expect("written");
    }
    let cut = answer(primary.database.checkpoint()).expect_err("a reader is in the way");
    assert_eq!(cut.code(), halite_proto::v1::ErrorCode::Unavailable);
    assert!(primary.checkpoints.done.lock().is_none());
    let target = primary
        .checkpoints
        .target
        .lock()
        .clone()
        .expect("noted before");
    assert_eq!(target.txid, primary.applied().position.txid.get());
    for (number, with_wal) in [true, false].into_iter().enumerate() {
        let path = dir.path().join(format!("crash-{number}.db"));
        copy(&primary.path, &path, with_wal);
        let node = Node::restart(
            &TestLog::new(),
            &path,
            redo_of(&primary, &log, usize::MAX),
            Arc::default(),
        );
        assert_eq!(*node.database.health().borrow(), Health::Fine);
        node.assert_same(&primary);
    }
    drop(reader);
    answer(primary.database.checkpoint())
        .map_err(|error| error.message)
        .expect("nobody is in the way");
    assert!(primary.checkpoints.done.lock().is_some());
}

#[test]
fn outcomes_survive_a_restart() {
    let (dir, log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    let write = |node: &Node, call| {
        let (write, receiver) = keyed("INSERT INTO t VALUES(1)", key(4, call));
        node.database.submit(vec![write]);
        answer(receiver).expect("written").raft_index
    };
    let first = write(&primary, 1);
    answer(primary.database.checkpoint())
        .map_err(|error| error.message)
        .expect("checkpoint");
    let second = write(&primary, 2);
    let path = dir.path().join("c.db");
    copy(&primary.path, &path, false);
    let quiet = TestLog::new();
    let node = Node::restart(
        &quiet,
        &path,
        redo_of(&primary, &log, usize::MAX),
        Arc::default(),
    );
    node.database.open_lane(LEADERSHIP);
    assert_eq!((write(&node, 1), write(&node, 2)), (first, second));
    assert_eq!(node.integer("SELECT count(*) FROM t"), 2);
}

fn orphans_in(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).expect("listed");
    let paths = files.map(|file| file.expect("listed").path());
    let orphan = |path: &PathBuf| path.display().to_string().contains(".orphan-");
    paths.filter(orphan).collect()
}

#[test]
fn a_large_transaction_beyond_what_is_certain_is_nobodys_change() {
    let (dir, log, primary, _follower) = pair_beyond_a_checkpoint();
    let large = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1500) INSERT INTO t SELECT randomblob(3500) FROM n";
    primary.run(large).expect("written");
    let committed = log.committed();
    let last = &committed[committed.len() - 1];
    assert!(last.command.chunks >= 4);
    // Killed when the file had it and nobody had noted that it is committed: some of its chunks are before M, and some are not.
    for (number, after) in [1, 3].into_iter().enumerate() {
        let path = dir.path().join(format!("case-{number}.db"));
        copy(&primary.path, &path, true);
        let redo = Redo {
            to: last.index - after,
            ..redo_of(&primary, &log, committed.len() - 1)
        };
        let node = Node::restart(&log, &path, redo, Arc::default());
        assert!(node.database.is_fine(), "{number}");
        node.stop();
        assert_eq!(orphans_in(dir.path()), [] as [PathBuf; 0]);
    }
}

#[test]
fn what_was_written_behind_the_logs_back_is_kept_before_a_redo_replaces_it() {
    let (dir, log, primary, _follower) = pair_beyond_a_checkpoint();
    let orphans = || orphans_in(dir.path());
    let total = log.committed().len();
    // The log knows more than is certain to be committed: the file may hold that.
    for (number, (changed, up_to)) in [(false, total), (false, total - 1), (true, total)]
        .into_iter()
        .enumerate()
    {
        let path = dir.path().join(format!("case-{number}.db"));
        copy(&primary.path, &path, true);
        if changed {
            let stranger = rusqlite::Connection::open(&path).expect("opened");
            stranger
                .execute("INSERT INTO t VALUES('stranger')", ())
                .expect("written");
        }
        let redo = Redo {
            to: log.committed()[up_to - 1].index,
            ..redo_of(&primary, &log, up_to)
        };
        let node = Node::restart(&log, &path, redo, Arc::default());
        assert!(node.database.is_fine(), "{number}");
        let strangers = "SELECT count(*) FROM t WHERE v = 'stranger'";
        assert_eq!(node.integer(strangers), 0);
        node.stop();
        assert_eq!(orphans().len(), usize::from(changed), "{:?}", orphans());
    }
    let kept = rusqlite::Connection::open(&orphans()[0]).expect("opened");
    let rows: i64 = kept
        .query_row("SELECT count(*) FROM t", (), |row| row.get(0))
        .expect("read");
    assert_eq!(rows, primary.integer("SELECT count(*) FROM t") + 1);
}
