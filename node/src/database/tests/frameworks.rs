//! What frameworks and drivers send first, and what they are answered: on the lane, and by a reader.

use halite_proto::v1;

use super::harness::*;
use super::readers::{pool, read};

/// What a statement is answered with.
enum Is {
    /// One row of this value.
    Value(&'static str),
    /// Rows or none, whatever they are.
    Fine,
    /// Refused, with these words.
    Refused(&'static str),
}

use Is::{Fine, Refused, Value as Answer};

#[rustfmt::skip]
const FIRST: &[(&str, &str, Is)] = &[
    ("Rails",          "PRAGMA foreign_keys = ON",                      Answer("1")),
    ("Rails",          "PRAGMA journal_mode = wal",                     Answer("wal")),
    ("Rails",          "PRAGMA journal_mode",                           Answer("wal")),
    ("Rails",          "PRAGMA synchronous = normal",                   Fine),
    ("Rails",          "PRAGMA mmap_size = 134217728",                  Fine),
    ("Rails",          "PRAGMA journal_size_limit = 67108864",          Answer("-1")),
    ("Rails",          "PRAGMA cache_size = 2000",                      Fine),
    ("Rails",          "SELECT sqlite_version(*)",                      Fine),
    ("Rails",          "PRAGMA index_list(\"t\")",                      Fine),
    ("Rails",          "CREATE TEMPORARY TABLE at(a)",                  Refused("use WITH")),
    ("Django",         "PRAGMA foreign_keys = ON",                      Answer("1")),
    ("Django",         "PRAGMA legacy_alter_table = OFF",               Answer("0")),
    ("Django",         "PRAGMA foreign_keys",                           Answer("1")),
    ("Django",         "PRAGMA foreign_keys = OFF",                     Refused("first statement of a batch")),
    ("Django",         "PRAGMA foreign_key_check",                      Fine),
    ("Django",         "PRAGMA table_xinfo(\"t\")",                     Fine),
    ("Laravel",        "PRAGMA foreign_keys = 1",                       Answer("1")),
    ("Laravel",        "pragma busy_timeout = 5000",                    Fine),
    ("Laravel",        "pragma journal_mode = WAL",                     Answer("wal")),
    ("Laravel",        "pragma synchronous = NORMAL",                   Fine),
    ("Laravel",        "pragma synchronous = OFF",                      Refused("disks of a majority")),
    ("SQLAlchemy",     "PRAGMA read_uncommitted = 0",                   Answer("0")),
    ("SQLAlchemy",     "PRAGMA read_uncommitted",                       Answer("0")),
    ("SQLAlchemy",     "PRAGMA read_uncommitted = 1",                   Refused("calls share connections")),
    ("SQLAlchemy",     "PRAGMA main.table_info(\"t\")",                 Fine),
    ("SQLAlchemy",     "PRAGMA temp.table_info(\"t\")",                 Fine),
    ("Drizzle",        "PRAGMA foreign_keys=ON;",                       Answer("1")),
    ("Prisma",         "PRAGMA busy_timeout = 5000",                    Fine),
    ("Prisma",         "PRAGMA foreign_keys = 1",                       Answer("1")),
    ("Prisma",         "PRAGMA defer_foreign_keys=OFF",                 Fine),
    ("Prisma",         "PRAGMA foreign_key_check;",                     Fine),
    ("GORM",           "PRAGMA foreign_keys(1)",                        Answer("1")),
    ("GORM",           "PRAGMA busy_timeout(10000)",                    Fine),
    ("GORM",           "PRAGMA journal_mode(WAL)",                      Answer("wal")),
    ("GORM",           "select sqlite_version()",                       Fine),
    ("PocketBase",     "PRAGMA busy_timeout(10000)",                    Fine),
    ("PocketBase",     "PRAGMA journal_size_limit(200000000)",          Answer("-1")),
    ("PocketBase",     "PRAGMA temp_store(MEMORY)",                     Fine),
    ("PocketBase",     "PRAGMA cache_size(-32000)",                     Fine),
    ("PocketBase",     "PRAGMA optimize",                               Fine),
    ("Ecto",           "PRAGMA temp_store = memory",                    Fine),
    ("Ecto",           "PRAGMA cache_size = -64000",                    Fine),
    ("Ecto",           "PRAGMA cache_spill = 1",                        Fine),
    ("Ecto",           "PRAGMA case_sensitive_like = off",              Fine),
    ("Ecto",           "PRAGMA case_sensitive_like = on",               Refused("GLOB")),
    ("Ecto",           "PRAGMA auto_vacuum = none",                     Answer("0")),
    ("Ecto",           "PRAGMA auto_vacuum = full",                     Refused("can be imported")),
    ("Ecto",           "PRAGMA locking_mode = normal",                  Answer("normal")),
    ("Ecto",           "PRAGMA locking_mode = exclusive",               Refused("write-ahead log")),
    ("Ecto",           "PRAGMA secure_delete = off",                    Answer("0")),
    ("Ecto",           "PRAGMA wal_autocheckpoint = 1000",              Fine),
    ("Ecto",           "PRAGMA soft_heap_limit = 0",                    Answer("0")),
    ("Ecto",           "PRAGMA hard_heap_limit = 0",                    Answer("0")),
    ("EF Core",        "PRAGMA journal_mode = 'wal';",                  Answer("wal")),
    ("EF Core",        "PRAGMA foreign_keys = 1;",                      Answer("1")),
    ("EF Core",        "PRAGMA recursive_triggers = 0;",                Answer("0")),
    ("EF Core",        "PRAGMA recursive_triggers = 1;",                Refused("calls share connections")),
    ("sqlx",           "PRAGMA page_size = 4096;",                      Answer("4096")),
    ("sqlx",           "PRAGMA page_size = 8192;",                      Refused("it is 4096")),
    ("sqlx",           "PRAGMA encoding = 'UTF-8';",                    Answer("UTF-8")),
    ("sqlx",           "PRAGMA encoding = 'UTF-16le';",                 Refused("it is UTF-8")),
    ("sqlx",           "PRAGMA analysis_limit = 400",                   Fine),
    ("sqlx",           "PRAGMA synchronous = FULL;",                    Fine),
    ("better-sqlite3", "PRAGMA synchronous = FULL",                     Fine),
    ("better-sqlite3", "PRAGMA synchronous = EXTRA",                    Fine),
    ("better-sqlite3", "PRAGMA journal_mode = DELETE",                  Refused("the mode is WAL")),
    ("better-sqlite3", "PRAGMA query_only = OFF",                       Answer("0")),
    ("better-sqlite3", "PRAGMA threads = 4",                            Fine),
    ("better-sqlite3", "PRAGMA automatic_index = 1",                    Fine),
    ("anybody",        "SELECT sqrt(2) > 1.41 AND pi() > 3",            Answer("1")),
];

#[test]
fn what_frameworks_send_first_works() {
    let (_dir, _log, primary, follower) = pair(&[
        "CREATE TABLE t(a REAL, b REAL AS (sqrt(a)) STORED)",
        "INSERT INTO t VALUES(4)",
    ]);
    follower.assert_same(&primary);
    assert_eq!(primary.integer("SELECT b = 2 FROM t"), 1);
    let pool = pool();
    for (who, sql, expected) in FIRST {
        let lane = primary.run(sql);
        check(&format!("{who}: {sql} (lane)"), lane, expected);
        let reader = read(&pool, &follower, &[sql]);
        if !matches!(&reader, Err(error) if crate::database::is_not_read_only(error)) {
            check(&format!("{who}: {sql} (reader)"), reader, expected);
        }
    }
}

fn check(what: &str, answered: Result<crate::database::CallResults, v1::Error>, expected: &Is) {
    match (answered, expected) {
        (Ok(_), Fine) => {}
        (Ok(results), Answer(expected)) => {
            let [row] = results.results[0].rows.as_slice() else {
                panic!("{what}: not one row: {results:?}");
            };
            let shown = match &row.values[0].kind {
                Some(v1::value::Kind::Integer(integer)) => integer.to_string(),
                Some(v1::value::Kind::Text(text)) => text.clone(),
                other => panic!("{what}: {other:?}"),
            };
            assert_eq!(&shown, expected, "{what}");
        }
        (Err(error), Refused(words)) => {
            assert_eq!(error.code(), v1::ErrorCode::Invalid, "{what}: {error:?}");
            assert!(error.message.contains(words), "{what}: {}", error.message);
        }
        (answered, _) => panic!("{what}: {answered:?}"),
    }
}

#[test]
fn a_reader_is_asked_for_the_journal_mode_and_answers() {
    let (_dir, _log, _primary, follower) = pair(&[]);
    let pool = pool();
    for sql in ["PRAGMA journal_mode", "PRAGMA journal_mode = WAL"] {
        check(sql, read(&pool, &follower, &[sql]), &Answer("wal"));
    }
}

#[test]
fn a_pragma_sees_what_was_created_since_its_connection_looked_last() {
    let (_dir, _log, primary, follower) = pair(&["CREATE TABLE t(a)"]);
    follower.assert_same(&primary);
    let pool = pool();
    read(&pool, &follower, &["SELECT * FROM t"]).expect("a connection that knows the schema");
    primary.run("CREATE TABLE u(b UNIQUE)").expect("created");
    follower.assert_same(&primary);
    for sql in ["PRAGMA table_info(u)", "PRAGMA index_list(u)"] {
        let told = read(&pool, &follower, &[sql]).expect(sql);
        assert_eq!(told.results[0].rows.len(), 1, "{sql}");
    }
    primary.run("CREATE TABLE v(c)").expect("created");
    follower.assert_same(&primary);
    let sql = "SELECT name FROM Pragma_table_info('v')";
    check(sql, read(&pool, &follower, &[sql]), &Answer("c"));
}

#[test]
fn a_setting_does_not_reach_the_next_caller() {
    let (_dir, _log, primary, _follower) = pair(&[]);
    for name in [
        "cache_size",
        "mmap_size",
        "temp_store",
        "synchronous",
        "busy_timeout",
    ] {
        let read = format!("PRAGMA {name}");
        let before = primary.run(&read).expect("read");
        let set = primary
            .run(&format!("PRAGMA {name} = 1"))
            .expect("accepted");
        assert_eq!(before.results, set.results, "{name}");
        assert_eq!(
            before.results,
            primary.run(&read).expect("read").results,
            "{name}"
        );
    }
}

#[test]
fn a_checkpoint_that_is_asked_for_is_told_and_not_made() {
    let (_dir, _log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    let pool = pool();
    // The lane tells of its log after its callers: when it takes the next job, it has.
    primary.run("SELECT 1").expect("read");
    for (sql, busy) in [
        ("PRAGMA wal_checkpoint", 0),
        ("PRAGMA wal_checkpoint(PASSIVE)", 0),
        ("PRAGMA wal_checkpoint(TRUNCATE)", 1),
        ("PRAGMA main.wal_checkpoint = FULL", 1),
    ] {
        let frames = primary.database.status().wal_bytes / (4096 + 24);
        assert!(frames > 0);
        let expected = [integer(busy), integer(frames as i64), integer(0)];
        for told in [primary.run(sql), read(&pool, &primary, &[sql])] {
            let told = told.expect(sql);
            assert_eq!(told.results[0].columns, ["busy", "log", "checkpointed"]);
            assert_eq!(told.results[0].rows[0].values, expected, "{sql}");
        }
    }
    answer(primary.database.checkpoint()).expect("made by the node");
    let told = primary
        .run("PRAGMA wal_checkpoint(TRUNCATE)")
        .expect("told");
    let values = &told.results[0].rows[0].values;
    assert_eq!((&values[0], &values[1]), (&integer(0), &values[2]));
}
