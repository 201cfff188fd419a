//! What callers may not run, and that they are told why.

use halite_proto::v1::ErrorCode;

use super::harness::*;

#[test]
fn sql_that_breaks_promises_is_refused_with_a_reason() {
    let (dir, log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    let entries = log.committed().len();
    let elsewhere = dir.path().join("elsewhere.db");
    let cases = [
        (format!("ATTACH '{}' AS x", elsewhere.display()), "ATTACH"),
        ("ATTACH '' AS x".into(), "ATTACH"),
        ("ATTACH 'a' || 'b' AS x".into(), "ATTACH"),
        ("DETACH main".into(), "DETACH"),
        (
            format!("VACUUM INTO '{}'", elsewhere.display()),
            "VACUUM INTO",
        ),
        ("BEGIN".into(), "BEGIN"),
        ("COMMIT".into(), "BEGIN"),
        ("END".into(), "BEGIN"),
        ("ROLLBACK".into(), "BEGIN"),
        ("SAVEPOINT s".into(), "SAVEPOINT"),
        ("RELEASE job".into(), "SAVEPOINT"),
        ("ROLLBACK TO job".into(), "SAVEPOINT"),
        ("PRAGMA journal_mode = DELETE".into(), "journal_mode"),
        ("PRAGMA main.journal_mode = OFF".into(), "journal_mode"),
        ("PRAGMA locking_mode = EXCLUSIVE".into(), "locking_mode"),
        ("PRAGMA synchronous = OFF".into(), "synchronous"),
        ("PRAGMA wal_checkpoint(TRUNCATE)".into(), "wal_checkpoint"),
        ("PRAGMA wal_autocheckpoint = 1".into(), "wal_autocheckpoint"),
        ("PRAGMA writable_schema = ON".into(), "writable_schema"),
        ("PRAGMA page_size = 8192".into(), "page_size"),
        ("PRAGMA mmap_size = 1000000".into(), "mmap_size"),
        ("PRAGMA foreign_keys = OFF".into(), "defer_foreign_keys"),
        ("PRAGMA query_only = ON".into(), "query_only"),
        ("SELECT load_extension('x')".into(), "load_extension"),
        ("DELETE FROM sqlite_dbpage".into(), "sqlite_dbpage"),
        (
            "UPDATE sqlite_dbpage SET data = zeroblob(4096)".into(),
            "sqlite_dbpage",
        ),
        (
            "INSERT INTO sqlite_dbpage(pgno, data) VALUES(2, zeroblob(4096))".into(),
            "sqlite_dbpage",
        ),
        (
            "CREATE VIRTUAL TABLE raw USING sqlite_dbpage".into(),
            "sqlite_dbpage",
        ),
        ("CREATE TEMP TABLE x(y)".into(), "temporary"),
        ("CREATE TEMP VIEW x AS SELECT 1".into(), "temporary"),
    ];
    for (sql, reason) in &cases {
        let error = primary.run(sql).expect_err(sql);
        assert_eq!(error.code(), ErrorCode::Invalid, "{sql}: {error:?}");
        assert!(error.message.contains(reason), "{sql}: {}", error.message);
    }
    assert!(!elsewhere.exists());
    assert_eq!(log.committed().len(), entries);
    let harmless = [
        "PRAGMA table_info(t)",
        "PRAGMA journal_mode",
        "PRAGMA journal_mode = WAL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA synchronous = NORMAL",
        "PRAGMA busy_timeout = 5000",
        "SELECT * FROM pragma_table_info('t')",
        "PRAGMA integrity_check",
        "EXPLAIN INSERT INTO t VALUES(1)",
    ];
    for sql in harmless {
        primary.run(sql).expect(sql);
    }
    assert_eq!(log.committed().len(), entries);
    primary.run("PRAGMA user_version = 42").expect("written");
    primary.run("ANALYZE").expect("written");
    primary.run("PRAGMA optimize").expect("run");
    assert_eq!(primary.integer("PRAGMA user_version"), 42);
}
