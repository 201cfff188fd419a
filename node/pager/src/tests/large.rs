//! Databases past the lock page at 1 GiB, kept sparse so that the disk hardly notices.

use halite_ltx::PageNo;

use super::support::{Pair, assert_same, options};
use crate::{CheckpointMode, Database, OpenOptions};

#[test]
fn databases_grow_past_the_lock_page() {
    let mut pair = Pair::new(&options(65536));
    let lock_page = pair.writer.database().page_size().lock_page();
    assert_eq!(lock_page, PageNo::new(16385));
    // Almost 1 GiB at once, page by page from the file's end: the pages up to the lock page stay holes, because growing is done
    // by hand and then continued by SQLite.
    pair.sql("CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (0, 'first')");
    pair.sync();
    for database in [pair.writer.database(), pair.applier.database()] {
        database
            .checkpoint(CheckpointMode::Truncate)
            .expect("checkpoint");
    }
    let names = [
        pair.writer.database().path().to_owned(),
        pair.applier.database().path().to_owned(),
    ];
    let Pair {
        directory,
        writer,
        applier,
        ..
    } = pair;
    drop((writer, applier));
    let target = lock_page.get() - 3;
    for name in &names {
        // While nobody has the file open: a hole up to just before the lock page, all of it on the freelist as one claims.
        grow_sparse(name, target);
    }
    let databases = names.map(|name| Database::open(name, &OpenOptions::default()).expect("open"));
    assert_same(&databases[0], &databases[1]);
    assert_eq!(databases[0].page_count(), target);
    let log = super::support::Log::default();
    let writer = databases[0]
        .writer(super::support::recording(&log))
        .expect("writer");
    let mut applier = databases[1].applier().expect("applier");
    for round in 1..=4 {
        writer
            .connection()
            .execute("INSERT INTO t VALUES (?1, randomblob(150000))", [round])
            .expect("insert");
        let transaction = log.lock().pop().expect("transaction");
        assert!(transaction.pages.iter().all(|&(pgno, _)| pgno != lock_page));
        transaction.apply_to(&mut applier).expect("apply");
    }
    assert!(databases[0].page_count() > lock_page.get());
    assert_eq!(databases[0].page_count(), databases[1].page_count());
    assert_eq!(databases[0].checksum(), databases[1].checksum());
    for database in &databases {
        assert!(
            database
                .checkpoint(CheckpointMode::Restart)
                .expect("checkpoint")
                .complete
        );
        let report = database.scrub().expect("scrub");
        assert_eq!(report.damaged, []);
        assert_eq!(
            report.pages,
            database.page_count() - 1,
            "the lock page is skipped"
        );
    }
    let rows: i64 = databases[1]
        .reader()
        .expect("reader")
        .query_row("SELECT sum(length(b)) FROM t WHERE a > 0", [], |row| {
            row.get(0)
        })
        .expect("read");
    assert_eq!(rows, 600_000);
    // And back below it.
    writer
        .connection()
        .execute_batch("DELETE FROM t WHERE a > 0")
        .expect("delete");
    log.lock()
        .pop()
        .expect("transaction")
        .apply_to(&mut applier)
        .expect("apply");
    let expected = databases[0].checksum();
    assert_eq!(databases[1].checksum(), expected);
    drop((writer, applier));
    // The scan at open agrees with the table kept up to date.
    let [one, other] = databases;
    let path = one.path().to_owned();
    drop((one, other));
    assert_eq!(
        Database::open(path, &OpenOptions::default())
            .expect("open")
            .checksum(),
        expected
    );
    drop(directory);
}

/// Makes the file `pages` long, as a database that lost track of the new pages: valid to read and to append to.
fn grow_sparse(path: &std::path::Path, pages: u32) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("open");
    file.set_len(u64::from(pages) * 65536).expect("grow");
    let mut header = [0u8; 100];
    file.read_exact_at(&mut header, 0).expect("header");
    header[28..32].copy_from_slice(&pages.to_be_bytes());
    file.write_all_at(&header, 0).expect("header");
}
