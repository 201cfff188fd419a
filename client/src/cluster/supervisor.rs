//! Runs one [`peer`](super::peer) task for each known node, and ends it when the node is known no longer.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::{Cluster, PeerKey, peer};

/// Runs until it is aborted, which ends all peer tasks as well.
pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut news = cluster.subscribe();
    let mut tasks = JoinSet::new();
    let mut running: BTreeMap<PeerKey, AbortHandle> = BTreeMap::new();
    loop {
        let view = news.borrow_and_update().clone();
        running.retain(|key, task| {
            let known = view.nodes.iter().any(|node| node.key == *key);
            if !known {
                task.abort();
            }
            known
        });
        for node in &view.nodes {
            running.entry(node.key).or_insert_with(|| {
                tasks.spawn(peer::run(
                    Arc::clone(&cluster),
                    node.key,
                    Arc::clone(&node.addr),
                ))
            });
        }
        drop(view);
        while tasks.try_join_next().is_some() {}
        if news.changed().await.is_err() {
            return;
        }
    }
}
