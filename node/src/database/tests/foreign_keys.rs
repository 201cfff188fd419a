//! Transactions without foreign keys: tables are made anew without losing rows, and nothing else gets past them.

use halite_proto::v1::{self, ErrorCode};

use super::harness::*;
use super::readers::{pool, read};

const SCHEMA: &[&str] = &[
    "CREATE TABLE p(id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE)",
    "INSERT INTO p VALUES(1, 'x'), (2, 'y')",
    "INSERT INTO c VALUES(10, 1), (11, 2)",
];

/// SQLite's own advice for changes that ALTER TABLE cannot make.
const REBUILD: &[&str] = &[
    "PRAGMA foreign_keys=OFF",
    "CREATE TABLE new_p(id INTEGER PRIMARY KEY, v TEXT NOT NULL)",
    "INSERT INTO new_p SELECT * FROM p",
    "DROP TABLE p",
    "ALTER TABLE new_p RENAME TO p",
];

fn batch(node: &Node, sqls: &[&str]) -> Result<crate::database::CallResults, v1::Error> {
    node.call(sqls.iter().map(|sql| statement(sql)).collect())
}

fn enforced(node: &Node) {
    let told = node.run("PRAGMA foreign_keys").expect("told");
    assert_eq!(told.results[0].rows[0].values, [integer(1)]);
    let error = node
        .run("INSERT INTO c VALUES(99, 99)")
        .expect_err("no parent");
    assert_eq!(error.code(), ErrorCode::Sql, "{error:?}");
}

#[test]
fn a_table_is_made_anew_with_its_children_in_place() {
    let (_dir, _log, primary, follower) = pair(SCHEMA);
    batch(&primary, REBUILD).expect("made anew");
    assert_eq!(primary.integer("SELECT count(*) FROM c"), 2);
    assert_eq!(primary.integer("SELECT count(*) FROM p"), 2);
    enforced(&primary);
    // As Prisma writes it.
    let mut prisma = vec!["PRAGMA defer_foreign_keys=ON"];
    prisma.extend(REBUILD);
    prisma.extend(["PRAGMA foreign_keys=ON", "PRAGMA defer_foreign_keys=OFF"]);
    batch(&primary, &prisma).expect("made anew");
    assert_eq!(primary.integer("SELECT count(*) FROM c"), 2);
    enforced(&primary);
    follower.assert_same(&primary);
}

#[test]
fn new_violations_are_not_committed() {
    let (_dir, log, primary, _follower) = pair(SCHEMA);
    let entries = log.committed().len();
    let error = batch(
        &primary,
        &["PRAGMA foreign_keys=OFF", "DELETE FROM p WHERE id = 2"],
    )
    .expect_err("a child without parent");
    assert_eq!(
        error.sqlite_code,
        rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY
    );
    for word in ["table=\"c\"", "rowid=11", "parent=\"p\""] {
        assert!(error.message.contains(word), "{}", error.message);
    }
    assert_eq!(log.committed().len(), entries);
    assert_eq!(primary.integer("SELECT count(*) FROM p"), 2);
    enforced(&primary);
    let error = batch(&primary, &["PRAGMA foreign_keys=OFF", "SELECT no_such"]).expect_err("SQL");
    assert_eq!(error.statement_index, 1);
    enforced(&primary);
    // By itself it would do nothing; late it cannot do anything.
    for sqls in [
        &["PRAGMA foreign_keys=OFF"][..],
        &["DELETE FROM p", "PRAGMA foreign_keys=OFF"],
    ] {
        let error = batch(&primary, sqls).expect_err("refused");
        assert_eq!(error.code(), ErrorCode::Invalid, "{error:?}");
        assert!(
            !error.message.contains("defer_foreign_keys"),
            "{}",
            error.message
        );
    }
    assert_eq!(primary.integer("SELECT count(*) FROM p"), 2);
}

#[test]
fn violations_that_were_there_before_do_not_matter() {
    let (dir, _log, primary, _follower) = pair(&[]);
    let path = dir.path().join("old.db");
    let file = rusqlite::Connection::open(&path).expect("file");
    file.execute_batch(
        "PRAGMA foreign_keys = OFF;
         CREATE TABLE p(id INTEGER PRIMARY KEY);
         CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p);
         INSERT INTO c VALUES(1, 99);",
    )
    .expect("made");
    drop(file);
    answer(primary.database.import(path, true)).expect("imported");
    let insert = "INSERT INTO p VALUES(1)";
    batch(&primary, &["PRAGMA foreign_keys=OFF", insert]).expect("committed");
    let insert = "INSERT INTO c VALUES(2, 98)";
    let error = batch(&primary, &["PRAGMA foreign_keys=OFF", insert]).expect_err("a new one");
    assert!(error.message.contains("rowid=2"), "{}", error.message);
    assert_eq!(primary.integer("SELECT count(*) FROM c"), 1);
    assert_eq!(primary.integer("SELECT count(*) FROM p"), 1);
}

#[test]
fn an_interactive_transaction_can_be_without_foreign_keys() {
    let (_dir, _log, primary, _follower) = pair(SCHEMA);
    wait(async {
        let mut transaction = primary.database.begin(options_now()).await.expect("begun");
        for sql in REBUILD {
            transaction.execute(statement(sql)).await.expect(sql);
        }
        let told = transaction
            .execute(statement("PRAGMA foreign_keys"))
            .await
            .expect("told");
        assert_eq!(told.rows[0].values, [integer(0)]);
        transaction.commit().await.expect("committed");
    });
    assert_eq!(primary.integer("SELECT count(*) FROM c"), 2);
    enforced(&primary);
    wait(async {
        let mut transaction = primary.database.begin(options_now()).await.expect("begun");
        for sql in ["PRAGMA foreign_keys=OFF", "DELETE FROM p WHERE id = 1"] {
            transaction.execute(statement(sql)).await.expect(sql);
        }
        let failure = transaction
            .commit()
            .await
            .expect_err("a child without parent");
        assert!(
            !failure.ended && failure.error.message.contains("rowid=10"),
            "{failure:?}"
        );
        transaction
            .execute(statement("DELETE FROM c WHERE id = 10"))
            .await
            .expect("deleted");
        transaction.commit().await.expect("committed");
        let mut transaction = primary.database.begin(options_now()).await.expect("begun");
        transaction
            .execute(statement("DELETE FROM c"))
            .await
            .expect("deleted");
        let late = transaction
            .execute(statement("PRAGMA foreign_keys=OFF"))
            .await;
        assert_eq!(late.expect_err("too late").error.code(), ErrorCode::Invalid);
        drop(transaction);
    });
    enforced(&primary);
    assert_eq!(primary.integer("SELECT count(*) FROM c"), 1);
}

#[test]
fn readers_say_that_foreign_keys_are_enforced() {
    let (_dir, _log, primary, _follower) = pair(SCHEMA);
    let told = read(&pool(), &primary, &["PRAGMA foreign_keys"]).expect("told");
    assert_eq!(told.results[0].rows[0].values, [integer(1)]);
}

#[test]
fn only_a_dump_writes_the_tables_behind_virtual_tables() {
    let (_dir, _log, primary, follower) = pair(&["CREATE VIRTUAL TABLE f USING fts5(body)"]);
    let shadow = "DELETE FROM f_data WHERE id = 999";
    primary.run(shadow).expect_err("a shadow table");
    batch(&primary, &["PRAGMA foreign_keys=OFF", shadow]).expect_err("a shadow table");
    let dump = [
        "PRAGMA foreign_keys=OFF",
        "PRAGMA writable_schema=ON",
        shadow,
    ];
    batch(&primary, &dump).expect("a dump");
    primary.run(shadow).expect_err("a shadow table again");
    let schema = "UPDATE sqlite_schema SET sql = ''";
    let error = batch(
        &primary,
        &[
            "PRAGMA foreign_keys=OFF",
            "PRAGMA writable_schema=ON",
            schema,
        ],
    )
    .expect_err("the schema");
    assert!(error.message.contains("may not be modified"), "{error:?}");
    follower.assert_same(&primary);
}
