//! openraft's snapshot: the catalog, and for each database the pages that the receiver lacks.
//!
//! Nothing is copied when a snapshot is "built": the databases are the snapshot. A receiver pulls one after the other by page diff and puts it
//! in; Raft is told when all are in ([`take_in`]). So an attempt that breaks off keeps every database that it has put in, and the next one finds
//! little that differs. What is pulled may be newer than the snapshot's metadata says, because appliers skip what is at or below a database's
//! TXID. What it must not do is end inside a transaction: its chunks would be below the log of the receiver, and the entry that closes it above.
//!
//! Between two attempts, and while one is under way, some databases are ahead of the applied index and others are not. That is nothing a reader
//! could take for the state at an index: each database has its own, the answer to a read names the newest one it has shown (so a session
//! goes on only where all of that is applied), and a read that asks for an index waits until the node has applied it, in all databases.

use std::sync::Arc;

use halite_log::TypeConfig;
use halite_proto::v1;
use openraft::RaftSnapshotBuilder;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use tonic::Status;
use tracing::warn;

use super::catalog::{Catalog, Point};
use super::state_machine::Shared;
use super::{Cluster, databases, opener, page_diff, repair};
use crate::database::Database;

/// What a snapshot carries. The receiver has put the pages into its databases before Raft hears of it.
#[derive(Debug, Default)]
pub(crate) struct SnapshotData {
    pub(crate) catalog: v1::Catalog,
}

/// Takes the catalog at the moment it is asked.
pub(crate) struct SnapshotBuilder {
    pub(crate) shared: Arc<Shared>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(
        &mut self,
    ) -> Result<SnapshotOf<TypeConfig, SnapshotData>, std::io::Error> {
        Ok(of_catalog(&self.shared.catalog.lock()))
    }
}

pub(crate) fn of_catalog(catalog: &Catalog) -> SnapshotOf<TypeConfig, SnapshotData> {
    let Point {
        applied,
        membership,
    } = catalog.whole().clone();
    let meta: SnapshotMetaOf<TypeConfig> = openraft::SnapshotMeta {
        last_log_id: applied,
        last_membership: membership,
    };
    SnapshotOf::<TypeConfig, SnapshotData> {
        meta,
        snapshot: SnapshotData {
            catalog: catalog.to_wire(),
        },
    }
}

/// Brings every database of an offered snapshot to what the node at `addr` has of it, in its file, one after the other. Afterwards Raft may
/// take the snapshot, and let go of the log that it covers.
///
/// A database that cannot be opened here is passed over: it finds out by itself what it lacks, and holds nobody up.
///
/// # Errors
/// Why the attempt broke off. Databases that were put in before stay.
pub(crate) async fn take_in(
    cluster: &Arc<Cluster>,
    from: u64,
    addr: &str,
    catalog: &Catalog,
) -> Result<(), Status> {
    for offered in catalog.databases() {
        let Some(database) = databases::welcome(cluster.shared(), offered).await else {
            // Nothing opens on a full disk, and a node that left out everything would count as one that has it.
            if let Some(free) = repair::no_room(cluster) {
                return Err(Status::unavailable(format!(
                    "the disk is almost full: free_bytes={free}"
                )));
            }
            warn!(database = %offered.name, id = offered.id, "a database of the snapshot is not open here, and is left out");
            continue;
        };
        let newest = offered.newest.map(|newest| newest.position);
        let has_it = database.is_fine() && newest == Some(database.status().applied.position);
        if has_it {
            page_diff::forget(cluster, offered.id).await;
        } else {
            page_diff::bring(cluster, from, addr, &database).await?;
        }
        save(cluster.shared(), &database).await?;
    }
    Ok(())
}

/// The log that a snapshot covers is gone with it: what only the write-ahead log of a database has must be in its file before.
async fn save(shared: &Shared, database: &Database) -> Result<(), Status> {
    let done = shared
        .opener
        .checkpoint(database.spec().id.get(), opener::DONE)
        .map_err(|error| Status::internal(error.to_string()))?;
    let done = done.map_or(0, |done| done.raft_index);
    if done >= database.status().applied.raft_index {
        return Ok(());
    }
    let stopping = |_| Status::unavailable("the database is being closed");
    let saved = database.checkpoint().await.map_err(stopping)?;
    saved.map_err(|error| halite_proto::error_detail::to_status(&error))
}
