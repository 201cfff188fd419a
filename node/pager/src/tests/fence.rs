//! What other programs may do while a database is held.

use super::support::{
    Log, Pair, assert_fenced, options, recording, stock, stock_reads, with_suffix,
};
use crate::{CheckpointMode, Database, OpenError, OpenOptions};

#[test]
fn stock_writer_is_locked_out_and_stock_reader_is_not() {
    let mut pair = Pair::new(&options(4096));
    let path = pair.writer.database().path().to_owned();
    let follower = pair.applier.database().path().to_owned();
    assert_fenced(&path, "CREATE TABLE stray(a)");
    assert_fenced(&follower, "CREATE TABLE stray(a)");
    pair.sql("CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    pair.sync();
    for file in [&path, &follower] {
        assert_fenced(file, "INSERT INTO t VALUES (2)");
        assert_eq!(stock_reads(file, "SELECT a FROM t"), "1");
    }
    // The roles change: the primary applies, the follower writes.
    let mut applier = pair.writer.database().applier().expect("applier");
    let log = Log::default();
    let writer = pair
        .applier
        .database()
        .writer(recording(&log))
        .expect("writer");
    writer
        .connection()
        .execute_batch("INSERT INTO t VALUES (3)")
        .expect("insert");
    log.lock()[0].apply_to(&mut applier).expect("apply");
    for file in [&path, &follower] {
        assert_fenced(file, "INSERT INTO t VALUES (4)");
        assert_eq!(stock_reads(file, "SELECT max(a) FROM t"), "3");
    }
    pair.sql("INSERT INTO t VALUES (5)");
    assert_eq!(stock_reads(&path, "SELECT max(a) FROM t"), "5");
    assert_fenced(&path, "DELETE FROM t");
}

#[test]
fn stock_program_neither_checkpoints_nor_removes_the_wal() {
    let pair = Pair::new(&options(4096));
    let database = pair.writer.database();
    pair.sql("CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    let before = database.wal().expect("wal");
    for sql in ["PRAGMA wal_checkpoint", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        assert!(
            stock_reads(database.path(), sql).starts_with('1'),
            "the checkpoint must be busy"
        );
    }
    assert_eq!(stock_reads(database.path(), "SELECT a FROM t"), "1");
    assert_eq!(database.wal().expect("wal"), before);
    assert_eq!(before.copied_frames, 0);
    stock(database.path(), "PRAGMA journal_mode = DELETE");
    assert!(with_suffix(database.path(), "-wal").exists());
    pair.sql("INSERT INTO t VALUES (2)");
    assert_eq!(stock_reads(database.path(), "SELECT count(*) FROM t"), "2");
}

#[test]
fn fence_ends_with_the_database() {
    let pair = Pair::new(&options(4096));
    let path = pair.writer.database().path().to_owned();
    pair.sql("CREATE TABLE t(a)");
    let directory = pair.directory;
    drop((pair.writer, pair.applier));
    assert!(
        with_suffix(&path, "-wal").metadata().expect("wal").len() > 0,
        "closing is no checkpoint"
    );
    assert!(stock(&path, "INSERT INTO t VALUES (1)").status.success());
    let database = Database::open(&path, &OpenOptions::default()).expect("open again");
    assert_fenced(&path, "INSERT INTO t VALUES (2)");
    drop(database);
    drop(directory);
}

#[test]
fn one_process_opens_a_file_once() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    let database = Database::open(&path, &OpenOptions::default()).expect("open");
    for other in ["../a.db", "link.db", "hard.db"] {
        let other = directory.path().join("sub").join(other);
        let _ = std::fs::create_dir(directory.path().join("sub"));
        if other.ends_with("link.db") {
            std::os::unix::fs::symlink(&path, &other).expect("link");
        } else if other.ends_with("hard.db") {
            std::fs::hard_link(&path, &other).expect("link");
        }
        let error = Database::open(&other, &OpenOptions::default()).expect_err("second open");
        assert!(matches!(error, OpenError::AlreadyOpen { .. }), "{error}");
        let error = Database::remove(&other).expect_err("remove");
        assert!(matches!(error, OpenError::AlreadyOpen { .. }), "{error}");
    }
    drop(database);
    drop(Database::open(&path, &OpenOptions::default()).expect("open again"));
    Database::remove(&path).expect("remove");
    assert_eq!(
        std::fs::read_dir(directory.path()).expect("list").count(),
        1
    );
}

#[test]
fn stock_writer_in_the_middle_makes_open_wait_then_fail() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    assert!(
        stock(&path, "PRAGMA journal_mode = WAL; CREATE TABLE t(a)")
            .status
            .success()
    );
    // A second process that holds a write transaction open until its input ends.
    let mut child = std::process::Command::new("/usr/bin/sqlite3")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut input = child.stdin.take().expect("input");
    let mut output = std::io::BufReader::new(child.stdout.take().expect("output"));
    std::io::Write::write_all(
        &mut input,
        b"BEGIN IMMEDIATE; INSERT INTO t VALUES (1); SELECT 'held';\n",
    )
    .expect("write");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).expect("read");
    assert_eq!(line, "held\n");
    let short = OpenOptions {
        lock_timeout: std::time::Duration::from_millis(50),
        ..OpenOptions::default()
    };
    let error = Database::open(&path, &short).expect_err("locked");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    std::io::Write::write_all(&mut input, b"COMMIT;\n").expect("write");
    let database = Database::open(&path, &OpenOptions::default()).expect("open");
    let rows: i64 = database
        .reader()
        .expect("reader")
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .expect("count");
    assert_eq!(rows, 1);
    drop(input);
    child.wait().expect("wait");
}

#[test]
fn foreign_files_are_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    std::fs::write(&path, [7u8; 8192]).expect("write");
    let error = Database::open(&path, &OpenOptions::default()).expect_err("garbage");
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
    std::fs::write(&path, b"SQLite format 3\0").expect("write");
    let error = Database::open(&path, &OpenOptions::default()).expect_err("short");
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
    std::fs::write(&path, b"").expect("write");
    std::fs::write(with_suffix(&path, "-wal"), b"something").expect("write");
    let error = Database::open(&path, &OpenOptions::default()).expect_err("stray");
    assert!(matches!(error, OpenError::StrayLog { .. }), "{error}");
    let error = Database::open(directory.path().join("none/a.db"), &OpenOptions::default())
        .expect_err("no directory");
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[test]
fn rollback_journal_database_is_converted() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    assert!(
        stock(&path, "CREATE TABLE t(a); INSERT INTO t VALUES (7)")
            .status
            .success()
    );
    let database = Database::open(&path, &OpenOptions::default()).expect("open");
    let log = Log::default();
    let writer = database.writer(recording(&log)).expect("writer");
    writer
        .connection()
        .execute_batch("INSERT INTO t VALUES (8)")
        .expect("insert");
    assert_eq!(log.lock().len(), 1);
    assert_eq!(
        stock_reads(&path, "PRAGMA journal_mode; SELECT group_concat(a) FROM t"),
        "wal\n7,8"
    );
}

#[test]
fn long_reader_makes_checkpoints_partial_and_blocks_nobody() {
    let pair = Pair::new(&options(4096));
    let database = pair.writer.database();
    pair.sql("CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    let reader = database.reader().expect("reader");
    reader.execute_batch("BEGIN").expect("begin");
    let count = || {
        reader
            .query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
            .expect("count")
    };
    assert_eq!(count(), 1);
    pair.sql("INSERT INTO t VALUES (2)");
    for mode in [
        CheckpointMode::Passive,
        CheckpointMode::Restart,
        CheckpointMode::Truncate,
    ] {
        let outcome = database.checkpoint(mode).expect("checkpoint");
        assert!(!outcome.complete && !outcome.reset, "{outcome:?}");
        assert!(
            outcome.copied_frames > 0 && outcome.copied_frames < outcome.wal_frames,
            "{outcome:?}"
        );
    }
    pair.sql("INSERT INTO t VALUES (3)");
    assert_eq!(count(), 1);
    reader.execute_batch("COMMIT").expect("commit");
    assert_eq!(count(), 3);
    assert!(
        database
            .checkpoint(CheckpointMode::Passive)
            .expect("checkpoint")
            .complete
    );
    let outcome = database
        .checkpoint(CheckpointMode::Truncate)
        .expect("checkpoint");
    assert!(outcome.complete && outcome.reset, "{outcome:?}");
    assert_eq!(database.wal_size_bytes(), 0);
    pair.sql("BEGIN IMMEDIATE; INSERT INTO t VALUES (4)");
    assert!(
        database.checkpoint(CheckpointMode::Passive).is_err(),
        "a writer is at work"
    );
    pair.sql("COMMIT");
    assert_eq!(count(), 4);
    drop(reader);
    assert!(database.scrub().expect("scrub").damaged.is_empty());
}
