//! Keeps one node connected: connect, ask who it is, open the pipelined stream, read it until it breaks, back off, again.

use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1 as wire;
use halite_proto::v1::halite_client::HaliteClient;
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};

use super::Cluster;
use super::state::PeerKey;
use crate::backoff::Backoff;
use crate::link::{Inbound, Link, describe};

const WINDOW_BYTES: u32 = 8 << 20;
/// A node that is silent this long is asked whether it lives ...
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);
/// ... and given up if it does not answer within this time.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_CAP: Duration = Duration::from_millis(500);
/// A connection that lasted this long was a good one: the next loss starts with a short delay again.
const GOOD_AFTER: Duration = Duration::from_secs(1);

/// Runs until it is aborted.
pub(crate) async fn run(cluster: Arc<Cluster>, key: PeerKey, addr: Arc<str>) {
    let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_CAP);
    loop {
        let started = Instant::now();
        match connect(&cluster, &addr).await {
            Ok((link, inbound, status)) => match cluster.link_up(key, &link, &status) {
                Ok(()) => {
                    let why = link.run(inbound).await;
                    tracing::debug!(addr = &*addr, reason = &*why, "connection lost");
                    cluster.link_down(key, why);
                }
                // What it said of its cluster stays known.
                Err(why) => link.close(&why),
            },
            Err(why) => cluster.link_down(key, why),
        }
        if started.elapsed() >= GOOD_AFTER {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next(cluster.random.next())).await;
    }
}

async fn connect(
    cluster: &Cluster,
    addr: &str,
) -> Result<(Arc<Link>, Inbound, wire::StatusResponse), Arc<str>> {
    let limit = cluster.options.connect_timeout;
    let connecting = async {
        let channel = connect_channel(cluster, addr).await?;
        let mut node = HaliteClient::new(channel.clone());
        let opening = Link::open(
            channel,
            cluster.client_id.clone(),
            cluster.options.result_bytes_max,
            Arc::clone(&cluster.ledger),
            Arc::clone(&cluster.stats),
        );
        let (status, opened) = tokio::join!(node.status(wire::StatusRequest {}), opening);
        let close_on_error = |status: tonic::Status| Arc::<str>::from(describe(&status));
        match (status, opened) {
            (Ok(status), Ok((link, inbound))) => Ok((link, inbound, status.into_inner())),
            (Err(status), Ok((link, _))) => {
                let why = close_on_error(status);
                link.close(&why);
                Err(why)
            }
            (_, Err(status)) => Err(close_on_error(status)),
        }
    };
    timeout(limit, connecting).await.unwrap_or_else(|_| {
        Err(format!("no answer in time: timeout_ms={}", limit.as_millis()).into())
    })
}

/// An HTTP/2 connection that notices within 1.5 s that the other side is gone.
pub(crate) async fn connect_channel(cluster: &Cluster, addr: &str) -> Result<Channel, Arc<str>> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .map_err(|error| Arc::<str>::from(format!("address is not host:port: {error}")))?
        .connect_timeout(cluster.options.connect_timeout)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    endpoint
        .connect_with_connector(cluster.connector.clone())
        .await
        .map_err(|error| root_cause(&error).into())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
