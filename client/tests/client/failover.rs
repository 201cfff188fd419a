//! Nodes die, refuse, move.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use halite_client::{Client, ErrorKind, ReadLevel, params};
use halite_proto::v1::{ErrorCode, MemberInfo, Reply, StatementResult, Topology};
use tokio::time::Instant;

use crate::fake_node::{Action, FakeNode, FakeState, addresses, cluster, error, lead, refuse, row};
use crate::{connect, connect_with, until};

#[tokio::test]
async fn connect_names_every_address_that_fails() {
    let dead = {
        let nodes = cluster(2).await;
        addresses(&nodes)
    };
    let failed = Client::connect(dead.clone()).await.unwrap_err();
    assert!(matches!(failed.kind(), ErrorKind::Unavailable { .. }));
    for address in dead {
        assert!(
            failed.to_string().contains(&format!("{address}=\"")),
            "{failed}"
        );
    }
    assert!(failed.to_string().contains("refused"), "{failed}");
    let invalid = Client::connect(["localhost"]).await.unwrap_err();
    assert_eq!(invalid.kind(), &ErrorKind::Invalid);
}

#[tokio::test]
async fn one_living_address_is_enough() {
    let mut nodes = cluster(2).await;
    nodes[0].kill();
    let client = Client::connect(addresses(&nodes)).await.unwrap();
    lead(&nodes, 2, 2);
    client.database("app").execute("W", ()).await.unwrap();
    nodes.clear();
}

#[tokio::test]
async fn members_are_found_through_any_of_them() {
    let nodes = cluster(3).await;
    let client = Client::connect([nodes[2].inner.addr.clone()])
        .await
        .unwrap();
    client.watch_topology().primary().await;
    client.database("app").execute("W", ()).await.unwrap();
    assert_eq!(nodes[0].calls().len(), 1, "the primary was found and asked");
}

#[tokio::test]
async fn a_first_write_is_not_sent_again_because_the_primary_can_be_reached_by_now() {
    let nodes = cluster(2).await;
    nodes[0].inner.down.store(true, Ordering::SeqCst);
    nodes[1].script(|call| match call.statements[0].sql.as_str() {
        "W" => Action::Hold,
        _ => refuse(call, error(ErrorCode::Unavailable)),
    });
    let client = Client::connect([nodes[1].inner.addr.clone()])
        .await
        .unwrap();
    let database = client.database("app");
    let writing = tokio::spawn({
        let database = database.clone();
        async move { database.execute("W", ()).await }
    });
    let id = nodes[1]
        .seen(|record| record.calls.first().map(|call| call.id))
        .await;
    nodes[0].inner.down.store(false, Ordering::SeqCst);
    // Only the primary serves it.
    let strict = database.with_level(ReadLevel::Linearizable);
    strict.query("R", ()).await.unwrap();
    nodes[1].answer(Reply {
        id,
        results: vec![StatementResult {
            columns: vec!["n".into()],
            rows: vec![row(&[7])],
            ..StatementResult::default()
        }],
        ..Reply::default()
    });
    let written = writing.await.unwrap().unwrap();
    assert_eq!(written.rows.len(), 1);
    let calls = nodes[0].calls();
    assert!(calls.iter().all(|call| call.read_only), "{calls:?}");
}

#[tokio::test]
async fn a_write_cut_off_half_way_is_repeated_elsewhere_under_its_id_and_applied_once() {
    let nodes = cluster(3).await;
    nodes[0].script(|_| Action::ApplyAndDrop);
    let client = connect(&nodes).await;
    let writing = tokio::spawn({
        let database = client.database("app");
        async move { database.execute("W", params![7]).await }
    });
    let first = nodes[0].seen(|record| record.calls.first().cloned()).await;
    nodes[0].kill();
    lead(&nodes, 2, 2);
    let result = writing.await.unwrap().unwrap();
    assert_eq!(result.rows[0].get::<i64>(0).unwrap(), 7);
    assert!(!first.retry);
    let later: Vec<_> = nodes[1]
        .calls()
        .into_iter()
        .chain(nodes[2].calls())
        .collect();
    assert!(!later.is_empty());
    for call in later {
        assert_eq!(call.id, first.id);
        assert!(call.retry);
    }
    assert_eq!(nodes[0].inner.state.executed.lock().unwrap()["W"], 1);
}

#[tokio::test]
async fn a_refusal_with_a_hint_is_followed_at_once() {
    let nodes = cluster(3).await;
    let hint = nodes[2].address();
    nodes[0].script(move |call| {
        let mut refusal = error(ErrorCode::NotPrimary);
        refusal.primary = Some(hint.clone());
        refuse(call, refusal)
    });
    let client = connect(&nodes).await;
    client.database("app").execute("W", ()).await.unwrap();
    assert_eq!(nodes[0].calls().len(), 1);
    assert_eq!(nodes[1].calls().len(), 0);
    let followed = nodes[2].calls();
    assert_eq!(followed.len(), 1);
    assert!(
        !followed[0].retry,
        "a refused try has not reached the cluster"
    );
}

#[tokio::test]
async fn a_hint_leads_to_a_primary_no_topology_names() {
    let nodes = cluster(3).await;
    let client = connect(&nodes).await;
    for node in &nodes[..2] {
        let hint = nodes[2].address();
        node.script(move |call| {
            let mut refusal = error(ErrorCode::NotPrimary);
            refusal.primary = Some(hint.clone());
            refuse(call, refusal)
        });
    }
    lead(&nodes, 2, 0);
    let mut topology = client.watch_topology();
    while topology.next().await.term < 2 {}
    for _ in 0..30 {
        client.database("app").execute("W", ()).await.unwrap();
    }
    let refused: Vec<u64> = nodes[..2]
        .iter()
        .flat_map(FakeNode::calls)
        .map(|call| call.id)
        .collect();
    let distinct: HashSet<_> = refused.iter().collect();
    assert!(!refused.is_empty());
    assert_eq!(
        distinct.len(),
        refused.len(),
        "a call was refused twice: {refused:?}"
    );
}

#[tokio::test]
async fn connections_are_made_by_the_connector_given() {
    let nodes = cluster(2).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let connector = tower::service_fn({
        let asked = Arc::clone(&asked);
        move |uri: http::Uri| {
            let address = uri.authority().unwrap().to_string();
            asked.lock().unwrap().push(address.clone());
            tokio::net::TcpStream::connect(address)
        }
    });
    let client = connect_with(&nodes, |builder| builder.connector(connector).rng_seed(7)).await;
    client.database("app").execute("W", ()).await.unwrap();
    for address in addresses(&nodes) {
        assert!(asked.lock().unwrap().contains(&address));
    }
    let same_seed = connect_with(&nodes, |builder| builder.rng_seed(7)).await;
    assert_eq!(client.id(), same_seed.id());
    assert_ne!(client.id(), connect(&nodes).await.id());
}

#[tokio::test]
async fn without_an_answer_the_outcome_is_unknown() {
    let nodes = cluster(1).await;
    nodes[0].script(|_| Action::Hold);
    let client = connect_with(&nodes, |builder| {
        builder.retry_deadline(Duration::from_millis(200))
    })
    .await;
    let write = client.database("app").execute("W", ()).await.unwrap_err();
    assert_eq!(write.kind(), &ErrorKind::OutcomeUnknown);
    assert!(write.is_outcome_unknown());
    let read = client.database("app").query("R", ()).await.unwrap_err();
    assert!(
        matches!(read.kind(), ErrorKind::Unavailable { .. }),
        "{read:?}"
    );
}

#[tokio::test]
async fn a_write_nobody_took_is_unavailable_not_unknown() {
    let nodes = cluster(2).await;
    for node in &nodes {
        node.script(|call| refuse(call, error(ErrorCode::Unavailable)));
    }
    let client = connect_with(&nodes, |builder| {
        builder.retry_deadline(Duration::from_millis(200))
    })
    .await;
    let failed = client.database("app").execute("W", ()).await.unwrap_err();
    assert!(
        matches!(failed.kind(), ErrorKind::Unavailable { .. }),
        "{failed:?}"
    );
    assert!(
        failed.to_string().contains("scripted Unavailable"),
        "{failed}"
    );
    assert!(client.stats().retries > 2);
}

#[tokio::test]
async fn definite_errors_are_not_retried() {
    let nodes = cluster(2).await;
    nodes[0].script(|call| {
        let mut failed = error(ErrorCode::Sql);
        failed.sqlite_code = 2067;
        failed.statement_index = 1;
        refuse(call, failed)
    });
    let client = connect(&nodes).await;
    let failed = client.database("app").batch(["A", "B"]).await.unwrap_err();
    assert_eq!(
        failed.kind(),
        &ErrorKind::Sql {
            code: 19,
            extended: 2067
        }
    );
    assert_eq!(failed.statement_index(), Some(1));
    assert_eq!(client.stats().retries, 0);
}

/// The cluster may have forgotten a call that it carried out: its refusal to hear of it again says nothing about the first try.
#[tokio::test]
async fn a_refused_repetition_does_not_make_a_lost_write_undone() {
    let nodes = cluster(2).await;
    let turn = AtomicU64::new(0);
    nodes[0].script(move |call| match turn.fetch_add(1, Ordering::Relaxed) {
        0 => refuse(call, error(ErrorCode::OutcomeUnknown)),
        _ => refuse(call, error(ErrorCode::Invalid)),
    });
    nodes[1].script(|call| refuse(call, error(ErrorCode::Invalid)));
    let client = connect(&nodes).await;
    let failed = client.database("app").execute("W", ()).await.unwrap_err();
    assert_eq!(failed.kind(), &ErrorKind::OutcomeUnknown);
    assert!(failed.to_string().contains("scripted Invalid"), "{failed}");
}

#[tokio::test]
async fn an_overloaded_primary_is_asked_again_itself() {
    let nodes = cluster(3).await;
    let left = AtomicU64::new(3);
    nodes[0].script(move |call| {
        if left.load(Ordering::Relaxed) == 0 {
            return Action::Apply;
        }
        left.fetch_sub(1, Ordering::Relaxed);
        let mut busy = error(ErrorCode::Unavailable);
        busy.retry_after_ms = 5;
        refuse(call, busy)
    });
    let client = connect(&nodes).await;
    client.database("app").execute("W", ()).await.unwrap();
    assert_eq!(nodes[0].calls().len(), 4);
    assert_eq!(nodes[1].calls().len() + nodes[2].calls().len(), 0);
}

/// A follower may sit on a write until its own timeout; the client must not wait for that once it knows the new primary.
#[tokio::test]
async fn a_write_that_waits_at_a_follower_moves_to_the_new_primary() {
    let nodes = cluster(3).await;
    for node in &nodes[..2] {
        node.script(|_| Action::Hold);
    }
    let client = connect(&nodes).await;
    let started = Instant::now();
    let writing = tokio::spawn({
        let database = client.database("app");
        async move { database.execute("W", ()).await }
    });
    nodes[0].seen(|record| record.calls.first().cloned()).await;
    lead(&nodes, 2, 3);
    writing.await.unwrap().unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(nodes[2].calls()[0].retry);
}

#[tokio::test]
async fn an_old_topology_is_not_believed() {
    let nodes = cluster(3).await;
    let client = connect(&nodes).await;
    lead(&nodes, 5, 2);
    let mut topology = client.watch_topology();
    while topology.next().await.primary_id != 2 {}
    for node in &nodes {
        node.inner.topology.send_modify(|topology| {
            topology.term = 4;
            topology.primary_id = 3;
        });
    }
    // The next true news come after the false ones on every stream.
    lead(&nodes, 6, 2);
    loop {
        let news = topology.next().await;
        assert_eq!(news.primary_id, 2);
        if news.term == 6 {
            break;
        }
    }
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused() {
    let nodes = cluster(1).await;
    let stranger = FakeNode::start(9, Arc::new(FakeState::default())).await;
    stranger.inner.topology.send_replace(Topology {
        term: 99,
        primary_id: 9,
        members: vec![stranger.member()],
        cluster_id: "other".into(),
        ..Topology::default()
    });
    let client = connect(&nodes).await;
    nodes[0].inner.topology.send_modify(|topology| {
        topology.term = 2;
        topology.members.push(MemberInfo {
            node_id: 2,
            ..stranger.member()
        });
    });
    stranger
        .seen(|record| (record.sessions > 1).then_some(()))
        .await;
    assert_eq!(client.watch_topology().current().primary_id, 1);
    for _ in 0..20 {
        client.database("app").query("R", ()).await.unwrap();
    }
    assert_eq!(stranger.calls().len(), 0);
}

/// Reads are spread over all nodes, so a node that is believed by mistake is soon asked.
#[tokio::test]
async fn a_node_left_over_from_an_older_cluster_is_never_read_from() {
    let nodes = cluster(3).await;
    // Node 3 of an older cluster answers at the address that node 3 has now.
    let left_over = FakeNode::start(3, Arc::new(FakeState::default())).await;
    let mut members: Vec<MemberInfo> = nodes.iter().map(FakeNode::member).collect();
    members[2].addr = left_over.inner.addr.clone();
    for node in &nodes {
        node.inner
            .topology
            .send_modify(|topology| topology.members = members.clone());
    }
    left_over.inner.topology.send_replace(Topology {
        term: 99,
        primary_id: 0,
        members,
        cluster_id: "older".into(),
        ..Topology::default()
    });
    let addresses = [&left_over, &nodes[0], &nodes[1]].map(|node| node.inner.addr.clone());
    for round in 0..20 {
        let client = Client::connect(addresses.clone()).await.unwrap();
        for _ in 0..6 {
            client.database("app").query("R", ()).await.unwrap();
        }
        let topology = client.watch_topology().current();
        assert_eq!(topology.cluster_id, "fake", "round {round}");
    }
    assert_eq!(left_over.calls().len(), 0);
}

#[tokio::test]
async fn a_cluster_that_shows_itself_replaces_a_node_that_was_alone_to_be_believed() {
    let nodes = cluster(3).await;
    let left_over = FakeNode::start(3, Arc::new(FakeState::default())).await;
    left_over.inner.topology.send_replace(Topology {
        term: 99,
        primary_id: 0,
        members: nodes
            .iter()
            .map(FakeNode::member)
            .chain([left_over.member()])
            .collect(),
        cluster_id: "older".into(),
        ..Topology::default()
    });
    // It names the others as members, so the client meets them, and they show a primary.
    let client = Client::connect([left_over.inner.addr.clone()])
        .await
        .unwrap();
    until(|| client.watch_topology().current().cluster_id == "fake").await;
    let before = left_over.calls().len();
    for _ in 0..20 {
        client.database("app").query("R", ()).await.unwrap();
    }
    assert_eq!(left_over.calls().len(), before);
}

#[tokio::test]
async fn addresses_of_two_clusters_are_refused() {
    let (one, two) = (cluster(1).await, cluster(1).await);
    two[0]
        .inner
        .topology
        .send_modify(|topology| topology.cluster_id = "other".into());
    let both = [&one[0], &two[0]].map(|node| node.inner.addr.clone());
    let error = Client::connect(both).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    let said = error.to_string();
    assert!(
        said.contains("the addresses lead to 2 clusters")
            && [(&one, "fake"), (&two, "other")].iter().all(|(nodes, id)| {
                said.contains(&format!("cluster {id} at {}", nodes[0].inner.addr))
            }),
        "{said}"
    );
}

#[tokio::test]
async fn a_restarted_node_is_connected_again() {
    let nodes = cluster(1).await;
    let client = connect(&nodes).await;
    nodes[0].cut();
    until(|| client.stats().connections >= 2).await;
    client.database("app").execute("W", ()).await.unwrap();
}

/// Every acknowledged write is applied exactly once although its primary is cut off, or leadership moves, every few milliseconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_applied_once_over_a_storm_of_failovers() {
    let nodes = Arc::new(cluster(3).await);
    let turn = Arc::new(AtomicU64::new(0));
    for node in nodes.iter() {
        let turn = Arc::clone(&turn);
        node.script(
            move |call| match turn.fetch_add(1, Ordering::Relaxed) % 97 {
                13 => Action::Drop,
                31 => Action::ApplyAndDrop,
                47 => refuse(call, error(ErrorCode::OutcomeUnknown)),
                61 => refuse(call, error(ErrorCode::NotPrimary)),
                _ => Action::Apply,
            },
        );
    }
    let client = connect(&nodes).await;
    let moving = tokio::spawn({
        let nodes = Arc::clone(&nodes);
        async move {
            for term in 2.. {
                lead(&nodes, term, 1 + term % 3);
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        }
    });
    let writers = (0..32).map(|writer| {
        let database = client.database("app");
        tokio::spawn(async move {
            for n in 0..20 {
                database
                    .execute(format!("W {writer} {n}"), ())
                    .await
                    .unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    moving.abort();
    let executed = nodes[0].inner.state.executed.lock().unwrap();
    assert_eq!(executed.len(), 32 * 20);
    assert!(
        executed.values().all(|times| *times == 1),
        "a write was applied twice"
    );
}

#[tokio::test]
async fn a_takeover_costs_the_client_next_to_nothing() {
    let nodes = cluster(3).await;
    let client = connect(&nodes).await;
    let database = client.database("app");
    database.execute("W", ()).await.unwrap();
    for node in &nodes[1..] {
        node.script(|call| refuse(call, error(ErrorCode::Unavailable)));
    }
    nodes[0].kill();
    let writing =
        tokio::spawn(async move { database.execute("W", ()).await.map(|_| Instant::now()) });
    nodes[1].seen(|record| record.calls.first().cloned()).await;
    for node in &nodes[1..] {
        node.script(|_| Action::Apply);
    }
    let elected = Instant::now();
    lead(&nodes, 2, 2);
    let acknowledged = writing.await.unwrap().unwrap();
    let added = acknowledged.saturating_duration_since(elected);
    assert!(added < Duration::from_millis(500), "{added:?}");
}

#[tokio::test]
async fn closing_ends_calls_and_connections() {
    let nodes = cluster(1).await;
    nodes[0].script(|_| Action::Hold);
    let client = connect(&nodes).await;
    let writing = tokio::spawn({
        let database = client
            .database("app")
            .with_timeout(Duration::from_millis(300));
        async move { database.execute("W", ()).await }
    });
    nodes[0].seen(|record| record.calls.first().cloned()).await;
    client.close().await;
    let failed = writing.await.unwrap().unwrap_err();
    assert_eq!(failed.kind(), &ErrorKind::OutcomeUnknown);
    let refused = client.database("app").execute("W", ()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Unavailable { .. }));
}
