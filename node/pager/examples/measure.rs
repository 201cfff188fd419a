//! Measures the cost of the gate and the speed of applying pages.
//!
//! `cargo run --release -p halite-pager --example measure`

#![allow(
    clippy::disallowed_methods,
    reason = "a measurement needs the real clock"
)]

use std::hint::black_box;
use std::sync::mpsc;
use std::time::Instant;

use halite_ltx::{Checksum, PageNo};
use halite_pager::{
    ApplyError, ApplyTarget, CaptureError, CapturedTransaction, CheckpointMode, Database,
    GateVerdict, OpenOptions,
};
use rusqlite::Connection;

const COMMITS: u32 = 50_000;

struct Captured {
    target: ApplyTarget,
    pages: Vec<(PageNo, Vec<u8>)>,
}

fn capture(transaction: &CapturedTransaction<'_>) -> Captured {
    let mut pages = Vec::new();
    transaction
        .for_each_page(|pgno, page| {
            pages.push((pgno, page.to_vec()));
            Ok::<(), CaptureError>(())
        })
        .expect("pages");
    Captured {
        target: ApplyTarget {
            page_count: transaction.page_count(),
            expected_pre: Some(transaction.pre_checksum()),
            expected_post: Some(transaction.post_checksum()),
        },
        pages,
    }
}

fn inserts(name: &str, connection: &Connection) {
    connection
        .execute_batch("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        .expect("create");
    let mut insert = connection
        .prepare("INSERT INTO t(b) VALUES (?1)")
        .expect("prepare");
    let start = Instant::now();
    for number in 0..COMMITS {
        insert.execute([number]).expect("insert");
    }
    println!(
        "{name}: {:.2} µs per single-row commit",
        start.elapsed().as_secs_f64() * 1e6 / f64::from(COMMITS)
    );
}

fn apply(applier: &mut halite_pager::Applier, captured: &Captured) -> Checksum {
    applier
        .apply::<ApplyError>(captured.target, |sink| {
            for (pgno, page) in &captured.pages {
                sink.page(*pgno, page)?;
            }
            Ok(())
        })
        .expect("apply")
}

fn main() {
    let directory = std::env::temp_dir().join(format!("halite-measure-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("directory");
    let options = OpenOptions::default();

    let plain = Connection::open(directory.join("plain.db")).expect("open");
    plain
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0",
        )
        .expect("pragmas");
    inserts("plain SQLite", &plain);

    let database = Database::open(directory.join("gated.db"), &options).expect("open");
    let writer = database
        .writer(Box::new(|transaction: &CapturedTransaction<'_>| {
            black_box(transaction.len());
            GateVerdict::Open
        }))
        .expect("writer");
    inserts("gate, always open", writer.connection());
    drop((writer, database));

    let (send, receive) = mpsc::channel();
    let primary = Database::open(directory.join("primary.db"), &options).expect("open");
    let writer = primary
        .writer(Box::new(move |transaction: &CapturedTransaction<'_>| {
            send.send(capture(transaction)).expect("send");
            GateVerdict::Open
        }))
        .expect("writer");
    let sql = writer.connection();
    sql.execute_batch("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        .expect("create");
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                INSERT INTO t SELECT i, randomblob(3500) FROM n";
    sql.execute_batch(fill).expect("fill");
    for round in 0..20_000 {
        sql.execute("UPDATE t SET b = randomblob(3500) WHERE a IN (?1, ?1 + 11000, ?1 + 22000, ?1 + 33000, ?1 + 44000)", [
            round % 6000 + 1,
        ])
        .expect("update");
    }
    let follower = Database::open(directory.join("follower.db"), &options).expect("open");
    let mut applier = follower.applier().expect("applier");
    apply(&mut applier, &receive.recv().expect("create"));
    let big = receive.recv().expect("fill");
    let start = Instant::now();
    apply(&mut applier, &big);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "one transaction of {} pages: {:.0} pages/s",
        big.pages.len(),
        big.pages.len() as f64 / seconds
    );
    let small: Vec<Captured> = receive.try_iter().collect();
    let pages: usize = small.iter().map(|captured| captured.pages.len()).sum();
    let start = Instant::now();
    for captured in &small {
        apply(&mut applier, captured);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} transactions of {:.1} pages: {:.1} µs each, {:.0} pages/s",
        small.len(),
        pages as f64 / small.len() as f64,
        seconds * 1e6 / small.len() as f64,
        pages as f64 / seconds
    );
    let start = Instant::now();
    let outcome = follower
        .checkpoint(CheckpointMode::Truncate)
        .expect("checkpoint");
    println!(
        "checkpoint: {:.2} s, complete={}",
        start.elapsed().as_secs_f64(),
        outcome.complete
    );
    let start = Instant::now();
    let report = follower.scrub().expect("scrub");
    println!(
        "scrub: {:.0} pages/s",
        f64::from(report.pages) / start.elapsed().as_secs_f64()
    );
    assert_eq!(follower.checksum(), primary.checksum());
    drop((applier, follower, writer, primary));
    let start = Instant::now();
    let follower = Database::open(directory.join("follower.db"), &options).expect("open");
    println!(
        "open: {:.0} pages/s",
        f64::from(follower.page_count()) / start.elapsed().as_secs_f64()
    );
    drop(follower);
    std::fs::remove_dir_all(&directory).expect("remove");
}
