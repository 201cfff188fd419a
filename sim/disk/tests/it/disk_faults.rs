//! Faults of the disk that SQLite and the pager must take, one at a time.

use halite_pager::{CapturedTransaction, CheckpointMode, CommitOutcome, FileKind, PagerError};
use halite_sim_disk::{CrashDisk, DiskAction, DiskError, DiskFate, Survival};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::crash_disk::{Fixture, ROWS, sql};
use super::support::{recording, stock, stock_reads};

/// Fails the next sync of the database file.
fn fail_sync(disk: &CrashDisk) {
    let mut failed = false;
    disk.set_faults(move |operation| {
        let sync = (operation.file, operation.action) == (FileKind::Database, DiskAction::Sync);
        if sync && !std::mem::replace(&mut failed, true) {
            DiskFate::Fails(DiskError::Io)
        } else {
            DiskFate::Done
        }
    });
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
        fail_sync(&world.disk);
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
