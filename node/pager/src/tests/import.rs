//! Import of files that others made.

use super::support::{Pair, options, stock, stock_reads};
use crate::{CommitOutcome, ImportError, Writer};

const ROWS: &str = "CREATE TABLE t(a INTEGER PRIMARY KEY, b);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
    INSERT INTO t SELECT i, randomblob(i % 2000) FROM n;";

#[test]
fn stock_files_of_all_kinds_become_one_transaction() {
    let sources = [
        ("journal_mode = DELETE", 4096),
        ("journal_mode = WAL", 4096),
        ("journal_mode = TRUNCATE", 1024),
        ("auto_vacuum = FULL", 65536),
    ];
    for (pragma, page_size) in sources {
        let mut pair = Pair::new(&options(page_size));
        let source = pair.directory.path().join("source.db");
        let made = stock(
            &source,
            &format!("PRAGMA page_size = {page_size}; PRAGMA {pragma}; {ROWS}"),
        );
        assert!(made.status.success());
        assert_eq!(
            Writer::import_page_size(&source).expect("page size").get(),
            page_size
        );
        pair.sql("PRAGMA cache_size = 20; CREATE TABLE old(a); INSERT INTO old VALUES (zeroblob(20000000))");
        pair.sync();
        let before = pair.log.lock().len();
        pair.writer.import(&source).expect("import");
        assert_eq!(pair.log.lock().len(), before + 1, "one transaction");
        assert!(matches!(
            pair.writer.last_commit(),
            CommitOutcome::Published { .. }
        ));
        pair.sync();
        let sum = "SELECT count(*), sum(length(b)), hex(max(b)) FROM t; PRAGMA integrity_check";
        let expected = stock_reads(&source, sum);
        for database in [pair.writer.database(), pair.applier.database()] {
            assert_eq!(stock_reads(database.path(), sum), expected);
            assert_eq!(stock_reads(database.path(), "PRAGMA journal_mode"), "wal");
        }
        pair.sql("INSERT INTO t VALUES (NULL, 'more')");
        pair.sync();
        let left: Vec<_> = std::fs::read_dir(pair.directory.path())
            .expect("list")
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .into_string()
                    .expect("name")
            })
            .filter(|name| name.contains("import"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }
}

#[test]
fn hot_wal_of_a_killed_program_is_imported() {
    let mut pair = Pair::new(&options(4096));
    let source = pair.directory.path().join("live.db");
    let copy = pair.directory.path().join("killed.db");
    assert!(
        stock(&source, "PRAGMA journal_mode = WAL; CREATE TABLE t(a)")
            .status
            .success()
    );
    // A program that has committed into the WAL and not closed yet.
    let copying = format!(
        "INSERT INTO t VALUES (42);\n.shell cp {source} {copy} && cp {source}-wal {copy}-wal",
        source = source.display(),
        copy = copy.display()
    );
    let mut child = std::process::Command::new("/usr/bin/sqlite3")
        .arg(&source)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("spawn");
    std::io::Write::write_all(&mut child.stdin.take().expect("input"), copying.as_bytes())
        .expect("write");
    assert!(child.wait().expect("wait").success());
    pair.writer.import(&copy).expect("import");
    pair.sync();
    assert_eq!(
        stock_reads(pair.applier.database().path(), "SELECT a FROM t"),
        "42"
    );
}

#[test]
fn refused_import_leaves_the_database_as_it_was() {
    let mut pair = Pair::new(&options(4096));
    pair.sql("CREATE TABLE keep(a); INSERT INTO keep VALUES (zeroblob(300000))");
    pair.sync();
    let source = pair.directory.path().join("source.db");
    assert!(stock(&source, ROWS).status.success());
    let refuse = |_: &crate::CapturedTransaction<'_>| crate::GateVerdict::Refuse;
    let mut writer = pair
        .writer
        .database()
        .writer(Box::new(refuse))
        .expect("writer");
    writer
        .connection()
        .execute_batch("PRAGMA cache_size = 10")
        .expect("cache");
    let error = writer.import(&source).expect_err("refused");
    assert!(matches!(error, ImportError::Sqlite(_)), "{error}");
    assert_eq!(writer.last_commit(), CommitOutcome::Refused);
    pair.sync();
    pair.sql("INSERT INTO keep VALUES (2)");
    pair.sync();
    assert_eq!(
        stock_reads(pair.writer.database().path(), "SELECT count(*) FROM keep"),
        "2"
    );
    // The same connection can go on as well.
    writer
        .connection()
        .query_row("SELECT count(*) FROM keep", [], |_| Ok(()))
        .expect("read");
    writer.import(&source).expect_err("refused again");
}

#[test]
fn what_cannot_be_imported_is_told_and_changes_nothing() {
    let mut pair = Pair::new(&options(4096));
    pair.sql("CREATE TABLE keep(a)");
    let source = pair.directory.path().join("source.db");
    assert!(
        stock(&source, "PRAGMA page_size = 8192; CREATE TABLE t(a)")
            .status
            .success()
    );
    assert!(matches!(
        pair.writer.import(&source),
        Err(ImportError::PageSize { .. })
    ));
    std::fs::write(&source, "no database").expect("write");
    assert!(matches!(
        pair.writer.import(&source),
        Err(ImportError::NotADatabase { .. })
    ));
    let own = pair.applier.database().path().to_owned();
    assert!(matches!(
        pair.writer.import(&own),
        Err(ImportError::IsOpen { .. })
    ));
    let none = pair.directory.path().join("none.db");
    assert!(matches!(
        pair.writer.import(&none),
        Err(ImportError::Io { .. })
    ));
    pair.sync();
    assert_eq!(
        stock_reads(
            pair.writer.database().path(),
            "SELECT name FROM sqlite_schema"
        ),
        "keep"
    );
}
