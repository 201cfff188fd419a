//! Databases in trouble: their pages are pulled from another node, and committed entries that could not be written make a primary
//! hand leadership over.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::{Cluster, page_diff};
use crate::database::{Database, Health};

const EVERY: Duration = Duration::from_millis(200);

pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut stopping = cluster.stopping.subscribe();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = tick.tick() => {}
        }
        for database in cluster.shared().all_databases() {
            match database.status().health {
                Health::Fine => {}
                Health::Behind { why } => {
                    if cluster.raft().is_leader() {
                        warn!(database = %database.spec().name, why, "cannot write here: handing leadership over");
                        cluster.hand_over().await;
                    }
                }
                Health::NeedsRepair { why, .. } => repair(&cluster, database, &why).await,
            }
        }
    }
}

async fn repair(cluster: &Arc<Cluster>, database: Arc<Database>, why: &str) {
    if cluster.raft().is_leader() {
        // A primary has nobody to ask: it makes room for one that is sound.
        cluster.hand_over().await;
        return;
    }
    let Some(primary) = cluster.other_primary() else {
        return;
    };
    warn!(database = %database.spec().name, why, from = primary.node_id, "repairing by page diff");
    let id = database.spec().id.get();
    let pulled = page_diff::pull(
        cluster,
        primary.node_id,
        &primary.addr,
        id,
        Some(database.clone()),
    )
    .await;
    let staged = match pulled {
        Ok(staged) => staged,
        Err(status) => {
            warn!(database = %database.spec().name, error = status.message(), "page diff failed, trying again");
            return;
        }
    };
    match staged.install(&database).await {
        Ok(()) => info!(database = %database.spec().name, "repaired"),
        Err(error) => {
            warn!(database = %database.spec().name, %error, "repair failed, trying again")
        }
    }
}
