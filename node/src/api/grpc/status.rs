//! What a node says of itself and of the cluster.

use std::sync::Arc;

use futures::Stream;
use halite_log::LogId;
use halite_proto::v1;
use openraft::async_runtime::WatchReceiver as _;
use tonic::Status;

use crate::cluster::Cluster;

pub(crate) fn status(cluster: &Cluster) -> v1::StatusResponse {
    let metrics = cluster.metrics();
    let shared = cluster.shared();
    let databases = shared
        .all_databases()
        .iter()
        .map(|d| database_status(cluster, d))
        .collect();
    let index = |id: Option<&LogId>| id.map_or(0, LogId::index);
    let node = v1::NodeStatus {
        node_id: cluster.identity().node_id,
        addr: cluster.addr().to_owned(),
        name: cluster.node_name().to_owned(),
        role: cluster.role().to_wire().into(),
        term: metrics.current_term,
        last_log_index: metrics.last_log_index.unwrap_or(0),
        committed_index: index(metrics.local_committed.as_ref()),
        applied_index: cluster.applied_index(),
        lag_ms: cluster.lag().map_or(u64::MAX, |lag| {
            u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)
        }),
        databases,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_id: cluster
            .identity()
            .cluster_id()
            .as_deref()
            .unwrap_or_default()
            .to_owned(),
        cluster_name: cluster.identity().cluster_name.clone(),
        uptime_ms: u64::try_from(cluster.uptime().as_millis()).unwrap_or(u64::MAX),
    };
    v1::StatusResponse {
        node: Some(node),
        topology: Some(cluster.topology()),
    }
}

pub(super) fn database_status(
    cluster: &Cluster,
    database: &crate::database::Database,
) -> v1::DatabaseStatus {
    let status = database.status();
    let archived = cluster
        .shared()
        .catalog
        .lock()
        .archives_of(database.spec().id.get())
        .map(|(_, at)| at.txid)
        .min()
        .unwrap_or(0);
    v1::DatabaseStatus {
        name: database.spec().name.clone(),
        txid: status.applied.position.txid.get(),
        checksum: status.applied.position.checksum.to_string(),
        page_size: database.spec().page_size.get(),
        page_count: status.applied.page_count,
        trouble: status.health.trouble().to_owned(),
        archived_txid: archived,
        wal_bytes: status.wal_bytes,
    }
}

pub(super) fn watch_topology(
    cluster: Arc<Cluster>,
) -> impl Stream<Item = Result<v1::Topology, Status>> {
    let server = cluster.watch_server();
    futures::stream::unfold(
        (cluster, server, None),
        |(cluster, mut server, mut last)| async move {
            loop {
                server.borrow_and_update();
                let now = cluster.topology();
                if last.as_ref() != Some(&now) {
                    last = Some(now.clone());
                    return Some((Ok(now), (cluster, server, last)));
                }
                server.changed().await.ok()?;
            }
        },
    )
}
