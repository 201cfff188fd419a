//! The simulated disk itself, and the faults that SQLite and the pager must take one at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use halite_ltx::Checksum;
use tempfile::TempDir;

use super::support::{
    Log, Recorded, assert_fenced, options, recording, stock, stock_reads, with_suffix,
};
use crate::{
    ApplyError, ApplyTarget, CapturedTransaction, CheckpointMode, CommitOutcome, CrashDisk,
    Database, DiskAction, DiskError, DiskFate, FileKind, OpenError, OpenOptions, PagerError,
    RestoreError, Survival,
};

const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
    INSERT INTO t SELECT randomblob(900) FROM n";

struct Fixture {
    _directory: TempDir,
    path: PathBuf,
    disk: CrashDisk,
    options: OpenOptions,
    log: Log,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().canonicalize().expect("path").join("a.db");
        let disk = CrashDisk::new();
        let options = OpenOptions {
            crash_disk: Some(disk.clone()),
            ..options(4096)
        };
        Fixture {
            _directory: directory,
            path,
            disk,
            options,
            log: Log::default(),
        }
    }

    fn open(&self) -> Arc<Database> {
        Database::open(&self.path, &self.options).expect("open")
    }

    fn last(&self) -> Recorded {
        self.log.lock().last().expect("a transaction").clone()
    }

    /// Opens, and redoes to the end of the log what came after `durable`; what readers saw before that.
    fn redo(&self, durable: usize) -> Checksum {
        let database = self.open();
        let found = database.checksum();
        let goal = ApplyTarget {
            expected_pre: None,
            ..self.last().target()
        };
        let log = self.log.lock()[durable..].to_vec();
        database
            .applier()
            .expect("applier")
            .redo::<ApplyError>(goal, |sink| {
                log.iter()
                    .flat_map(|transaction| &transaction.pages)
                    .try_for_each(|(pgno, page)| sink.page(*pgno, page))
            })
            .expect("redo");
        assert_eq!(database.scrub().expect("scrub").damaged, []);
        assert_eq!(stock_reads(&self.path, "PRAGMA integrity_check"), "ok");
        found
    }

    /// Fails the sync of the database file with this number, counted from 0.
    fn fail_sync(&self, mut number: u32) {
        self.disk.set_faults(move |operation| {
            if (operation.file, operation.action) != (FileKind::Database, DiskAction::Sync) {
                return DiskFate::Done;
            }
            let fails = number == 0;
            number = number.wrapping_sub(1);
            if fails {
                DiskFate::Fails(DiskError::Io)
            } else {
                DiskFate::Done
            }
        });
    }
}

fn sql(writer: &crate::Writer, sql: &str) {
    writer.connection().execute_batch(sql).expect(sql);
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).expect("file").len()
}

#[test]
fn unsynced_transactions_are_lost_with_the_power_and_redone() {
    let world = Fixture::new();
    let database = world.open();
    let writer = database.writer(recording(&world.log)).expect("writer");
    sql(&writer, &format!("CREATE TABLE t(a); {ROWS}"));
    assert!(world.disk.unsynced_changes(&world.path, FileKind::Wal) > 0);
    assert_eq!(
        world.disk.unsynced_changes(&world.path, FileKind::Database),
        0
    );
    world.disk.cut_power();
    drop((writer, database));
    world
        .disk
        .restore_power(CrashDisk::drop_all)
        .expect("restore");
    assert_eq!(world.redo(0), Checksum::EMPTY, "the log of SQLite is gone");
}

#[test]
fn killed_process_loses_nothing_until_the_power_goes_off() {
    let world = Fixture::new();
    let database = world.open();
    let writer = database.writer(recording(&world.log)).expect("writer");
    sql(&writer, &format!("CREATE TABLE t(a); {ROWS}"));
    let before = database.checksum();
    world.disk.cut_power();
    drop((writer, database));
    world.disk.restart_process().expect("restart");
    let database = world.open();
    assert_eq!(database.checksum(), before, "the kernel kept it");
    assert!(world.disk.unsynced_changes(&world.path, FileKind::Wal) > 0);
    world.disk.cut_power();
    drop(database);
    world
        .disk
        .restore_power(CrashDisk::drop_all)
        .expect("restore");
    assert_eq!(world.redo(0), Checksum::EMPTY);
}

#[test]
fn pages_torn_in_the_middle_of_a_checkpoint_are_made_good() {
    for (writes, tear) in [(1, 1), (2, 100), (10, 2000), (20, 4095)] {
        let world = Fixture::new();
        let database = world.open();
        let writer = database.writer(recording(&world.log)).expect("writer");
        sql(&writer, &format!("CREATE TABLE t(a); {ROWS}"));
        assert!(
            database
                .checkpoint(CheckpointMode::Restart)
                .expect("checkpoint")
                .complete
        );
        let durable = world.log.lock().len();
        sql(&writer, "UPDATE t SET a = randomblob(901)");
        let before = database.checksum();
        let mut left = writes;
        world.disk.set_faults(move |operation| {
            let page = operation.file == FileKind::Database
                && matches!(operation.action, DiskAction::Write { .. });
            left -= u32::from(page);
            if page && left == 0 {
                DiskFate::PowerCut
            } else {
                DiskFate::Done
            }
        });
        database
            .checkpoint(CheckpointMode::Passive)
            .expect_err("no power");
        drop((writer, database));
        world.disk.clear_faults();
        world
            .disk
            .restore_power(|unsynced| match unsynced.file {
                FileKind::Database => Survival::Tear(tear),
                _ => Survival::Drop,
            })
            .expect("restore");
        assert_eq!(
            world.disk.fault_counts().changes_torn,
            u64::from(writes - 1)
        );
        assert_eq!(
            world.redo(durable),
            before,
            "the log of SQLite was synced before"
        );
    }
}

/// Pages of several states side by side need not make a schema that SQLite can read.
#[test]
fn database_whose_schema_cannot_be_read_opens_for_redo() {
    let world = Fixture::new();
    let database = world.open();
    let writer = database.writer(recording(&world.log)).expect("writer");
    sql(&writer, &format!("CREATE TABLE t(a); {ROWS}"));
    database
        .checkpoint(CheckpointMode::Truncate)
        .expect("checkpoint");
    drop((writer, database));
    // The type of the schema's b-tree page.
    world
        .disk
        .corrupt(&world.path, FileKind::Database, 100)
        .expect("corrupt");
    let read = stock(&world.path, "SELECT * FROM sqlite_schema");
    assert!(!read.status.success(), "the schema can be read");
    assert_ne!(world.redo(0), world.last().post);
}

#[test]
fn full_disk_in_a_commit_is_told_and_made_good() {
    for (gate_open, partly) in [(false, 0), (false, 1000), (true, 0), (true, 1000)] {
        let world = Fixture::new();
        let database = world.open();
        let opened = Arc::new(AtomicBool::new(false));
        let (inner, at_gate) = (recording(&world.log), Arc::clone(&opened));
        let writer = database
            .writer(Box::new(move |transaction: &CapturedTransaction<'_>| {
                at_gate.store(true, Ordering::SeqCst);
                inner.commit(transaction)
            }))
            .expect("writer");
        sql(&writer, "CREATE TABLE t(a)");
        let before = database.checksum();
        opened.store(false, Ordering::SeqCst);
        world.disk.set_faults(move |operation| {
            let full = operation.file == FileKind::Wal
                && matches!(operation.action, DiskAction::Write { .. })
                && opened.load(Ordering::SeqCst) == gate_open;
            let error = DiskError::Full;
            match partly {
                _ if !full => DiskFate::Done,
                0 => DiskFate::Fails(error),
                bytes => DiskFate::FailsPartly { bytes, error },
            }
        });
        let error = writer
            .connection()
            .execute_batch(ROWS)
            .expect_err("the disk is full");
        assert_eq!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::DiskFull)
        );
        assert_eq!(database.checksum(), before, "nothing is visible");
        assert!(world.disk.fault_counts().writes_full > 0);
        world.disk.clear_faults();
        if gate_open {
            assert_eq!(writer.last_commit(), CommitOutcome::FailedAfterOpen);
            let mut applier = database.applier().expect("applier");
            world.last().apply_to(&mut applier).expect("apply");
        } else {
            assert_eq!(writer.last_commit(), CommitOutcome::NotReached);
            sql(&writer, ROWS);
        }
        assert_eq!(stock_reads(&world.path, "SELECT count(*) FROM t"), "100");
        world.disk.cut_power();
        drop((writer, database));
        world
            .disk
            .restore_power(CrashDisk::drop_all)
            .expect("restore");
        world.redo(0);
    }
}

/// A checkpoint of part of the WAL copies pages without a sync. The sync of the next one fails, and the kernel takes all of these
/// pages for clean: the sync after that succeeds without writing them, unless they have been copied again.
#[test]
fn checkpoint_after_a_failed_sync_counts_only_if_everything_was_written_again() {
    for partial in [false, true] {
        let world = Fixture::new();
        let database = world.open();
        let writer = database.writer(recording(&world.log)).expect("writer");
        sql(&writer, &format!("CREATE TABLE t(a); {ROWS}"));
        if partial {
            let reader = database.reader().expect("reader");
            reader.execute_batch("BEGIN").expect("begin");
            reader
                .query_row("SELECT count(*) FROM t", [], |_| Ok(()))
                .expect("read");
            sql(&writer, "CREATE TABLE u(a)");
            let outcome = database
                .checkpoint(CheckpointMode::Passive)
                .expect("checkpoint");
            assert!(!outcome.complete && outcome.copied_frames > 0);
        }
        world.fail_sync(0);
        let failed = database
            .checkpoint(CheckpointMode::Truncate)
            .expect_err("the sync fails");
        assert!(matches!(failed, PagerError::Sqlite(_)), "{failed}");
        assert!(database.wal_size_bytes() > 0);
        assert_eq!(world.disk.fault_counts().syncs_failed, 1);
        let outcome = database
            .checkpoint(CheckpointMode::Truncate)
            .expect("checkpoint");
        assert!(outcome.complete && outcome.reset);
        let durable = world.log.lock().len();
        let before = database.checksum();
        world.disk.cut_power();
        drop((writer, database));
        world
            .disk
            .restore_power(CrashDisk::drop_all)
            .expect("restore");
        assert_eq!(
            world.redo(durable),
            before,
            "a complete checkpoint is durable"
        );
    }
}

#[test]
fn without_power_nothing_works_and_no_file_changes() {
    let world = Fixture::new();
    let database = world.open();
    let writer = database.writer(recording(&world.log)).expect("writer");
    sql(&writer, &format!("CREATE TABLE t(a); {ROWS}"));
    let reader = database.reader().expect("reader");
    let wal = with_suffix(&world.path, "-wal");
    let sizes = (size(&world.path), size(&wal));
    world.disk.cut_power();
    for sql in ["SELECT max(a) FROM t", "CREATE TABLE u(a)", "VACUUM"] {
        for connection in [writer.connection(), &reader] {
            assert!(connection.execute_batch(sql).is_err(), "{sql}");
        }
    }
    assert!(database.checkpoint(CheckpointMode::Truncate).is_err());
    assert!(database.reader().is_err() && database.applier().is_err());
    let error = world
        .disk
        .restore_power(CrashDisk::keep_all)
        .expect_err("open");
    assert!(
        matches!(&error, RestoreError::StillOpen { path } if *path == world.path),
        "{error}"
    );
    drop((writer, reader));
    assert!(
        world.disk.restart_process().is_err(),
        "the database is open"
    );
    drop(database);
    assert_eq!(sizes, (size(&world.path), size(&wal)));
    let error = Database::open(&world.path, &world.options).expect_err("no power");
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    world
        .disk
        .restore_power(CrashDisk::keep_all)
        .expect("restore");
    assert!(!with_suffix(&world.path, "-shm").exists());
    assert_eq!(world.redo(0), world.last().post, "everything was kept");
}

#[test]
fn rotten_bytes_in_an_open_file_are_found_and_cost_no_lock() {
    let world = Fixture::new();
    let database = world.open();
    let writer = database.writer(recording(&world.log)).expect("writer");
    sql(&writer, &format!("CREATE TABLE t(a); {ROWS}"));
    assert!(
        database
            .checkpoint(CheckpointMode::Truncate)
            .expect("checkpoint")
            .complete
    );
    let reader = database.reader().expect("reader");
    world
        .disk
        .corrupt(&world.path, FileKind::Database, 5 * 4096 + 100)
        .expect("corrupt");
    assert_fenced(&world.path, "CREATE TABLE stray(a)");
    let damaged = database.scrub().expect("scrub").damaged;
    assert_eq!(damaged, [halite_ltx::PageNo::new(6)]);
    let past = world
        .disk
        .corrupt(&world.path, FileKind::Database, size(&world.path));
    assert_eq!(
        past.expect_err("past the end").kind(),
        std::io::ErrorKind::UnexpectedEof
    );
    drop((reader, writer, database));
    // The same bit again, in a file at rest.
    world
        .disk
        .corrupt(&world.path, FileKind::Database, 5 * 4096 + 100)
        .expect("corrupt");
    assert_eq!(world.open().scrub().expect("scrub").damaged, []);
    assert_eq!(world.disk.fault_counts().bits_flipped, 2);
}

/// The only time a rollback journal is used: SQLite converts a file of another journal mode.
#[test]
fn conversion_survives_a_power_loss_at_any_access() {
    for cut_after in 1.. {
        let world = Fixture::new();
        assert!(
            stock(&world.path, &format!("CREATE TABLE t(a); {ROWS}"))
                .status
                .success()
        );
        let expected = stock_reads(&world.path, "SELECT count(*), hex(max(a)) FROM t");
        let journal = Arc::new(AtomicBool::new(false));
        let (mut left, seen) = (cut_after, Arc::clone(&journal));
        world.disk.set_faults(move |operation| {
            seen.fetch_or(operation.file == FileKind::Journal, Ordering::SeqCst);
            left -= 1;
            if left == 0 {
                DiskFate::PowerCut
            } else {
                DiskFate::Done
            }
        });
        let opened = Database::open(&world.path, &world.options).is_ok();
        world.disk.clear_faults();
        world.disk.cut_power();
        world
            .disk
            .restore_power(|unsynced| match (cut_after + unsynced.number) % 3 {
                0 => Survival::Keep,
                1 => Survival::Drop,
                _ => Survival::Tear(50),
            })
            .expect("restore");
        let database = world.open();
        let found = stock_reads(
            &world.path,
            "PRAGMA integrity_check; SELECT count(*), hex(max(a)) FROM t",
        );
        assert_eq!(found, format!("ok\n{expected}"), "cut_after={cut_after}");
        drop(database);
        if opened {
            assert!(journal.load(Ordering::SeqCst), "no journal was seen");
            break;
        }
    }
}

#[test]
fn changes_of_removed_files_do_not_come_back() {
    let world = Fixture::new();
    let database = world.open();
    let writer = database.writer(recording(&world.log)).expect("writer");
    sql(&writer, &format!("CREATE TABLE t(a); {ROWS}"));
    drop((writer, database));
    Database::remove(&world.path).expect("remove");
    let database = world.open();
    assert_eq!(database.page_count(), 0);
    world.disk.cut_power();
    drop(database);
    world
        .disk
        .restore_power(CrashDisk::keep_all)
        .expect("restore");
    assert_eq!(world.open().page_count(), 0);
}
