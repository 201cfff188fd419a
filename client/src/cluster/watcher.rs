//! Follows the topology: the stream of one healthy node, and quick polls of all nodes while there is no primary to talk to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use halite_proto::v1 as wire;
use halite_proto::v1::halite_client::HaliteClient;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::codec::Streaming;

use super::news::Source;
use super::{Cluster, PeerKey};
use crate::backoff::Backoff;
use crate::link::Link;

/// Pace of the polls at first: this is what the client adds to a takeover at most.
const POLL_PACE: Duration = Duration::from_millis(15);
/// After this long without a primary the cluster has other troubles, and polls slow down ...
const POLL_FAST_FOR: Duration = Duration::from_secs(5);
/// ... to this pace.
const POLL_PACE_SLOW: Duration = Duration::from_millis(200);
const POLL_TIMEOUT: Duration = Duration::from_millis(250);
const WATCH_BACKOFF_FIRST: Duration = Duration::from_millis(10);
const WATCH_BACKOFF_CAP: Duration = Duration::from_millis(500);

/// Runs until it is aborted.
pub(crate) async fn run(cluster: Arc<Cluster>) {
    tokio::join!(watch(&cluster), poll(&cluster));
}

/// Reads the topology stream of one node until it breaks, then of another.
async fn watch(cluster: &Cluster) {
    let mut backoff = Backoff::new(WATCH_BACKOFF_FIRST, WATCH_BACKOFF_CAP);
    let mut last = None;
    loop {
        let Some((key, link)) = choose(cluster, last) else {
            let mut news = cluster.subscribe();
            // Nobody is connected: wait until somebody is.
            if news
                .wait_for(|view| view.links().next().is_some())
                .await
                .is_err()
            {
                return;
            }
            continue;
        };
        last = Some(key);
        if let Ok(stream) = open(cluster, &link).await {
            let started = Instant::now();
            follow(cluster, key, stream).await;
            if started.elapsed() > WATCH_BACKOFF_CAP {
                backoff.reset();
            }
        }
        sleep(backoff.next(cluster.random.next())).await;
    }
}

/// A member other than the one that just failed, and rather not the primary: its death is the news that matters most.
fn choose(cluster: &Cluster, last: Option<PeerKey>) -> Option<(PeerKey, Arc<Link>)> {
    let view = cluster.view();
    let primary = view.primary.map(|index| view.nodes[index].key);
    let random = cluster.random.next() as usize;
    let mut nodes: Vec<_> = view.links().collect();
    if nodes.is_empty() {
        return None;
    }
    let count = nodes.len();
    nodes.rotate_left(random % count);
    nodes
        .into_iter()
        .min_by_key(|(node, _)| {
            (
                Some(node.key) == last,
                !node.member,
                Some(node.key) == primary,
            )
        })
        .map(|(node, link)| (node.key, Arc::clone(link)))
}

async fn open(cluster: &Cluster, link: &Link) -> Result<Streaming<wire::Topology>, ()> {
    let mut node = HaliteClient::new(link.channel());
    match timeout(
        cluster.options.connect_timeout,
        node.watch_topology(wire::WatchTopologyRequest {}),
    )
    .await
    {
        Ok(Ok(stream)) => Ok(stream.into_inner()),
        Ok(Err(status)) => {
            tracing::debug!(%status, "cannot watch the topology");
            Err(())
        }
        Err(_) => Err(()),
    }
}

async fn follow(cluster: &Cluster, key: PeerKey, mut stream: Streaming<wire::Topology>) {
    while let Ok(Some(topology)) = stream.message().await {
        cluster.told(key, &topology, Source::Watch);
    }
}

/// Asks everybody while the primary is unknown or not connected, and once whenever a call has reason for doubt.
async fn poll(cluster: &Cluster) {
    let mut news = cluster.subscribe();
    loop {
        tokio::select! {
            lost = news.wait_for(|view| view.primary.is_none() && view.links().next().is_some()) => {
                if lost.is_err() {
                    return;
                }
            }
            () = cluster.doubt.notified() => {}
        }
        ask_until_known(cluster).await;
    }
}

/// A question to each node that has answered its last one, every [`POLL_PACE`]: a node that hangs does not slow the others down.
async fn ask_until_known(cluster: &Cluster) {
    let started = Instant::now();
    let mut answers = FuturesUnordered::new();
    let mut asked = BTreeSet::new();
    loop {
        let begun = Instant::now();
        for (node, link) in cluster.view().links() {
            if asked.insert(node.key) {
                answers.push(ask(node.key, Arc::clone(link)));
            }
        }
        let fast = started.elapsed() < POLL_FAST_FOR;
        let round_end = sleep_until(begun + if fast { POLL_PACE } else { POLL_PACE_SLOW });
        tokio::pin!(round_end);
        loop {
            tokio::select! {
                Some((key, topology)) = answers.next() => {
                    asked.remove(&key);
                    if let Some(topology) = topology {
                        cluster.told(key, &topology, Source::Poll);
                    }
                }
                () = &mut round_end => break,
            }
        }
        let view = cluster.view();
        if view.primary.is_some() || view.links().next().is_none() {
            return;
        }
    }
}

async fn ask(key: PeerKey, link: Arc<Link>) -> (PeerKey, Option<wire::Topology>) {
    let mut node = HaliteClient::new(link.channel());
    let answer = timeout(POLL_TIMEOUT, node.status(wire::StatusRequest {})).await;
    let topology = answer
        .ok()
        .and_then(Result::ok)
        .and_then(|status| status.into_inner().topology);
    (key, topology)
}
