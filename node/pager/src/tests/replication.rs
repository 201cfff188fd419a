//! A follower that applies what the gate saw holds the same bytes, whatever SQL did.

use halite_ltx::{Checksum, PageNo};

use super::support::{Log, Pair, assert_same, options, recording, stock_reads};
use crate::{
    ApplyError, ApplyTarget, AutoVacuum, CheckpointMode, CommitOutcome, Database, OpenOptions,
};

const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)";

/// Statements over most of what SQLite does to pages; after each the follower must match.
fn statements() -> Vec<String> {
    [
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b, c UNIQUE)",
        "INSERT INTO t VALUES (1, 'one', 1)",
        "MANY INSERT INTO t SELECT i + 10, hex(randomblob(i % 300)), i + 10 FROM n",
        "CREATE INDEX t_b ON t(b)",
        // A blob over many overflow pages.
        "INSERT INTO t VALUES (2, randomblob(300000), 2)",
        "UPDATE t SET b = 'short' WHERE a = 2",
        "DELETE FROM t WHERE a % 3 = 0",
        "BEGIN; INSERT INTO t VALUES (5000, 1, 5000); SAVEPOINT s; MANY INSERT INTO t SELECT i + 6000, randomblob(500), i + 6000 FROM n; ROLLBACK TO s; INSERT INTO t VALUES (5001, 1, 5001); RELEASE s; COMMIT",
        "CREATE TABLE u(x)",
        "CREATE VIRTUAL TABLE f USING fts5(text)",
        "MANY INSERT INTO f SELECT 'word' || (i % 17) || ' other' || i FROM n",
        "DELETE FROM f WHERE f MATCH 'word3'",
        "INSERT INTO f(f) VALUES ('optimize')",
        "DROP TABLE u",
        "DELETE FROM t WHERE a > 100",
        "VACUUM",
        "PRAGMA incremental_vacuum",
        "MANY INSERT INTO t SELECT i + 9000, randomblob(200), i + 9000 FROM n",
        "DELETE FROM t",
        "VACUUM",
        "PRAGMA user_version = 7",
    ]
    .iter()
    .map(|sql| sql.replace("MANY", MANY))
    .collect()
}

fn replicate(options: &OpenOptions, small_cache: bool) {
    let mut pair = Pair::new(options);
    if small_cache {
        pair.sql("PRAGMA cache_size = 10; PRAGMA cache_spill = 1");
    }
    for (number, sql) in statements().iter().enumerate() {
        pair.sql(sql);
        pair.sync();
        if number % 5 == 4 {
            for database in [pair.writer.database(), pair.applier.database()] {
                assert!(
                    database
                        .checkpoint(CheckpointMode::Restart)
                        .expect("checkpoint")
                        .complete
                );
            }
        }
    }
    // Errors that roll back a statement or the whole transaction.
    pair.sql("INSERT INTO t VALUES (1, 'x', 1)");
    let sql = pair.writer.connection();
    sql.execute_batch(&format!(
        "{MANY} INSERT OR FAIL INTO t SELECT 600 - i, i, 600 - (i + 199) FROM n"
    ))
    .expect_err("the last row clashes, those before stay");
    sql.execute_batch("INSERT INTO t VALUES (3, 1, 3), (1, 1, 4)")
        .expect_err("clash");
    sql.execute_batch(
        "BEGIN; INSERT INTO t VALUES (4, 1, -4); INSERT OR ROLLBACK INTO t VALUES (1, 1, 9)",
    )
    .expect_err("clash");
    assert!(sql.is_autocommit());
    pair.sync();
    for database in [pair.writer.database(), pair.applier.database()] {
        assert_eq!(
            stock_reads(
                database.path(),
                "PRAGMA integrity_check; SELECT count(*) > 1 FROM t"
            ),
            "ok\n1"
        );
    }
    // The files themselves, once everything is in them.
    let files: Vec<Vec<u8>> = [pair.writer.database(), pair.applier.database()]
        .iter()
        .map(|database| {
            assert!(
                database
                    .checkpoint(CheckpointMode::Truncate)
                    .expect("checkpoint")
                    .complete
            );
            assert_eq!(database.wal_size_bytes(), 0);
            let output = std::process::Command::new("cat")
                .arg(database.path())
                .output()
                .expect("cat");
            let mut bytes = output.stdout;
            crate::page_mask::mask(&mut bytes);
            bytes
        })
        .collect();
    assert!(files[0] == files[1], "the files differ");
}

#[test]
fn every_page_size_replicates() {
    for shift in 9..=16 {
        replicate(&options(1 << shift), false);
    }
}

#[test]
fn transactions_larger_than_the_cache_replicate() {
    for page_size in [512, 4096, 65536] {
        replicate(&options(page_size), true);
    }
}

#[test]
fn auto_vacuum_replicates() {
    for auto_vacuum in [AutoVacuum::Full, AutoVacuum::Incremental] {
        let options = OpenOptions {
            auto_vacuum,
            ..options(1024)
        };
        for small_cache in [false, true] {
            replicate(&options, small_cache);
        }
        let directory = tempfile::tempdir().expect("directory");
        let database = Database::open(directory.path().join("a.db"), &options).expect("open");
        let mode: i64 = database
            .reader()
            .expect("reader")
            .query_row("PRAGMA auto_vacuum", [], |row| row.get(0))
            .expect("auto_vacuum");
        assert_eq!(
            mode,
            if auto_vacuum == AutoVacuum::Full {
                1
            } else {
                2
            }
        );
    }
}

#[test]
fn rollback_to_a_savepoint_after_a_spill_is_captured_right() {
    let mut pair = Pair::new(&options(1024));
    pair.sql("PRAGMA cache_size = 10; CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
    pair.sql(&format!(
        "{MANY} INSERT INTO t SELECT i, zeroblob(700) FROM n"
    ));
    pair.sync();
    for round in 0..8 {
        pair.sql(&format!(
            "BEGIN;
             UPDATE t SET b = randomblob(700) WHERE a % 2 = {round} % 2;
             SAVEPOINT one;
             UPDATE t SET b = randomblob(650);
             SAVEPOINT two;
             DELETE FROM t WHERE a > 40;
             ROLLBACK TO two;
             UPDATE t SET b = randomblob(600) WHERE a < 200;
             ROLLBACK TO one;
             UPDATE t SET b = randomblob(700) WHERE a BETWEEN 3 AND 60;
             UPDATE t SET b = randomblob(701) WHERE a = 399;
             RELEASE one;
             UPDATE t SET b = randomblob(702) WHERE a IN (5, 399);
             COMMIT"
        ));
        pair.sync();
    }
}

#[test]
fn transactions_too_large_for_memory_are_read_back() {
    let mut pair = Pair::new(&options(4096));
    pair.sql("PRAGMA cache_size = 50; CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
    for _ in 0..2 {
        pair.sql(&format!(
            "BEGIN; {MANY} INSERT INTO t SELECT NULL, randomblob(20000) FROM n;
             UPDATE t SET b = randomblob(100) WHERE a % 7 = 0; COMMIT"
        ));
        pair.sync();
    }
    assert!(pair.log.lock().last().expect("last").pages.len() > 1500);
}

/// Sets the size of the database by hand, writing no page but the first and the last.
fn resize(pair: &Pair, page_count: u32) {
    let patch =
        format!("CAST(substr(data, 1, 28) || X'{page_count:08x}' || substr(data, 33) AS BLOB)");
    let last = if page_count < pair.writer.database().page_count() {
        format!("({}, NULL)", page_count + 1)
    } else {
        format!(
            "({page_count}, randomblob({}))",
            pair.writer.database().page_size()
        )
    };
    pair.sql(&format!(
        "BEGIN; UPDATE sqlite_dbpage SET data = {patch} WHERE pgno = 1;
         INSERT INTO sqlite_dbpage(pgno, data) VALUES {last}; COMMIT"
    ));
}

#[test]
fn pages_grown_but_not_written_are_captured_as_readers_see_them() {
    for page_size in [512, 4096] {
        let mut pair = Pair::new(&options(page_size));
        pair.sql("CREATE TABLE keep(a); INSERT INTO keep VALUES (1)");
        for round in 0..6u32 {
            // Grow over a gap, leave stale frames and a stale tail behind by shrinking, and grow over those.
            for page_count in [12, 6, 18 + round, 5, 13] {
                let before = pair.writer.database().page_count();
                resize(&pair, page_count);
                let last = pair.log.lock().last().expect("last").clone();
                assert_eq!((last.previous, last.page_count), (before, page_count));
                let new = last
                    .pages
                    .iter()
                    .filter(|(pgno, _)| pgno.get() > before)
                    .count();
                assert_eq!(
                    new as u32,
                    page_count.saturating_sub(before),
                    "each new page is captured"
                );
                pair.sync();
                if round % 3 == 1 || (round % 3 == 2 && page_count == 5) {
                    let outcome = pair
                        .writer
                        .database()
                        .checkpoint(CheckpointMode::Passive)
                        .expect("checkpoint");
                    assert!(outcome.complete);
                    pair.sync();
                }
            }
            resize(&pair, 4);
        }
        pair.sync();
    }
}

#[test]
fn utf16_databases_replicate_and_reopen() {
    let mut pair = Pair::new(&options(4096));
    pair.sql("PRAGMA encoding = 'UTF-16be'; CREATE TABLE t(a); INSERT INTO t VALUES ('häl')");
    pair.sync();
    let follower = pair.applier.database().path().to_owned();
    assert_eq!(
        stock_reads(&follower, "PRAGMA encoding; SELECT a FROM t"),
        "UTF-16be\nhäl"
    );
    let Pair {
        writer,
        applier,
        directory,
        log,
        ..
    } = pair;
    drop(applier);
    let follower = Database::open(&follower, &OpenOptions::default()).expect("open");
    let mut applier = follower.applier().expect("applier");
    writer
        .connection()
        .execute_batch("INSERT INTO t VALUES ('ite')")
        .expect("insert");
    let last = log.lock().last().expect("last").clone();
    last.apply_to(&mut applier).expect("apply");
    assert_same(writer.database(), &follower);
    drop(directory);
}

#[test]
fn many_databases_live_in_one_process() {
    let mut pairs: Vec<Pair> = (0..4)
        .map(|number| Pair::new(&options(1 << (9 + number))))
        .collect();
    for round in 0..5 {
        for pair in &mut pairs {
            pair.sql(&format!(
                "CREATE TABLE t{round}(a); INSERT INTO t{round} VALUES (randomblob(5000))"
            ));
            pair.sync();
        }
    }
}

#[test]
fn wrong_pages_are_refused_before_anybody_sees_them() {
    let mut pair = Pair::new(&options(4096));
    pair.sql("CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(9000))");
    pair.sync();
    pair.sql("INSERT INTO t VALUES (1)");
    let good = pair.log.lock().last().expect("last").clone();
    let before = pair.applier.database().checksum();
    let follower = pair.applier.database().path().to_owned();

    let mut bad = good.clone();
    bad.pages.last_mut().expect("page").1[4000] ^= 1;
    assert!(matches!(
        bad.apply_to(&mut pair.applier),
        Err(ApplyError::PostChecksum { .. })
    ));
    let mut bad = good.clone();
    bad.pre = Checksum::new(bad.pre.get() ^ 1);
    assert!(matches!(
        bad.apply_to(&mut pair.applier),
        Err(ApplyError::PreChecksum { .. })
    ));
    let mut bad = good.clone();
    bad.page_count += 1;
    assert!(matches!(
        bad.apply_to(&mut pair.applier),
        Err(ApplyError::Size { .. } | ApplyError::MissingPage { .. })
    ));
    let mut bad = good.clone();
    bad.page_count += 2;
    let page = bad.pages[0].1.clone();
    bad.pages.push((PageNo::new(bad.page_count), page));
    assert!(matches!(
        bad.apply_to(&mut pair.applier),
        Err(ApplyError::MissingPage { .. })
    ));
    let mut bad = good.clone();
    bad.pages[0].1.truncate(512);
    assert!(matches!(
        bad.apply_to(&mut pair.applier),
        Err(ApplyError::PageSize { .. })
    ));
    let mut bad = good.clone();
    bad.pages.push((PageNo::new(0), vec![0; 4096]));
    assert!(matches!(
        bad.apply_to(&mut pair.applier),
        Err(ApplyError::PageZero)
    ));
    let mut bad = good.clone();
    bad.pages.push((PageNo::FIRST, vec![0; 4096]));
    assert!(matches!(
        bad.apply_to(&mut pair.applier),
        Err(ApplyError::NotWalHeader)
    ));

    assert_eq!(pair.applier.database().checksum(), before);
    assert_eq!(stock_reads(&follower, "SELECT count(*) FROM t"), "1");
    pair.sync();
    assert_eq!(stock_reads(&follower, "SELECT count(*) FROM t"), "2");
}

#[test]
fn blank_databases_are_alike_and_can_be_gone_back_to() {
    let mut pair = Pair::new(&options(4096));
    assert_same(pair.writer.database(), pair.applier.database());
    assert_eq!(pair.writer.database().page_count(), 0);
    assert_eq!(pair.writer.database().checksum(), Checksum::EMPTY);
    pair.sql("CREATE TABLE t(a)");
    assert_eq!(pair.log.lock()[0].previous, 0);
    assert_eq!(
        pair.log.lock()[0].pages.len(),
        2,
        "the first transaction holds every page"
    );
    pair.sync();
    let blank = ApplyTarget {
        page_count: 0,
        expected_pre: None,
        expected_post: Some(Checksum::EMPTY),
    };
    let post = pair
        .applier
        .apply::<ApplyError>(blank, |_| Ok(()))
        .expect("apply");
    assert_eq!(
        (post, pair.applier.database().page_count()),
        (Checksum::EMPTY, 0)
    );
    let path = pair.applier.database().path().to_owned();
    assert_eq!(
        stock_reads(&path, "SELECT count(*) FROM sqlite_schema"),
        "0"
    );
    // Blank again after opening it anew.
    let Pair {
        applier,
        log,
        writer,
        directory,
        ..
    } = pair;
    drop(applier);
    let follower = Database::open(&path, &OpenOptions::default()).expect("open");
    assert_eq!(
        (follower.checksum(), follower.page_count()),
        (Checksum::EMPTY, 0)
    );
    let first = log.lock()[0].clone();
    first
        .apply_to(&mut follower.applier().expect("applier"))
        .expect("apply");
    assert_same(writer.database(), &follower);
    drop(directory);
}

#[test]
fn following_nodes_take_over_and_back() {
    let Pair {
        writer,
        mut applier,
        directory,
        log,
        ..
    } = Pair::new(&options(1024));
    let other_log = Log::default();
    let other_writer = applier
        .database()
        .writer(recording(&other_log))
        .expect("writer");
    let mut other_applier = writer.database().applier().expect("applier");
    writer
        .connection()
        .execute_batch("CREATE TABLE t(a)")
        .expect("create");
    log.lock()
        .pop()
        .expect("transaction")
        .apply_to(&mut applier)
        .expect("apply");
    for round in 0..30 {
        let (from, log, to) = if round % 3 == 0 {
            (&other_writer, &other_log, &mut other_applier)
        } else {
            (&writer, &log, &mut applier)
        };
        from.connection()
            .execute("INSERT INTO t VALUES (randomblob(?1))", [round * 40])
            .expect("insert");
        assert!(matches!(
            from.last_commit(),
            CommitOutcome::Published { .. }
        ));
        let transaction = log.lock().pop().expect("transaction");
        transaction.apply_to(to).expect("apply");
        if round == 17 {
            writer
                .database()
                .checkpoint(CheckpointMode::Truncate)
                .expect("checkpoint");
        }
        assert_same(writer.database(), other_writer.database());
    }
    drop(directory);
}

#[test]
fn scrub_finds_rotten_bytes() {
    let pair = Pair::new(&options(4096));
    pair.sql("CREATE TABLE t(a)");
    pair.sql(&format!(
        "{MANY} INSERT INTO t SELECT randomblob(500) FROM n"
    ));
    let database = pair.writer.database();
    assert!(
        database
            .checkpoint(CheckpointMode::Truncate)
            .expect("checkpoint")
            .complete
    );
    assert_eq!(database.scrub().expect("scrub").damaged, []);
    let healthy = super::support::pages(database);
    // Another process flips a bit in page 5 and destroys the schema on page 1.
    let rot = format!(
        "printf x | dd of={path} bs=1 seek=18000 conv=notrunc && printf y | dd of={path} bs=1 seek=4000 conv=notrunc",
        path = database.path().display()
    );
    assert!(
        std::process::Command::new("sh")
            .args(["-c", &rot])
            .output()
            .expect("dd")
            .status
            .success()
    );
    let report = database.scrub().expect("scrub");
    assert_eq!(report.damaged, [PageNo::new(1), PageNo::new(5)]);
    assert_eq!(report.pages, database.page_count());
    // The pages of a healthy copy repair it.
    let known = ApplyTarget {
        page_count: database.page_count(),
        expected_pre: None,
        expected_post: Some(database.checksum()),
    };
    let mut applier = database.applier().expect("applier");
    applier
        .apply::<ApplyError>(known, |sink| {
            for &pgno in &report.damaged {
                sink.page(pgno, &healthy[pgno.get() as usize - 1])?;
            }
            Ok(())
        })
        .expect("repair");
    assert_eq!(database.scrub().expect("scrub").damaged, []);
    assert_eq!(stock_reads(database.path(), "PRAGMA integrity_check"), "ok");
}
