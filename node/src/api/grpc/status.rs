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
use crate::cluster::role::Role;

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
        level: cluster.identity().level.cluster().get(),
        level_min: cluster.identity().level.ours().min.get(),
        level_max: cluster.identity().level.ours().max.get(),
        uptime_ms: u64::try_from(cluster.uptime().as_millis()).unwrap_or(u64::MAX),
        trouble: cluster.takes_no_part().unwrap_or_default(),
        notice: cluster.notice().unwrap_or_default(),
        log_hangs: cluster.disk_hangs(),
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
    let (archived_txid, archive_urls) = archives(cluster, shut.id);
    v1::DatabaseStatus {
        archived_txid,
        archive_urls,
        name: shut.name,
        checksum: Checksum::EMPTY.to_string(),
        page_size: shut.page_size,
        trouble: shut
            .trouble
            .map_or_else(String::new, |why| format!("cannot be opened: {why}")),
        ..v1::DatabaseStatus::default()
    }
}

/// Up to which transaction all archives of a database hold it, 0 without one, and where they are.
fn archives(cluster: &Cluster, database_id: u64) -> (u64, Vec<String>) {
    let catalog = cluster.shared().catalog.lock();
    let (urls, txids): (Vec<_>, Vec<_>) = catalog
        .archives_of(database_id)
        .map(|(url, at)| (url.to_owned(), at.txid))
        .unzip();
    (txids.into_iter().min().unwrap_or(0), urls)
}

fn database_status(cluster: &Cluster, database: &crate::database::Database) -> v1::DatabaseStatus {
    let status = database.status();
    let id = database.spec().id.get();
    let (archived_txid, archive_urls) = archives(cluster, id);
    let standstill = cluster.standstill();
    v1::DatabaseStatus {
        name: database.spec().name.clone(),
        txid: status.applied.position.txid.get(),
        checksum: status.applied.position.checksum.to_string(),
        page_size: database.spec().page_size.get(),
        page_count: status.applied.page_count,
        trouble: standstill
            .unwrap_or_else(|| status.health.trouble())
            .to_owned(),
        trouble_is_of_node: standstill.is_some(),
        notice: cluster
            .removed_files(&database.spec().name)
            .unwrap_or_default(),
        needs_repair: status.health.needs_repair(),
        archived_txid,
        archive_trouble: cluster.archive_troubles().told(id),
        archive_urls,
        wal_bytes: status.wal_bytes,
    }
}

/// The topology now, and again whenever it changes. It ends when this node takes no part any more: what it knows grows old then.
pub(super) fn watch_topology(
    cluster: Arc<Cluster>,
) -> impl Stream<Item = Result<v1::Topology, Status>> {
    let server = cluster.watch_server();
    let role = cluster.watch_role();
    futures::stream::unfold(
        (cluster, server, role, None),
        |(cluster, mut server, mut role, mut last)| async move {
            loop {
                server.borrow_and_update();
                let now = cluster.topology();
                if last.as_ref() != Some(&now) {
                    last = Some(now.clone());
                    return Some((Ok(now), (cluster, server, role, last)));
                }
                tokio::select! {
                    changed = server.changed() => changed.ok()?,
                    _ = role.wait_for(Role::takes_no_part) => return None,
                }
            }
        },
    )
}
