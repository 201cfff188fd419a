//! Many calls over one stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use halite_client::{ErrorKind, params};
use halite_proto::v1::{Call, ErrorCode, Reply, StatementResult};

use crate::fake_node::{Action, cluster, error, refuse, row};
use crate::{connect, connect_with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_calls_share_messages_and_get_their_own_answers() {
    let nodes = cluster(1).await;
    let client = connect(&nodes).await;
    let database = client.database("app");
    let callers = (0..256_i64).map(|caller| {
        let database = database.clone();
        tokio::spawn(async move {
            for round in 0..20 {
                let result = database
                    .execute("ECHO", params![caller, round])
                    .await
                    .unwrap();
                assert_eq!(result.rows[0].get::<i64>(0).unwrap(), caller);
                assert_eq!(result.rows[0].get::<i64>("c1").unwrap(), round);
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    let stats = client.stats();
    assert_eq!(stats.calls_sent, 256 * 20);
    assert_eq!(stats.calls_in_flight, 0);
    assert!(
        stats.messages_sent * 4 < stats.calls_sent,
        "not coalesced: {stats:?}"
    );
    let ids: std::collections::HashSet<u64> = nodes[0].calls().iter().map(|call| call.id).collect();
    assert_eq!(ids.len(), 256 * 20);
}

#[tokio::test]
async fn a_lone_caller_does_not_wait_for_company() {
    let nodes = cluster(1).await;
    let client = connect(&nodes).await;
    for _ in 0..50 {
        client.database("app").execute("ECHO", ()).await.unwrap();
    }
    let stats = client.stats();
    assert_eq!((stats.calls_sent, stats.messages_sent), (50, 50));
}

#[tokio::test]
async fn replies_may_come_out_of_order_and_in_parts() {
    let nodes = cluster(1).await;
    nodes[0].script(|_| Action::Hold);
    let client = connect(&nodes).await;
    let database = client.database("app");
    let first = tokio::spawn({
        let database = database.clone();
        async move { database.batch(["A", "B"]).await }
    });
    let a = nodes[0].seen(|record| record.calls.first().cloned()).await;
    let second = tokio::spawn(async move { database.query("C", ()).await });
    let c = nodes[0].seen(|record| record.calls.get(1).cloned()).await;

    let part = |call: &Call, more, first_statement, rows: Vec<Vec<i64>>| Reply {
        id: call.id,
        more,
        first_statement,
        results: rows
            .into_iter()
            .map(|rows| StatementResult {
                columns: vec!["n".into()],
                rows: rows.into_iter().map(|n| row(&[n])).collect(),
                rows_affected: 1,
                ..StatementResult::default()
            })
            .collect(),
        ..Reply::default()
    };
    nodes[0].answer(part(&a, true, 0, vec![vec![1, 2]]));
    nodes[0].answer(part(&c, true, 0, vec![vec![7]]));
    nodes[0].answer(part(&a, true, 0, vec![vec![3], vec![4]]));
    nodes[0].answer(part(&c, false, 0, vec![vec![8]]));
    let rows = second.await.unwrap().unwrap();
    assert_eq!(
        rows.iter()
            .map(|row| row.get(0).unwrap())
            .collect::<Vec<i64>>(),
        [7, 8]
    );
    assert!(!first.is_finished());
    nodes[0].answer(part(&a, false, 1, vec![vec![5]]));
    let results = first.await.unwrap().unwrap();
    let numbers = |index: usize| -> Vec<i64> {
        results[index]
            .rows
            .iter()
            .map(|row| row.get(0).unwrap())
            .collect()
    };
    assert_eq!((numbers(0), numbers(1)), (vec![1, 2, 3], vec![4, 5]));
}

#[tokio::test]
async fn an_answer_that_leaves_out_a_statement_is_an_error() {
    let nodes = cluster(1).await;
    nodes[0].script(|call| {
        Action::Reply(vec![Reply {
            id: call.id,
            results: vec![StatementResult::default()],
            ..Reply::default()
        }])
    });
    let client = connect(&nodes).await;
    let failed = client.database("app").batch(["A", "B"]).await.unwrap_err();
    assert_eq!(failed.kind(), &ErrorKind::Internal);
}

#[tokio::test]
async fn a_result_beyond_the_limit_is_refused() {
    let nodes = cluster(1).await;
    nodes[0].script(|call| {
        let part = |more| Reply {
            id: call.id,
            more,
            results: vec![StatementResult {
                columns: vec!["n".into()],
                rows: (0..1000).map(|n| row(&[n])).collect(),
                ..StatementResult::default()
            }],
            ..Reply::default()
        };
        Action::Reply(vec![part(true), part(true), part(false)])
    });
    let client = connect_with(&nodes, |builder| builder.result_bytes_max(10_000)).await;
    let failed = client.database("app").query("BIG", ()).await.unwrap_err();
    assert_eq!(failed.kind(), &ErrorKind::Invalid);
    assert!(failed.to_string().contains("bytes_max=10000"), "{failed}");
}

#[tokio::test]
async fn a_dropped_call_releases_its_slot() {
    let nodes = cluster(1).await;
    nodes[0].script(|call| match call.statements[0].sql.as_str() {
        "HANG" => Action::Hold,
        _ => Action::Apply,
    });
    let client = connect_with(&nodes, |builder| builder.in_flight_max(1)).await;
    let database = client.database("app");
    let hanging = tokio::spawn({
        let database = database.clone();
        async move { database.execute("HANG", ()).await }
    });
    let call = nodes[0].seen(|record| record.calls.first().cloned()).await;
    assert_eq!(client.stats().calls_in_flight, 1);
    hanging.abort();
    hanging.await.unwrap_err();
    assert_eq!(client.stats().calls_in_flight, 0);
    database.execute("OTHER", ()).await.unwrap();
    // The node still works on the dropped call: its outcome must not be forgotten yet.
    let last = |record: &crate::fake_node::Record| record.messages.last().unwrap().answered_below;
    assert_eq!(last(&nodes[0].inner.record.borrow()), call.id);
    nodes[0].answer(Reply {
        id: call.id,
        ..Reply::default()
    });
    // The late answer closes the id, and a later call tells the node so.
    let told = async {
        while last(&nodes[0].inner.record.borrow()) <= call.id {
            database.execute("OTHER", ()).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told)
        .await
        .expect("the mark hangs");
}

/// No id below a mark that was ever sent may turn up again, whatever fails on the way; and nothing keeps the mark from moving.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answered_below_never_passes_a_call_that_comes_again() {
    let nodes = cluster(3).await;
    let highest_mark = Arc::new(AtomicU64::new(0));
    let turn = Arc::new(AtomicU64::new(0));
    for node in &nodes {
        let turn = Arc::clone(&turn);
        node.script(
            move |call| match turn.fetch_add(1, Ordering::Relaxed) % 11 {
                1 => refuse(call, error(ErrorCode::Unavailable)),
                4 => refuse(call, error(ErrorCode::OutcomeUnknown)),
                7 => refuse(call, error(ErrorCode::NotPrimary)),
                _ => Action::Apply,
            },
        );
    }
    let client = connect(&nodes).await;
    let database = client.database("app");
    let callers = (0..64).map(|caller| {
        let database = database.clone();
        tokio::spawn(async move {
            for round in 0..30 {
                if round % 10 == caller % 10 {
                    // Given up half way: polled once, then dropped.
                    let _ = futures::poll!(Box::pin(database.execute("DROPPED", ())));
                } else if round % 3 == 0 {
                    database.query("READ", ()).await.unwrap();
                } else {
                    database.execute("WRITE", params![caller]).await.unwrap();
                }
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    let mut first_seen: HashMap<u64, bool> = HashMap::new();
    for node in &nodes {
        let record = node.inner.record.borrow();
        let mut mark = 0;
        for message in &record.messages {
            assert!(message.answered_below >= mark, "mark went back");
            for call in &message.calls {
                assert_eq!(
                    call.read_only,
                    call.id >= 1 << 63,
                    "reads do not hold the mark"
                );
                assert!(call.id >= mark, "id {} came after mark {mark}", call.id);
                first_seen.insert(call.id, call.retry);
            }
            mark = message.answered_below;
        }
        highest_mark.fetch_max(mark, Ordering::Relaxed);
    }
    // Once all is quiet, the mark is the id of the next call itself.
    let quiet = async {
        loop {
            for node in &nodes {
                node.script(|_| Action::Apply);
            }
            database.execute("LAST", ()).await.unwrap();
            let record = nodes[0].inner.record.borrow();
            let message = record.messages.last().unwrap();
            if message
                .calls
                .last()
                .is_some_and(|call| call.id == message.answered_below)
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), quiet)
        .await
        .expect("the mark hangs");
    assert!(first_seen.len() > 1000);
}
