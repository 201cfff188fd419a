//! A database file that is changed by something else than SQLite while it is open.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use halite_ltx::PageNo;

use super::support::{Pair, options};
use crate::{CheckpointMode, Database};

const PAGE: u64 = 4096;
const DAMAGED: u32 = 9;

fn filled() -> Pair {
    let mut pair = Pair::new(&options(4096));
    pair.sql(
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
         INSERT INTO t SELECT i, randomblob(3900) FROM n",
    );
    pair.sync();
    let checkpoint = pair.writer.database().checkpoint(CheckpointMode::Restart);
    assert!(checkpoint.expect("checkpoint").complete);
    pair
}

/// In the middle of a page: SQLite does not look at it.
fn flip(database: &Database) {
    let file = File::options().read(true).write(true).open(database.path());
    let (file, at) = (file.expect("file"), u64::from(DAMAGED - 1) * PAGE + 2_000);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 1], at).expect("write");
}

#[test]
fn who_writes_does_not_go_on_from_a_page_that_was_not_committed() {
    let pair = filled();
    let database = pair.writer.database().clone();
    // What it has in memory is sound.
    pair.sql("PRAGMA shrink_memory");
    flip(&database);
    let refused = pair
        .writer
        .connection()
        .execute("UPDATE t SET b = b || 'x'", ())
        .expect_err("the page is damaged");
    let code = refused.sqlite_error().map(|error| error.extended_code);
    assert_eq!(code, Some(libsqlite3_sys::SQLITE_IOERR_DATA), "{refused}");
    assert!(database.take_suspicion());
    assert!(!database.take_suspicion());
    // The other pages are as good as before.
    pair.sql("DELETE FROM t WHERE a = 40");
}

#[test]
fn damage_that_was_owned_up_to_shows_in_the_checksums() {
    let pair = filled();
    let database = pair.writer.database().clone();
    assert!(
        database
            .own_up_to_damage()
            .expect("scrub")
            .damaged
            .is_empty()
    );
    flip(&database);
    let report = database.own_up_to_damage().expect("scrub");
    assert_eq!(report.damaged, [PageNo::new(DAMAGED)]);
    assert!(database.scrub().expect("scrub").damaged.is_empty());
    let (own, others) = (
        database.page_checksums(),
        pair.applier.database().page_checksums(),
    );
    let differ: Vec<u32> = (1..)
        .zip(own.iter().zip(&others))
        .filter(|(_, (own, other))| own != other)
        .map(|(page, _)| page)
        .collect();
    assert_eq!(differ, [DAMAGED]);
    assert_ne!(database.checksum(), pair.applier.database().checksum());
}

#[test]
fn a_look_at_some_pages_suspects_what_the_disk_has_lost_since_the_last_one() {
    let pair = filled();
    let database = pair.writer.database().clone();
    let look_at_all = || {
        let mut page = PageNo::new(1);
        let mut steps = 0;
        loop {
            page = database.scrub_some(page, 4).expect("scrub");
            steps += 1;
            if page == PageNo::new(1) {
                return steps;
            }
        }
    };
    assert_eq!(look_at_all(), database.page_count() / 4 + 1);
    assert!(!database.take_suspicion());
    flip(&database);
    look_at_all();
    assert!(database.take_suspicion());
    // Behind the last page, as after a file that became shorter.
    assert_eq!(
        database.scrub_some(PageNo::new(1_000), 4).expect("scrub"),
        PageNo::new(1)
    );
}

#[test]
fn the_wal_of_a_file_that_was_emptied_stays() {
    let pair = filled();
    let database = pair.writer.database().clone();
    pair.sql("DELETE FROM t WHERE a = 40");
    let mut wal = database.path().as_os_str().to_owned();
    wal.push("-wal");
    let bytes = |path: &std::ffi::OsStr| std::fs::metadata(path).map(|found| found.len()).ok();
    let before = bytes(&wal);
    assert!(before > Some(0));
    File::options()
        .write(true)
        .open(database.path())
        .and_then(|file| file.set_len(0))
        .expect("truncate");
    // Whoever opens it now finds a database without a page, whose WAL SQLite would remove.
    database.snapshot().expect_err("no page is left");
    assert_eq!(bytes(&wal), before);
}
