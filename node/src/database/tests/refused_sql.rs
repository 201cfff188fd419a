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
        ("SAVEPOINT s".into(), "SAVEPOINT"),
        ("PRAGMA journal_mode = DELETE".into(), "journal_mode"),
        ("PRAGMA main.journal_mode = OFF".into(), "journal_mode"),
        ("PRAGMA locking_mode = EXCLUSIVE".into(), "locking_mode"),
        ("PRAGMA synchronous = OFF".into(), "synchronous"),
        ("PRAGMA writable_schema = ON".into(), "writable_schema"),
        ("PRAGMA page_size = 8192".into(), "page_size"),
        (
            "PRAGMA foreign_keys = OFF".into(),
            "first statement of a batch",
        ),
        (
            "PRAGMA defer_foreign_keys = ON".into(),
            "no effect by itself",
        ),
        ("PRAGMA auto_vacuum = FULL".into(), "can be imported"),
        ("SELECT 1\0; DROP TABLE t".into(), "NUL"),
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
        ("CREATE TABLE temp.t(v)".into(), "temporary"),
        ("CREATE TABLE \"TEMP\".t AS SELECT 1".into(), "temporary"),
        ("CREATE VIEW temp.t AS SELECT 1".into(), "temporary"),
        (
            "CREATE VIRTUAL TABLE temp.t USING fts5(v)".into(),
            "temporary",
        ),
        (
            "CREATE TRIGGER temp.x AFTER INSERT ON main.t BEGIN SELECT 1; END".into(),
            "temporary",
        ),
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
        "EXPLAIN QUERY PLAN UPDATE t SET v = 1",
    ];
    for sql in harmless {
        primary.run(sql).expect(sql);
    }
    assert_eq!(log.committed().len(), entries);
    primary.run("PRAGMA user_version = 42").expect("written");
    primary.run("ANALYZE").expect("written");
    primary.run("PRAGMA optimize").expect("run");
    // Work to do: statistics that are far from what is there.
    primary.run("CREATE INDEX i ON t(v)").expect("written");
    primary
        .run("INSERT INTO t SELECT value FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 2000) SELECT value FROM n)")
        .expect("written");
    let entries = log.committed().len();
    let pool = super::readers::pool();
    let error =
        super::readers::read(&pool, &primary, &["PRAGMA optimize(0x10002)"]).expect_err("a write");
    assert!(crate::database::is_not_read_only(&error), "{error:?}");
    primary.run("PRAGMA optimize(0x10002)").expect("run");
    assert_eq!(log.committed().len(), entries + 1);
    let plan = "EXPLAIN QUERY PLAN UPDATE t SET v = 1 WHERE v = 2";
    super::readers::read(&pool, &primary, &[plan]).expect("a read");
    assert_eq!(primary.integer("PRAGMA user_version"), 42);
}

#[test]
fn words_that_end_a_transaction_where_none_is_open_are_refused_as_sqlite_does() {
    let (_dir, log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    let entries = log.committed().len();
    let pool = super::readers::pool();
    for (sql, words) in [
        ("COMMIT", "cannot commit - no transaction is active"),
        ("END", "cannot commit - no transaction is active"),
        ("ROLLBACK", "cannot rollback - no transaction is active"),
        // The node has a savepoint of this name, which is nobody else's business.
        ("RELEASE job", "no such savepoint: job"),
        ("ROLLBACK TO job", "no such savepoint: job"),
    ] {
        let written = primary.run(sql).expect_err(sql);
        let read = super::readers::read(&pool, &primary, &[sql]).expect_err(sql);
        for error in [written, read] {
            let told = (error.code(), error.sqlite_code, error.message.as_str());
            assert_eq!(told, (ErrorCode::Sql, 1, words), "{sql}");
        }
        // The rest of what is written with it is not kept.
        let (job, receiver) = job(vec![statement("INSERT INTO t VALUES(1)"), statement(sql)]);
        primary.database.submit(vec![job]);
        assert_eq!(code(&answer(receiver)), ErrorCode::Sql, "{sql}");
    }
    assert_eq!(log.committed().len(), entries);
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 0);
}
