//! The simulated disk itself: what it keeps, what it loses, and what it lets nobody do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use halite_ltx::Checksum;
use halite_pager::{
    ApplyError, ApplyTarget, CheckpointMode, Database, FileKind, OpenError, OpenOptions, Writer,
};
use halite_sim_disk::{CrashDisk, DiskAction, DiskError, DiskFate, RestoreError, Survival};
use tempfile::TempDir;

use super::support::{
    Log, Recorded, assert_fenced, options, recording, stock, stock_reads, with_suffix,
};

pub(super) const ROWS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
    INSERT INTO t SELECT randomblob(900) FROM n";

pub(super) struct Fixture {
    _directory: TempDir,
    pub(super) path: PathBuf,
    pub(super) disk: CrashDisk,
    options: OpenOptions,
    pub(super) log: Log,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().canonicalize().expect("path").join("a.db");
        let disk = CrashDisk::new();
        let options = OpenOptions {
            disk: Some(Arc::new(disk.clone())),
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

    pub(super) fn open(&self) -> Arc<Database> {
        Database::open(&self.path, &self.options).expect("open")
    }

    pub(super) fn last(&self) -> Recorded {
        self.log.lock().last().expect("a transaction").clone()
    }

    /// Opens, and redoes to the end of the log what came after `durable`; what readers saw before that.
    pub(super) fn redo(&self, durable: usize) -> Checksum {
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
}

#[test]
fn a_database_that_fails_to_open_is_as_before_and_opens_later() {
    let fixture = Fixture::new();
    let other = fixture.path.with_file_name("b.db");
    let failing = fixture.path.clone();
    fixture.disk.set_faults(move |operation| {
        match (operation.action, operation.database == failing) {
            (DiskAction::Open, true) => DiskFate::Fails(DiskError::Io),
            _ => DiskFate::Done,
        }
    });
    let failed = Database::open(&fixture.path, &fixture.options);
    assert!(matches!(failed, Err(OpenError::Io { .. })), "{failed:?}");
    assert!(!fixture.path.exists(), "nothing was made");
    // The other one is not concerned.
    drop(Database::open(&other, &fixture.options).expect("open"));
    assert_eq!(fixture.disk.fault_counts().opens_failed, 1);
    fixture.disk.clear_faults();
    drop(fixture.open());
}

pub(super) fn sql(writer: &Writer, sql: &str) {
    writer.connection().execute_batch(sql).expect(sql);
}

/// POSIX locks on a file, of whatever process.
fn locks(path: &Path) -> usize {
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("file"));
    let place = format!(":{inode} ");
    let locks = std::fs::read_to_string("/proc/locks").expect("locks");
    locks.lines().filter(|line| line.contains(&place)).count()
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
    let locks = locks(&world.path);
    assert!(locks > 0, "SQLite holds the file");
    world
        .disk
        .corrupt(&world.path, FileKind::Database, 5 * 4096 + 100)
        .expect("corrupt");
    assert_eq!(self::locks(&world.path), locks);
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

/// The WAL of the first life is on disk and overwritten; a power loss would bring it back, were the file the same.
#[test]
fn changes_of_removed_files_do_not_come_back() {
    let world = Fixture::new();
    let database = world.open();
    let writer = database.writer(recording(&world.log)).expect("writer");
    sql(&writer, &format!("CREATE TABLE t(a); {ROWS}"));
    database
        .checkpoint(CheckpointMode::Passive)
        .expect("checkpoint");
    // Overwrites frames that are on disk.
    sql(&writer, "DELETE FROM t");
    assert!(world.disk.unsynced_changes(&world.path, FileKind::Wal) > 0);
    drop((writer, database));
    Database::remove(&world.path).expect("remove");
    let database = world.open();
    world.disk.cut_power();
    drop(database);
    world
        .disk
        .restore_power(CrashDisk::drop_all)
        .expect("restore");
    assert_eq!(size(&with_suffix(&world.path, "-wal")), 0);
    assert_eq!(world.open().page_count(), 0);
}
