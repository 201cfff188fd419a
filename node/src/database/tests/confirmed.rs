//! What a lane found out without writing is told when a quorum has confirmed its leadership, and not before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt as _;
use halite_proto::v1::{self, ErrorCode};

use super::harness::*;
use crate::database::{Database, DatabaseOptions, Redo, failure};

type Told = Result<(), v1::Error>;
type Pending = Pin<Box<dyn Future<Output = Told>>>;

/// Something that a caller asks for and that changes no page.
struct Case {
    name: &'static str,
    ask: fn(&Node) -> Pending,
    /// What it is told when this node still leads.
    told: ErrorCode,
}

const FINE: ErrorCode = ErrorCode::Unspecified;

const SCHEMA: [&str; 4] = [
    "CREATE TABLE lock(id INTEGER PRIMARY KEY, holder INTEGER, name TEXT UNIQUE)",
    "INSERT INTO lock VALUES(1, 0, 'a'), (2, 7, 'b')",
    "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
    "CREATE TABLE child(p REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)",
];

fn write(node: &Node, sql: &str) -> Pending {
    let (job, receiver) = sql_job(sql);
    node.database.submit(vec![job]);
    Box::pin(async { receiver.await.expect("answered").map(drop) })
}

fn import(node: &Node) -> Pending {
    let imported = node.database.import(node.path.with_extension("new"), false);
    Box::pin(async { imported.await.expect("answered").map(drop) })
}

fn begin(node: &Node) -> Pending {
    let database = node.database.clone();
    Box::pin(async move { database.begin(options_now()).await.map(drop) })
}

/// An interactive transaction that was begun, ran `sql` and is to commit.
fn commit(node: &Node, sql: &str) -> Pending {
    node.log.set_word(Word::AtOnce);
    let mut transaction = wait(node.database.begin(options_now()))
        .map_err(|error| error.message)
        .expect("begun");
    wait(transaction.execute(statement(sql))).expect("executed");
    node.log.set_word(Word::Held);
    Box::pin(async move {
        let committed = transaction.commit().await;
        committed.map(drop).map_err(|failure| failure.error)
    })
}

const CASES: [Case; 14] = [
    Case {
        name: "update of no row",
        ask: |node| {
            write(
                node,
                "UPDATE lock SET holder = 5 WHERE id = 1 AND holder = 3",
            )
        },
        told: FINE,
    },
    Case {
        name: "rows that are only read",
        ask: |node| write(node, "SELECT holder FROM lock"),
        told: FINE,
    },
    Case {
        name: "bytes that stay as they were",
        ask: |node| {
            write(
                node,
                "UPDATE lock SET holder = 0 WHERE id = 1 AND holder = 0",
            )
        },
        told: FINE,
    },
    Case {
        name: "bytes that stay as they were, with rows",
        ask: |node| {
            write(
                node,
                "UPDATE lock SET holder = 7 WHERE id = 2 RETURNING holder",
            )
        },
        told: FINE,
    },
    Case {
        name: "a conflict that is resolved into what was there",
        ask: |node| {
            let upsert = "INSERT INTO lock VALUES(1, 0, 'a') ON CONFLICT(id) DO UPDATE SET holder = excluded.holder RETURNING *";
            write(node, upsert)
        },
        told: FINE,
    },
    Case {
        name: "a conflict that is ignored",
        ask: |node| write(node, "INSERT OR IGNORE INTO lock VALUES(1, 3, 'c')"),
        told: FINE,
    },
    Case {
        name: "a violated constraint",
        ask: |node| write(node, "INSERT INTO lock VALUES(3, 3, 'a')"),
        told: ErrorCode::Sql,
    },
    Case {
        name: "a violated constraint that ends the transaction",
        ask: |node| write(node, "INSERT OR ROLLBACK INTO lock VALUES(3, 3, 'a')"),
        told: ErrorCode::Sql,
    },
    Case {
        name: "a violated constraint that was deferred",
        ask: |node| write(node, "INSERT INTO child VALUES(1)"),
        told: ErrorCode::Sql,
    },
    Case {
        name: "an import into a database that is not empty",
        ask: import,
        told: ErrorCode::AlreadyExists,
    },
    Case {
        name: "a statement that runs alone and fails",
        ask: |node| write(node, "VACUUM nowhere"),
        told: ErrorCode::Sql,
    },
    Case {
        name: "the begin of a transaction",
        ask: begin,
        told: FINE,
    },
    Case {
        name: "the end of a transaction that has only read",
        ask: |node| commit(node, "SELECT holder FROM lock"),
        told: FINE,
    },
    Case {
        name: "the end of a transaction that left all as it was",
        ask: |node| {
            commit(
                node,
                "UPDATE lock SET holder = 0 WHERE id = 1 AND holder = 0",
            )
        },
        told: FINE,
    },
];

/// Asks, and sees that nothing is told before the word. `word` gives it; `None`: whoever was asked goes away.
fn told(node: &Node, case: &Case, word: Option<Told>) -> ErrorCode {
    let (name, log) = (case.name, &node.log);
    let entries = log.committed().len();
    log.set_word(Word::Held);
    let mut pending = (case.ask)(node);
    for _ in 0..2 {
        // The first look may be what hands it over.
        assert_eq!(
            (&mut pending).now_or_never(),
            None,
            "{name}: told too early"
        );
        node.database.settle();
    }
    assert_eq!(log.asked(), [LEADERSHIP], "{name}");
    match word {
        Some(word) => log.give_word(&word),
        None => log.forget_waiters(),
    }
    let told = wait(pending).map_or_else(|error| error.code(), |()| FINE);
    assert_eq!(log.committed().len(), entries, "{name}: it was written");
    log.set_word(Word::AtOnce);
    told
}

#[test]
fn what_was_found_out_without_writing_is_told_only_after_the_word_of_a_quorum() {
    for case in &CASES {
        let (_dir, _log, primary, _follower) = pair(&SCHEMA);
        let replaced = failure::not_primary(None);
        let lost = told(&primary, case, Some(Err(replaced)));
        assert_eq!(lost, ErrorCode::NotPrimary, "{}", case.name);
        let gone = told(&primary, case, None);
        assert_eq!(gone, ErrorCode::Unavailable, "{}", case.name);
        let fine = told(&primary, case, Some(Ok(())));
        assert_eq!(fine, case.told, "{}", case.name);
        // Whatever was told, the lane is free.
        primary
            .run("UPDATE lock SET holder = holder + 1")
            .expect("written");
    }
}

#[test]
fn the_lane_goes_on_while_answers_wait_and_what_the_quorum_has_needs_no_word() {
    let (_dir, log, primary, follower) = pair(&SCHEMA);
    log.set_word(Word::Held);
    let mut waiting = write(&primary, "UPDATE lock SET holder = 5 WHERE id = 99");
    primary.database.settle();
    primary.run("UPDATE lock SET holder = 5").expect("written");
    assert_eq!((&mut waiting).now_or_never(), None);
    assert_eq!(log.asked().len(), 1);
    // One of a batch that writes is proven by the entry of the others.
    let answers = primary.one_batch(vec![
        sql_job("UPDATE lock SET holder = 6"),
        sql_job("INSERT INTO lock VALUES(3, 3, 'a')"),
        sql_job("SELECT 1"),
    ]);
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(code(&answers[1]), ErrorCode::Sql);
    assert_eq!(log.asked().len(), 1);
    log.give_word(&Ok(()));
    wait(waiting).expect("told");
    follower.assert_same(&primary);
}

#[test]
fn a_failure_that_ended_the_transaction_is_not_told_before_what_it_is_about_is_decided() {
    let (_dir, log, primary, _follower) = pair(&SCHEMA);
    log.set(Delivery::Held);
    let blocked = write(&primary, "PRAGMA user_version = 2");
    primary.database.settle();
    let (first, first_told) = sql_job("INSERT INTO lock VALUES(3, 3, 'c')");
    let (second, second_told) = sql_job("INSERT OR ROLLBACK INTO lock VALUES(4, 4, 'c')");
    primary.database.submit(vec![first, second]);
    log.deliver();
    wait(blocked).expect("blocker");
    primary.database.settle();
    assert_eq!(
        log.held(),
        1,
        "the row that is in the way waits for its quorum"
    );
    let mut second_told = Box::pin(second_told);
    assert_eq!((&mut second_told).now_or_never(), None);
    answer(primary.database.close_lane(None));
    log.lose();
    assert_eq!(code(&answer(first_told)), ErrorCode::OutcomeUnknown);
    let second_told = wait(second_told).expect("answered");
    assert_eq!(code(&second_told), ErrorCode::NotPrimary);
}

#[test]
fn answers_that_wait_for_the_word_are_bounded() {
    let dir = tempfile::tempdir().expect("dir");
    let log = TestLog::new();
    let database = Database::open(
        spec(&dir.path().join("a.db")),
        Redo::nothing(),
        log.clone(),
        Arc::new(Checkpoints::default()),
        DatabaseOptions {
            queued_jobs_max: 3,
            ..options()
        },
    )
    .expect("opened");
    log.follow(&database);
    database.open_lane(LEADERSHIP);
    log.set_word(Word::Held);
    let ask = || {
        let (job, receiver) = sql_job("SELECT 1");
        database.submit(vec![job]);
        database.settle();
        receiver
    };
    let waiting: Vec<_> = (0..3).map(|_| ask()).collect();
    assert_eq!(code(&answer(ask())), ErrorCode::Unavailable);
    log.give_word(&Ok(()));
    for receiver in waiting {
        answer(receiver).expect("told");
    }
    log.set_word(Word::AtOnce);
    answer(ask()).expect("there is room again");
}
