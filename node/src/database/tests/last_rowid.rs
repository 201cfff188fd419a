//! `last_insert_rowid` is the caller's own: what SQLite tells on a connection that is new with each call or transaction.

use halite_proto::v1::ErrorCode;

use super::harness::*;

#[test]
fn nobody_is_told_the_rowid_of_another_caller() {
    let (_dir, _log, primary, _follower) = pair(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v UNIQUE)",
        "CREATE TABLE w(k PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE log(v)",
        "CREATE TABLE traced(id INTEGER PRIMARY KEY)",
        "CREATE TRIGGER trace AFTER INSERT ON traced BEGIN INSERT INTO log VALUES(new.id); END",
        "INSERT INTO t VALUES(40, 'a')",
    ]);
    let upsert = "INSERT INTO t(v) VALUES('a') ON CONFLICT(v) DO UPDATE SET v = 'a'";
    for (calls, rowids) in [
        (&["INSERT INTO t VALUES(41, 'b')"][..], &[41][..]),
        (&[upsert], &[0]),
        (&["INSERT OR IGNORE INTO t(v) VALUES('a')"], &[0]),
        (&["INSERT INTO w VALUES('x')"], &[0]),
        (&["WITH n AS (SELECT 1) UPDATE t SET v = v"], &[0]),
        (
            &["WITH n AS (SELECT 9) INSERT INTO t SELECT 50, 'c' FROM n"],
            &[50],
        ),
        (&["REPLACE INTO t VALUES(51, 'c')"], &[51]),
        (&["INSERT INTO traced VALUES(7)"], &[7]),
        (
            &[
                "INSERT INTO t VALUES(60, 'd')",
                upsert,
                "DELETE FROM t WHERE id = 60",
            ],
            &[60, 60, 60],
        ),
        (&[upsert, "INSERT INTO t VALUES(61, 'd')"], &[0, 61]),
    ] {
        // The caller before, whose rowid is nobody's business.
        primary.run("INSERT INTO log VALUES(0)").expect("written");
        let statements = calls.iter().map(|sql| statement(sql)).collect();
        let told = primary.call(statements).expect("written");
        let told: Vec<i64> = told
            .results
            .iter()
            .map(|result| result.last_insert_rowid)
            .collect();
        assert_eq!(told, rowids, "{calls:?}");
    }
    primary.run("INSERT INTO log VALUES(0)").expect("written");
    let told = primary.run("SELECT last_insert_rowid()").expect("read");
    assert_eq!(told.results[0].rows[0].values, [integer(0)]);
    wait(async {
        let mut transaction = primary.database.begin(options_now()).await.expect("begun");
        for (sql, rowid) in [
            (upsert, 0),
            ("INSERT INTO t VALUES(70, 'e')", 70),
            (upsert, 70),
            ("SELECT 1", 70),
        ] {
            let told = transaction.execute(statement(sql)).await.expect("executed");
            assert_eq!(told.last_insert_rowid, rowid, "{sql}");
        }
        transaction.rollback().await;
    });
}

#[test]
fn a_table_that_is_out_of_rowids_is_not_taken_for_a_full_disk() {
    let (_dir, _log, primary, _follower) = pair(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
        "INSERT INTO t VALUES(9223372036854775807, 'last')",
    ]);
    let error = primary
        .run("INSERT INTO t(v) VALUES('beyond')")
        .expect_err("refused");
    assert_eq!(
        (error.code(), error.sqlite_code),
        (ErrorCode::Sql, 13),
        "{error:?}"
    );
    assert!(error.message.contains("full"), "{error:?}");
}
