//! Crashes: files copied at bad moments, cut where a power loss could cut them, opened again and brought to an exact state.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use halite_ltx::Checksum;
use libsqlite3_sys as ffi;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::support::{
    Log, Recorded, crash_copy, options, pages, recording, stock_reads, with_suffix,
};
use crate::{
    ApplyError, ApplyTarget, CapturedTransaction, CheckpointMode, Database, GateVerdict,
    OpenOptions,
};

/// One committed state of the primary.
struct State {
    pages: Vec<Vec<u8>>,
    checksum: Checksum,
}

fn state(database: &Arc<Database>) -> State {
    State {
        pages: pages(database),
        checksum: database.checksum(),
    }
}

/// Opens a crashed copy and brings it to `states[target]`, given the transactions since `durable`.
fn redo(path: &Path, log: &[Recorded], states: &[State], durable: usize, target: usize) {
    let database = Database::open(path, &OpenOptions::default()).expect("open");
    let mut applier = database.applier().expect("applier");
    let goal = ApplyTarget {
        page_count: states[target].pages.len() as u32,
        expected_pre: None,
        expected_post: Some(states[target].checksum),
    };
    let post = applier
        .redo::<ApplyError>(goal, |sink| {
            for transaction in &log[durable..target] {
                for (pgno, page) in &transaction.pages {
                    sink.page(*pgno, page)?;
                }
            }
            Ok(())
        })
        .expect("redo");
    assert_eq!(post, states[target].checksum);
    assert!(pages(&database) == states[target].pages, "pages differ");
    assert_eq!(database.scrub().expect("scrub").damaged, []);
    assert_eq!(stock_reads(path, "PRAGMA integrity_check"), "ok");
    // The rest of the log goes on from there.
    for transaction in &log[target..] {
        transaction.apply_to(&mut applier).expect("apply");
    }
    assert!(
        pages(&database) == states[log.len()].pages,
        "pages differ after going on"
    );
}

/// Statements that touch old pages, grow and shrink.
pub(super) fn statement(random: &mut StdRng) -> String {
    let row = random.random_range(0..60);
    let bytes = random.random_range(1..6000);
    match random.random_range(0..8) {
        0..=3 => format!("INSERT OR REPLACE INTO t VALUES ({row}, randomblob({bytes}))"),
        4 => format!("UPDATE t SET b = randomblob({bytes}) WHERE a < {}", row / 4),
        5 => format!("DELETE FROM t WHERE a BETWEEN {row} AND {}", row + 15),
        6 => "VACUUM".to_owned(),
        _ => format!(
            "CREATE TABLE IF NOT EXISTS t{row}(a); INSERT INTO t{row} VALUES (randomblob({bytes}))"
        ),
    }
}

fn crash_run(seed: u64) {
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    let log = Log::default();
    let database = Database::open(&path, &options(1 << random.random_range(9..14))).expect("open");
    let writer = database.writer(recording(&log)).expect("writer");
    writer
        .connection()
        .execute_batch("PRAGMA cache_size = 10; CREATE TABLE t(a PRIMARY KEY, b)")
        .expect("create");
    let mut states = vec![
        State {
            pages: vec![],
            checksum: Checksum::EMPTY,
        },
        state(&database),
    ];
    // Position that the last complete checkpoint made durable, the least one a redo may aim at, and the bytes of the WAL that
    // a power loss cannot take.
    let (mut durable, mut least, mut synced) = (0, 0, 0);
    for round in 0..30 {
        while writer
            .connection()
            .execute_batch(&statement(&mut random))
            .is_err()
        {}
        while states.len() <= log.lock().len() {
            // A batch of two statements is two transactions, whose states need not all be known.
            let missing = log.lock().len() + 1 - states.len();
            let last = state(&database);
            for _ in 1..missing {
                states.push(State {
                    pages: vec![],
                    checksum: Checksum::EMPTY,
                });
            }
            states.push(last);
        }
        let now = log.lock().len();
        match random.random_range(0..8) {
            0 => {
                let mode = [
                    CheckpointMode::Passive,
                    CheckpointMode::Restart,
                    CheckpointMode::Truncate,
                ];
                let outcome = database
                    .checkpoint(mode[random.random_range(0..3)])
                    .expect("checkpoint");
                assert!(outcome.complete);
                (durable, least) = (now, now);
                synced = if outcome.reset {
                    0
                } else {
                    database.wal_size_bytes()
                };
            }
            1 => {
                // The disk fails somewhere in the middle of a checkpoint: some pages are copied.
                let reader = database.reader().expect("reader");
                reader.execute_batch("BEGIN").expect("begin");
                reader
                    .query_row("SELECT count(*) FROM t", [], |_| Ok(()))
                    .expect("read");
                writer
                    .connection()
                    .execute_batch("PRAGMA user_version = 1")
                    .expect("write");
                drop(reader);
                database
                    .shared
                    .file
                    .faults
                    .main_after
                    .store(random.random_range(1..6), Ordering::SeqCst);
                database
                    .shared
                    .file
                    .faults
                    .main
                    .store(ffi::SQLITE_IOERR_WRITE, Ordering::SeqCst);
                let failed = database.checkpoint(CheckpointMode::Passive).is_err();
                database.shared.file.faults.main.store(0, Ordering::SeqCst);
                while states.len() <= log.lock().len() {
                    states.push(state(&database));
                }
                least = log.lock().len();
                synced = database.wal_size_bytes();
                if !failed {
                    durable = least;
                }
            }
            _ => {}
        }
        let log = log.lock().clone();
        let now = log.len();
        // The node may know less than what the WAL holds, but never less than what a checkpoint aimed at.
        let known: Vec<usize> = (least..=now)
            .filter(|&at| at == 0 || !states[at].pages.is_empty())
            .collect();
        for cut in [false, true] {
            let crashed = directory.path().join(format!("crashed-{round}-{cut}.db"));
            crash_copy(&path, &crashed);
            if cut {
                let wal = with_suffix(&crashed, "-wal");
                let bytes = std::fs::metadata(&wal).expect("wal").len();
                let kept = random.random_range(synced.min(bytes)..=bytes);
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(&wal)
                    .expect("wal")
                    .set_len(kept)
                    .expect("cut");
            }
            let target = known[random.random_range(0..known.len())];
            redo(&crashed, &log, &states, durable, target);
            Database::remove(&crashed).expect("remove");
        }
    }
}

#[test]
fn redo_reaches_the_exact_state_after_any_crash() {
    for seed in 0..6 {
        crash_run(seed);
    }
}

#[test]
fn crash_while_the_gate_is_shut_publishes_nothing() {
    for spilled in [false, true] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("a.db");
        let crashed = directory.path().join("crashed.db");
        let database = Database::open(&path, &OpenOptions::default()).expect("open");
        let (from, to) = (path.clone(), crashed.clone());
        let writer = database
            .writer(Box::new(move |transaction: &CapturedTransaction<'_>| {
                if transaction.previous_page_count() > 0 {
                    crash_copy(&from, &to);
                }
                GateVerdict::Open
            }))
            .expect("writer");
        let sql = writer.connection();
        sql.execute_batch("CREATE TABLE t(a)").expect("create");
        if spilled {
            sql.execute_batch("PRAGMA cache_size = 10").expect("cache");
        }
        let before = state(&database);
        sql.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO t SELECT randomblob(900) FROM n",
        )
        .expect("insert");
        assert_eq!(stock_reads(&crashed, "SELECT count(*) FROM t"), "0");
        let reopened = Database::open(&crashed, &OpenOptions::default()).expect("open");
        assert_eq!(reopened.checksum(), before.checksum);
    }
}

#[test]
fn redo_without_anything_to_do_checks_the_state() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    let database = Database::open(&path, &OpenOptions::default()).expect("open");
    let log = Log::default();
    let writer = database.writer(recording(&log)).expect("writer");
    writer
        .connection()
        .execute_batch("CREATE TABLE t(a)")
        .expect("create");
    let known = state(&database);
    database
        .checkpoint(CheckpointMode::Truncate)
        .expect("checkpoint");
    drop((writer, database));
    redo(
        &path,
        &log.lock(),
        &[
            State {
                pages: vec![],
                checksum: Checksum::EMPTY,
            },
            known,
        ],
        1,
        1,
    );
    // A stock program wrote while nobody held the fence: found by the checksum.
    assert!(
        super::support::stock(&path, "CREATE TABLE stray(a)")
            .status
            .success()
    );
    let database = Database::open(&path, &OpenOptions::default()).expect("open");
    let last = log.lock().last().expect("last").clone();
    let target = ApplyTarget {
        expected_pre: None,
        ..last.target()
    };
    let error = database
        .applier()
        .expect("applier")
        .redo::<ApplyError>(target, |_| Ok(()))
        .expect_err("diverged");
    assert!(
        matches!(
            error,
            ApplyError::PostChecksum { .. } | ApplyError::Size { .. }
        ),
        "{error}"
    );
}

#[test]
fn redo_to_an_absurd_size_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let database =
        Database::open(directory.path().join("a.db"), &OpenOptions::default()).expect("open");
    let target = ApplyTarget {
        page_count: u32::MAX - 1,
        expected_pre: None,
        expected_post: None,
    };
    let mut applier = database.applier().expect("applier");
    let page = crate::blank_page::blank_page(database.page_size(), crate::AutoVacuum::None);
    let error = applier
        .redo::<ApplyError>(target, |sink| sink.page(halite_ltx::PageNo::FIRST, &page))
        .expect_err("absurd");
    assert!(
        matches!(
            error,
            ApplyError::Size { .. } | ApplyError::MissingPage { .. }
        ),
        "{error}"
    );
    assert_eq!(database.page_count(), 0);
}

#[test]
fn redo_goes_back_to_blank() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    let database = Database::open(&path, &OpenOptions::default()).expect("open");
    let log = Log::default();
    let writer = database.writer(recording(&log)).expect("writer");
    writer
        .connection()
        .execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(20000))")
        .expect("create");
    let states = [
        State {
            pages: vec![],
            checksum: Checksum::EMPTY,
        },
        State {
            pages: vec![],
            checksum: Checksum::EMPTY,
        },
        state(&database),
    ];
    let crashed = directory.path().join("crashed.db");
    crash_copy(&path, &crashed);
    redo(&crashed, &log.lock(), &states, 0, 0);
}

#[test]
fn wal_index_tells_the_page_of_every_frame() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    let database = Database::open(&path, &options(512)).expect("open");
    let writer = database.writer(recording(&Log::default())).expect("writer");
    writer
        .connection()
        .execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(5000000)); UPDATE t SET a = zeroblob(4000000)")
        .expect("write");
    let index = database.shared.file.index.get().expect("index");
    let frames = index.max_frame().expect("frames");
    assert!(frames > 4096 * 3, "several regions frames={frames}");
    // A copy, as opening the original here would cost its locks.
    let copy = directory.path().join("copy.db");
    crash_copy(&path, &copy);
    let wal = std::fs::File::open(with_suffix(&copy, "-wal")).expect("wal");
    let mut seen = 0;
    for (from, to) in [(1, frames), (4061, 4065), (8157, 8160), (frames, frames)] {
        index
            .for_each_frame(from, to, |frame, pgno| {
                let mut header = [0u8; 4];
                wal.read_exact_at(&mut header, 32 + u64::from(frame - 1) * 536)
                    .expect("header");
                assert_eq!(pgno, u32::from_be_bytes(header), "frame {frame}");
                seen += 1;
            })
            .expect("frames");
    }
    assert_eq!(seen, frames + 5 + 4 + 1);
}
