//! openraft's snapshot: the catalog, and for each database the pages that the receiver lacks.
//!
//! Nothing is copied when a snapshot is "built": the databases are the snapshot. A receiver pulls each by page diff into a
//! staging file; the state machine installs them. What is pulled may be newer than the snapshot's metadata says, because
//! appliers skip what is at or below a database's TXID. What it must not do is end inside a transaction: its chunks would be
//! below the log of the receiver, and the entry that closes it above.

use std::sync::Arc;

use halite_log::TypeConfig;
use halite_proto::v1;
use openraft::RaftSnapshotBuilder;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};

use super::catalog::{Catalog, Point};
use super::error::ClusterError;
use super::state_machine::Shared;
use crate::database::{Database, Host, blocking};

/// One database, pulled and not yet installed. The file goes with it.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) database_id: u64,
    pub(crate) ltx: tempfile::TempPath,
    pub(crate) state: v1::DatabaseState,
}

impl Staged {
    /// Brings `database` to the state that was pulled.
    pub(crate) async fn install(
        self,
        database: &Database,
        host: &Arc<dyn Host>,
    ) -> Result<(), ClusterError> {
        let path = self.ltx;
        let opened = blocking(host, move || {
            std::fs::File::open(&path).map(|file| (file, path))
        });
        let (file, path) = opened
            .await
            .map_err(|e| ClusterError::internal(e.to_string()))?
            .map_err(|e| ClusterError::internal(format!("staging file: {e}")))?;
        let installed = database
            .install(Box::new(std::io::BufReader::new(file)), self.state)
            .await;
        drop(path);
        installed
            .map_err(|_| ClusterError::unavailable("the database is being closed".into()))?
            .map(drop)
            .map_err(|e| ClusterError::unavailable(e.to_string()))
    }
}

/// What a snapshot carries: at the sender only the catalog, at the receiver also what was pulled.
#[derive(Debug, Default)]
pub(crate) struct SnapshotData {
    pub(crate) catalog: v1::Catalog,
    pub(crate) staged: Vec<Staged>,
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
            staged: Vec::new(),
        },
    }
}
