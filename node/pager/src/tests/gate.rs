//! The gate: what is visible before and after, and what happens when it refuses or the disk does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use libsqlite3_sys as ffi;
use parking_lot::Mutex;

use super::support::{
    Pair, Recorded, assert_fenced, assert_same, crash_copy, options, stock_reads,
};
use crate::{ApplyError, CapturedTransaction, CommitOutcome, Database, GateVerdict, OpenOptions};

#[test]
fn nobody_sees_a_transaction_before_its_gate_opens() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    let database = Database::open(&path, &OpenOptions::default()).expect("open");
    let (reached, at_gate) = mpsc::channel();
    let (verdict, verdicts) = mpsc::channel();
    let verdicts = Mutex::new(verdicts);
    let writer = database
        .writer(Box::new(move |transaction: &CapturedTransaction<'_>| {
            reached.send(Recorded::of(transaction)).expect("send");
            verdicts.lock().recv().expect("verdict")
        }))
        .expect("writer");
    let lane = std::thread::spawn(move || {
        let results: Vec<_> = [
            "CREATE TABLE t(a)",
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t VALUES (2)",
        ]
        .iter()
        .map(|sql| {
            (
                writer.connection().execute_batch(sql).is_ok(),
                writer.last_commit(),
            )
        })
        .collect();
        (writer, results)
    });
    at_gate.recv().expect("create");
    assert_eq!(
        stock_reads(&path, "SELECT count(*) FROM sqlite_schema"),
        "0"
    );
    assert_eq!(database.page_count(), 0);
    verdict.send(GateVerdict::Open).expect("open");
    let reader = database.reader().expect("reader");
    let inner = || {
        reader
            .query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
            .expect("count")
    };
    let first = at_gate.recv().expect("insert");
    assert_eq!(
        (
            stock_reads(&path, "SELECT count(*) FROM t").as_str(),
            inner()
        ),
        ("0", 0)
    );
    assert_eq!(database.snapshot().expect("snapshot").checksum(), first.pre);
    // Were the node to die now, recovery must not publish what the quorum may not have.
    let crashed = directory.path().join("crashed.db");
    crash_copy(&path, &crashed);
    assert_eq!(stock_reads(&crashed, "SELECT count(*) FROM t"), "0");
    verdict.send(GateVerdict::Refuse).expect("refuse");
    let second = at_gate.recv().expect("insert");
    assert_eq!(
        (
            stock_reads(&path, "SELECT count(*) FROM t").as_str(),
            inner()
        ),
        ("0", 0)
    );
    assert_eq!(second.pre, first.pre);
    verdict.send(GateVerdict::Open).expect("open");
    let (writer, results) = lane.join().expect("lane");
    assert_eq!(stock_reads(&path, "SELECT group_concat(a) FROM t"), "2");
    assert_eq!(inner(), 1);
    assert_eq!(database.checksum(), second.post);
    assert_eq!(results[1], (false, CommitOutcome::Refused));
    assert_eq!(
        results[2],
        (
            true,
            CommitOutcome::Published {
                post_checksum: second.post
            }
        )
    );
    assert!(writer.connection().is_autocommit());
}

/// A writer whose gate answers what `verdict` says, and opens otherwise.
fn switched(pair: &Pair) -> (crate::Writer, Arc<Mutex<GateVerdict>>) {
    let verdict = Arc::new(Mutex::new(GateVerdict::Open));
    let (answer, log) = (Arc::clone(&verdict), Arc::clone(&pair.log));
    let gate = move |transaction: &CapturedTransaction<'_>| {
        let verdict = *answer.lock();
        if verdict == GateVerdict::Open {
            log.lock().push(Recorded::of(transaction));
        }
        verdict
    };
    (
        pair.writer
            .database()
            .writer(Box::new(gate))
            .expect("writer"),
        verdict,
    )
}

#[test]
fn refused_transactions_leave_no_trace() {
    let mut pair = Pair::new(&options(1024));
    let (writer, verdict) = switched(&pair);
    let sql = writer.connection();
    sql.execute_batch("CREATE TABLE t(a PRIMARY KEY, b); PRAGMA cache_size = 10")
        .expect("create");
    pair.sync();
    for round in 0..6 {
        let before = pair.writer.database().checksum();
        *verdict.lock() = GateVerdict::Refuse;
        for statement in [
            "INSERT INTO t VALUES (1000, 'x')",
            // Large enough to spill.
            "BEGIN; INSERT INTO t SELECT value, randomblob(900) FROM generate; COMMIT",
            "BEGIN; INSERT INTO t VALUES (1001, 1); SAVEPOINT s; INSERT INTO t VALUES (1002, 1); RELEASE s; COMMIT",
            "CREATE TABLE u(a)",
            "VACUUM",
        ] {
            let statement = statement
                .replace("generate", "(WITH RECURSIVE n(value) AS (SELECT 5000 UNION ALL SELECT value + 1 FROM n WHERE value < 5200) SELECT value FROM n)");
            let result = sql.execute_batch(&statement);
            assert_eq!(
                result
                    .expect_err("refused")
                    .sqlite_error()
                    .expect("code")
                    .extended_code,
                ffi::SQLITE_ABORT_ROLLBACK
            );
            assert_eq!(writer.last_commit(), CommitOutcome::Refused);
            assert!(sql.is_autocommit());
            assert_eq!(pair.writer.database().checksum(), before);
            assert_fenced(pair.writer.database().path(), "DELETE FROM t");
        }
        *verdict.lock() = GateVerdict::Open;
        sql.execute("INSERT INTO t VALUES (?1, 'kept')", [round])
            .expect("insert");
        pair.sync();
        if round == 3 {
            pair.writer
                .database()
                .checkpoint(crate::CheckpointMode::Restart)
                .expect("checkpoint");
        }
    }
    assert_eq!(
        stock_reads(
            pair.writer.database().path(),
            "SELECT count(*), sum(a) FROM t"
        ),
        "6|15"
    );
    assert_eq!(
        stock_reads(pair.writer.database().path(), "PRAGMA integrity_check"),
        "ok"
    );
}

#[test]
fn transactions_that_change_nothing_do_not_reach_the_gate() {
    let pair = Pair::new(&options(4096));
    pair.sql("BEGIN; SAVEPOINT s; CREATE TABLE gone(a); ROLLBACK TO s; COMMIT");
    assert_eq!(pair.writer.database().page_count(), 0);
    pair.sql("CREATE TABLE t(a PRIMARY KEY); INSERT INTO t VALUES (1)");
    let reached = pair.log.lock().len();
    for sql in [
        "BEGIN IMMEDIATE; COMMIT",
        "SELECT * FROM t",
        "BEGIN; DELETE FROM t; ROLLBACK",
        "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (2); CREATE TABLE gone(a); ROLLBACK TO s; COMMIT",
        "INSERT OR IGNORE INTO t VALUES (1)",
        "DELETE FROM t WHERE a = 77",
    ] {
        pair.sql(sql);
        assert_eq!(
            pair.writer.last_commit(),
            CommitOutcome::NotReached,
            "{sql}"
        );
    }
    assert_eq!(pair.log.lock().len(), reached);
    assert_eq!(pair.writer.database().scrub().expect("scrub").damaged, []);
}

#[test]
fn full_disk_after_the_gate_is_told_apart_and_can_be_made_good() {
    let mut pair = Pair::new(&options(4096));
    pair.sql("CREATE TABLE t(a); INSERT INTO t VALUES (1)");
    pair.sync();
    let database = Arc::clone(pair.writer.database());
    let before = database.checksum();
    database
        .shared
        .file
        .faults
        .after_open
        .store(ffi::SQLITE_FULL, Ordering::SeqCst);
    let error = pair
        .writer
        .connection()
        .execute_batch("INSERT INTO t VALUES (2)")
        .expect_err("full");
    assert_eq!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DiskFull)
    );
    assert_eq!(pair.writer.last_commit(), CommitOutcome::FailedAfterOpen);
    assert_eq!(database.checksum(), before);
    assert_eq!(stock_reads(database.path(), "SELECT count(*) FROM t"), "1");
    // The quorum has it: the same pages are applied here, once there is room.
    let agreed = pair.log.lock().last().expect("agreed").clone();
    let mut applier = database.applier().expect("applier");
    database
        .shared
        .file
        .faults
        .after_open
        .store(ffi::SQLITE_FULL, Ordering::SeqCst);
    assert!(matches!(
        agreed.apply_to(&mut applier),
        Err(ApplyError::Write(_))
    ));
    agreed.apply_to(&mut applier).expect("apply");
    pair.sync();
    assert_eq!(stock_reads(database.path(), "SELECT count(*) FROM t"), "2");
    // Failing before the gate is an ordinary rollback.
    database
        .shared
        .file
        .faults
        .frame
        .store(ffi::SQLITE_FULL, Ordering::SeqCst);
    pair.writer
        .connection()
        .execute_batch("INSERT INTO t VALUES (3)")
        .expect_err("full");
    assert_eq!(pair.writer.last_commit(), CommitOutcome::NotReached);
    pair.sql("INSERT INTO t VALUES (4)");
    pair.sync();
    assert_same(pair.writer.database(), pair.applier.database());
}

#[test]
fn failing_disk_at_every_write_of_a_commit_leaves_a_working_database() {
    let mut pair = Pair::new(&options(1024));
    pair.sql("PRAGMA cache_size = 10; CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
    pair.sync();
    let database = Arc::clone(pair.writer.database());
    let mut applier = database.applier().expect("applier");
    let large = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
        INSERT OR REPLACE INTO t SELECT i, randomblob(700) FROM n";
    // Frames that were spilled and changed again get their checksums rewritten after the commit frame.
    let rewritten = format!("BEGIN; {large}; UPDATE t SET b = randomblob(640); COMMIT");
    for skipped in [0, 1, 2, 20] {
        database
            .shared
            .file
            .faults
            .after_open_skip
            .store(skipped, Ordering::SeqCst);
        database
            .shared
            .file
            .faults
            .after_open
            .store(ffi::SQLITE_IOERR_WRITE, Ordering::SeqCst);
        assert!(pair.writer.connection().execute_batch(&rewritten).is_err());
        assert_eq!(pair.writer.last_commit(), CommitOutcome::FailedAfterOpen);
        assert_eq!(stock_reads(database.path(), "PRAGMA integrity_check"), "ok");
        let agreed = pair.log.lock().last().expect("agreed").clone();
        agreed.apply_to(&mut applier).expect("apply again");
        pair.sync();
    }
    database
        .shared
        .file
        .faults
        .after_open_skip
        .store(0, Ordering::SeqCst);
    for code in [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_FULL] {
        for sql in [
            large,
            "UPDATE t SET b = randomblob(650)",
            "INSERT INTO t VALUES (NULL, 1)",
        ] {
            // The page of the commit frame, or, where frames were rewritten, one of the checksums after it.
            database
                .shared
                .file
                .faults
                .after_open
                .store(code, Ordering::SeqCst);
            assert!(pair.writer.connection().execute_batch(sql).is_err());
            assert_eq!(pair.writer.last_commit(), CommitOutcome::FailedAfterOpen);
            assert!(pair.writer.connection().is_autocommit());
            let agreed = pair.log.lock().last().expect("agreed").clone();
            agreed.apply_to(&mut applier).expect("apply again");
            pair.sync();
            database
                .shared
                .file
                .faults
                .frame
                .store(code, Ordering::SeqCst);
            assert!(pair.writer.connection().execute_batch(sql).is_err());
            assert_eq!(pair.writer.last_commit(), CommitOutcome::NotReached);
            assert!(pair.writer.connection().is_autocommit());
            pair.sql(sql);
            pair.sync();
        }
    }
    assert_eq!(stock_reads(database.path(), "PRAGMA integrity_check"), "ok");
}

#[test]
fn snapshots_stay_consistent_while_the_lane_writes() {
    let pair = Pair::new(&options(1024));
    pair.sql("CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
    let database = Arc::clone(pair.writer.database());
    let taken = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (database, taken) = (Arc::clone(&database), Arc::clone(&taken));
            std::thread::spawn(move || {
                while taken.fetch_add(1, Ordering::SeqCst) < 3000 {
                    assert_eq!(database.scrub().expect("scrub").damaged, []);
                }
            })
        })
        .collect();
    let mut number = 0;
    while taken.load(Ordering::SeqCst) < 3000 {
        // A panic in a reader shows below.
        if readers.iter().all(|reader| reader.is_finished()) {
            break;
        }
        pair.writer
            .connection()
            .execute(
                "INSERT OR REPLACE INTO t VALUES (?1 % 20, randomblob(300))",
                [number],
            )
            .expect("insert");
        number += 1;
        if number % 50 == 0 {
            database
                .checkpoint(crate::CheckpointMode::Restart)
                .expect("checkpoint");
        }
        pair.log.lock().clear();
    }
    for reader in readers {
        reader.join().expect("reader");
    }
    assert!(number > 50, "the writer has to run beside the readers");
}

#[test]
fn only_one_of_writer_and_applier_has_a_transaction() {
    let pair = Pair::new(&options(4096));
    pair.sql("CREATE TABLE t(a)");
    let mut applier = pair.writer.database().applier().expect("applier");
    let transaction = pair.log.lock()[0].clone();
    pair.sql("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)");
    let error = transaction.apply_to(&mut applier).expect_err("busy");
    assert!(matches!(error, ApplyError::WriterActive), "{error}");
    pair.sql("COMMIT");
    let error = transaction.apply_to(&mut applier).expect_err("stale");
    assert!(matches!(error, ApplyError::PreChecksum { .. }), "{error}");
    // Nothing but `apply` may commit on an applier, and readers cannot write at all.
    assert!(
        pair.writer
            .database()
            .reader()
            .expect("reader")
            .execute_batch("DELETE FROM t")
            .is_err()
    );
}
