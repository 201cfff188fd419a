//! The client against nodes that misbehave as told.

mod admin;
mod failover;
mod fake_node;
mod following;
mod pipelining;
mod reading;
mod transactions;

use std::time::Duration;

use fake_node::{FakeNode, addresses};
use halite_client::{Client, ClientBuilder};

/// A client of all `nodes` that knows the primary and is connected to every one.
async fn connect(nodes: &[FakeNode]) -> Client {
    connect_with(nodes, |builder| builder).await
}

async fn connect_with(
    nodes: &[FakeNode],
    set: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Client {
    let client = set(Client::builder(addresses(nodes)))
        .connect()
        .await
        .unwrap();
    for node in nodes {
        node.seen(|record| (record.sessions > 0).then_some(()))
            .await;
    }
    until(|| client.stats().connections >= nodes.len() as u64).await;
    client.watch_topology().primary().await;
    client
}

/// Waits for `condition`, at most 10 s.
async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("condition was not met in time");
}
