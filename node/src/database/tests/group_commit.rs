//! Jobs in one batch do not disturb each other.

use super::harness::*;
use halite_proto::v1::ErrorCode;

/// Submits jobs while the gate is shut, so that all of them make one batch, and returns the answers.
fn one_batch(
    node: &Node,
    log: &std::sync::Arc<TestLog>,
    jobs: Vec<crate::database::WriteJob>,
    receivers: Vec<Answer>,
) -> Vec<Result<crate::database::CallResults, halite_proto::v1::Error>> {
    log.set(Delivery::Held);
    let (blocker, blocked) = sql_job(
        "CREATE TABLE IF NOT EXISTS blocker(x); INSERT INTO blocker VALUES(1)"
            .split(';')
            .next()
            .expect("sql"),
    );
    let (insert, inserted) = sql_job("INSERT INTO blocker VALUES(1)");
    drop((blocker, blocked));
    node.database.submit(vec![insert]);
    node.database.settle();
    assert_eq!(log.held(), 1, "the gate is shut");
    let before = node.database.status().batches;
    node.database.submit(jobs);
    log.set(Delivery::AtOnce);
    log.deliver();
    answer(inserted).expect("blocker");
    let answers: Vec<_> = receivers.into_iter().map(answer).collect();
    assert!(node.database.status().batches <= before + 2 || before == 0);
    answers
}

fn setup() -> (tempfile::TempDir, std::sync::Arc<TestLog>, Node, Node) {
    let dir = tempfile::tempdir().expect("dir");
    let log = TestLog::new();
    let follower = Node::start(&log, &dir.path().join("b.db"));
    let primary = Node::primary(&log, &dir.path().join("a.db"));
    primary.run("CREATE TABLE blocker(x)").expect("created");
    primary
        .run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT UNIQUE)")
        .expect("created");
    (dir, log, primary, follower)
}

#[test]
fn one_failing_job_leaves_the_others_alone() {
    let (_dir, log, primary, follower) = setup();
    let sqls = [
        "INSERT INTO t(v) VALUES('a')",
        "INSERT INTO t(v) VALUES('b'), ('a')",
        "INSERT OR FAIL INTO t(v) VALUES('c'), ('a')",
        "INSERT INTO t(v) VALUES('d')",
        "this is not SQL",
    ];
    let (jobs, receivers) = sqls.iter().map(|sql| sql_job(sql)).unzip();
    let answers = one_batch(&primary, &log, jobs, receivers);
    assert!(answers[0].is_ok());
    assert_eq!(code(&answers[1]), ErrorCode::Sql);
    assert_eq!(answers[1].as_ref().expect_err("error").sqlite_code, 2067);
    assert_eq!(code(&answers[2]), ErrorCode::Sql);
    assert!(answers[3].is_ok());
    assert_eq!(code(&answers[4]), ErrorCode::Sql);
    assert_eq!(primary.integer("SELECT count(*) FROM t"), 2);
    assert_eq!(
        primary.integer("SELECT count(*) FROM t WHERE v IN ('a', 'd')"),
        2
    );
    follower.assert_same(&primary);
}
