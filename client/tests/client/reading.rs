//! Levels, sessions, spread, streams of rows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use halite_client::{ErrorKind, ReadLevel};
use halite_proto::v1::{self as wire, ErrorCode, QueryResponse, Reply, StatementResult};
use tonic::Status;

use crate::connect;
use crate::fake_node::{Action, cluster, error, refuse, row};

#[tokio::test]
async fn reads_spread_and_writes_do_not() {
    let nodes = cluster(3).await;
    let client = connect(&nodes).await;
    let database = client.database("app").with_level(ReadLevel::Local);
    for _ in 0..150 {
        database.query("R", ()).await.unwrap();
        database.execute("W", ()).await.unwrap();
    }
    let count = |node: usize, sql: &str| {
        nodes[node]
            .calls()
            .iter()
            .filter(|call| call.statements[0].sql == sql)
            .count()
    };
    assert_eq!((count(0, "W"), count(1, "W"), count(2, "W")), (150, 0, 0));
    for node in 0..3 {
        assert!(
            count(node, "R") > 20,
            "node {node} got {} reads",
            count(node, "R")
        );
    }
    assert!(
        nodes
            .iter()
            .flat_map(|node| node.calls())
            .all(|call| call.read_only == (call.statements[0].sql == "R"))
    );
}

#[tokio::test]
async fn levels_are_sent_as_asked() {
    let nodes = cluster(3).await;
    let client = connect(&nodes).await;
    let database = client.database("app");
    database
        .with_level(ReadLevel::Linearizable)
        .query("L", ())
        .await
        .unwrap();
    database
        .with_level(ReadLevel::Bounded(Duration::from_millis(250)))
        .query("B", ())
        .await
        .unwrap();
    database.query("S", ()).await.unwrap();
    let calls: Vec<_> = nodes.iter().flat_map(|node| node.calls()).collect();
    let call = |sql: &str| {
        calls
            .iter()
            .find(|call| call.statements[0].sql == sql)
            .unwrap()
    };
    assert_eq!(call("L").level(), wire::ReadLevel::Linearizable);
    assert_eq!(
        nodes[0].calls()[0].statements[0].sql,
        "L",
        "the primary needs no second node to be sure"
    );
    assert_eq!(
        (call("B").level(), call("B").max_lag_ms),
        (wire::ReadLevel::Bounded, 250)
    );
    assert_eq!(call("S").level(), wire::ReadLevel::Session);
}

#[tokio::test]
async fn the_session_token_only_grows_and_is_not_shared_between_sessions() {
    let nodes = cluster(1).await;
    let indexes = [10, 5, 12];
    let turn = AtomicU64::new(0);
    nodes[0].script(move |call| {
        let turn = turn.fetch_add(1, Ordering::Relaxed) as usize;
        Action::Reply(vec![Reply {
            id: call.id,
            results: vec![StatementResult::default()],
            session_index: indexes[turn % 3],
            ..Reply::default()
        }])
    });
    let client = connect(&nodes).await;
    let other = client.session();
    let database = client.database("app");
    let same_session = client.clone().database("other");
    for database in [&database, &same_session, &database] {
        database.query("R", ()).await.unwrap();
    }
    let sent: Vec<u64> = nodes[0]
        .calls()
        .iter()
        .map(|call| call.session_index)
        .collect();
    assert_eq!(sent, [0, 10, 10]);
    assert_eq!((client.token(), other.token()), (12, 0));
    other.observe_token(client.token());
    other.observe_token(3);
    assert_eq!(other.database("app").token(), 12);
}

#[tokio::test]
async fn a_follower_that_lags_behind_a_creation_is_not_believed() {
    let nodes = cluster(3).await;
    for node in &nodes[1..] {
        node.script(|call| refuse(call, error(ErrorCode::NoSuchDatabase)));
    }
    let client = connect(&nodes).await;
    for _ in 0..10 {
        client.database("new").query("R", ()).await.unwrap();
    }
    for node in &nodes {
        node.script(|call| refuse(call, error(ErrorCode::NoSuchDatabase)));
    }
    let failed = client.database("new").query("R", ()).await.unwrap_err();
    assert_eq!(failed.kind(), &ErrorKind::NoSuchDatabase);
}

#[tokio::test]
async fn a_read_cut_off_in_the_middle_of_its_rows_is_repeated_whole() {
    let nodes = cluster(2).await;
    for node in &nodes {
        let others = std::sync::Arc::clone(&node.inner.state);
        node.script(move |call| {
            let mut executed = others.executed.lock().unwrap();
            let tries = executed.entry("R".into()).or_default();
            *tries += 1;
            let part = Reply {
                id: call.id,
                results: vec![StatementResult {
                    columns: vec!["n".into()],
                    rows: vec![row(&[1]), row(&[2])],
                    ..StatementResult::default()
                }],
                more: *tries == 1,
                ..Reply::default()
            };
            Action::Reply(vec![part])
        });
    }
    let client = connect(&nodes).await;
    let reading = tokio::spawn({
        let database = client.database("app");
        async move { database.query("R", ()).await }
    });
    crate::until(|| nodes.iter().any(|node| !node.calls().is_empty())).await;
    let half = nodes.iter().find(|node| !node.calls().is_empty()).unwrap();
    half.kill();
    let rows = reading.await.unwrap().unwrap();
    assert_eq!(rows.len(), 2);
}

fn piece(numbers: &[i64], done: bool) -> Result<QueryResponse, Status> {
    Ok(QueryResponse {
        columns: vec!["n".into()],
        rows: numbers.iter().map(|n| row(&[*n])).collect(),
        session_index: 33,
        done,
    })
}

#[tokio::test]
async fn a_row_stream_gives_all_rows_and_moves_the_session_on() {
    let nodes = cluster(1).await;
    nodes[0].query_script(|_| vec![piece(&[1, 2], false), piece(&[], false), piece(&[3], true)]);
    let client = connect(&nodes).await;
    let mut rows = client.database("app").query_stream("R", ()).await.unwrap();
    assert_eq!(rows.columns(), ["n"]);
    let mut numbers = Vec::new();
    while let Some(row) = rows.next_row().await.unwrap() {
        numbers.push(row.get::<i64>("n").unwrap());
    }
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(client.token(), 33);
}

#[tokio::test]
async fn a_truncated_row_stream_is_an_error_not_a_short_result() {
    let nodes = cluster(1).await;
    nodes[0].query_script(|_| vec![piece(&[1, 2], false)]);
    let client = connect(&nodes).await;
    let rows = client.database("app").query_stream("R", ()).await.unwrap();
    let rows: Vec<_> = rows.collect().await;
    assert_eq!(rows.len(), 3);
    assert!(rows[0].is_ok() && rows[1].is_ok());
    let failed = rows[2].as_ref().unwrap_err();
    assert!(
        matches!(failed.kind(), ErrorKind::Unavailable { .. }),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_row_of_the_wrong_width_is_refused() {
    let nodes = cluster(1).await;
    nodes[0].query_script(|_| {
        vec![Ok(QueryResponse {
            columns: vec!["a".into()],
            rows: vec![row(&[1, 2])],
            done: true,
            ..QueryResponse::default()
        })]
    });
    let client = connect(&nodes).await;
    let mut rows = client.database("app").query_stream("R", ()).await.unwrap();
    assert_eq!(
        rows.next_row().await.unwrap_err().kind(),
        &ErrorKind::Internal
    );
    assert!(rows.next_row().await.unwrap().is_none());
}
