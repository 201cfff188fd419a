//! What a node says of itself and of the cluster.

use std::sync::Arc;

use futures::Stream;
use halite_log::LogId;
use halite_ltx::Checksum;
use halite_proto::v1;
use openraft::async_runtime::WatchReceiver as _;
use tonic::Status;

use crate::cluster::Cluster;
use crate::cluster::databases::ShutDatabase;

pub(crate) fn status(cluster: &Cluster) -> v1::StatusResponse {
    let metrics = cluster.metrics();
    let databases = databases(cluster);
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
        trouble: cluster
            .identity()
            .stopped()
            .as_deref()
            .unwrap_or_default()
            .to_owned(),
    };
    v1::StatusResponse {
        node: Some(node),
        topology: Some(cluster.topology()),
    }
}

/// All of this node, by name where they stand: those that cannot be opened say why.
pub(super) fn databases(cluster: &Cluster) -> Vec<v1::DatabaseStatus> {
    let shared = cluster.shared();
    // In this order: one that opens in between is not told twice.
    let mut all: Vec<(u64, v1::DatabaseStatus)> = shared
        .all_databases()
        .iter()
        .map(|d| (d.spec().id.get(), database_status(cluster, d)))
        .collect();
    for shut in shared.databases.shut() {
        if all.iter().all(|(id, _)| *id != shut.id) {
            all.push((shut.id, shut_status(cluster, shut)));
        }
    }
    all.sort_by_key(|(id, _)| *id);
    all.into_iter().map(|(_, status)| status).collect()
}

fn shut_status(cluster: &Cluster, shut: ShutDatabase) -> v1::DatabaseStatus {
    v1::DatabaseStatus {
        archived_txid: archived(cluster, shut.id),
        name: shut.name,
        checksum: Checksum::EMPTY.to_string(),
        page_size: shut.page_size,
        trouble: shut
            .trouble
            .map_or_else(String::new, |why| format!("cannot be opened: {why}")),
        ..v1::DatabaseStatus::default()
    }
}

fn archived(cluster: &Cluster, database_id: u64) -> u64 {
    let catalog = cluster.shared().catalog.lock();
    let archived = catalog.archives_of(database_id).map(|(_, at)| at.txid);
    archived.min().unwrap_or(0)
}

fn database_status(cluster: &Cluster, database: &crate::database::Database) -> v1::DatabaseStatus {
    let status = database.status();
    v1::DatabaseStatus {
        name: database.spec().name.clone(),
        txid: status.applied.position.txid.get(),
        checksum: status.applied.position.checksum.to_string(),
        page_size: database.spec().page_size.get(),
        page_count: status.applied.page_count,
        trouble: status.health.trouble().to_owned(),
        archived_txid: archived(cluster, database.spec().id.get()),
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
