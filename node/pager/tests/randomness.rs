//! SQLite's randomness belongs to the process, so this test has one of its own.

use halite_pager::{
    CapturedTransaction, Database, GateVerdict, OpenOptions, seed_sqlite_randomness,
};

/// What SQL sees, and the log that SQLite wrote, salts included.
fn run(seed: u32) -> (String, Vec<u8>) {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.db");
    seed_sqlite_randomness(seed);
    let database = Database::open(&path, &OpenOptions::default()).expect("open");
    let writer = database
        .writer(Box::new(|_: &CapturedTransaction<'_>| GateVerdict::Open))
        .expect("writer");
    let sql = writer.connection();
    sql.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (randomblob(100))")
        .expect("write");
    let random = sql
        .query_row("SELECT random() || hex(randomblob(8))", [], |row| {
            row.get(0)
        })
        .expect("read");
    drop((writer, database));
    let wal = std::fs::read(directory.path().join("a.db-wal")).expect("wal");
    (random, wal)
}

#[test]
fn seed_decides_what_sqlite_draws() {
    let first = run(7);
    assert_eq!(first, run(7));
    assert_ne!(first.0, run(8).0);
    let unseeded = run(0);
    assert_ne!(unseeded.0, run(0).0);
    assert_ne!(unseeded.1, run(0).1);
}
