//! Databases in trouble: their pages are pulled from another node, and a primary that has some makes room for a voter that has fewer. And pages that
//! were pulled and are of no use any more are removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::better_off::{self, Troubles};
use super::{Cluster, page_diff};
use crate::database::{Database, Health};

const EVERY: Duration = Duration::from_millis(200);
/// A primary with less room than this on its disk makes room for another, before writes fail for it.
const ROOM_BYTES_MIN: u64 = 16 << 20;
/// Where the whole disk is small, this part of it.
const ROOM_PART_MIN: u64 = 10;
/// Where no node is better off, leadership must not go round and round.
const HAND_OVER_EVERY: Duration = Duration::from_secs(5);
/// Where the primary has nothing to give, its disk and this one's are not to be read all the time.
const PULL_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut stopping = cluster.stopping.subscribe();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut next_hand_over, mut next_pull) = (Instant::now(), Instant::now());
    let mut given_up = BTreeSet::new();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = tick.tick() => {}
        }
        page_diff::drop_unasked(&cluster).await;
        let full =
            no_room(&cluster).map(|free| format!("the disk is almost full: free_bytes={free}"));
        let (mut troubles, mut pulled) = (Troubles::default(), false);
        let mut reasons = Vec::new();
        for shut in cluster.shared().databases.shut() {
            if let Some(why) = shut.trouble {
                reasons.push(format!("database {}: {why}", shut.name));
                troubles.databases.insert(shut.name);
            }
        }
        for database in cluster.shared().all_databases() {
            let name = &database.spec().name;
            let health = database.status().health;
            match &health {
                Health::Fine => continue,
                Health::NeedsRepair { why, .. } | Health::Parked { why, .. }
                    if !cluster.raft().is_leader() =>
                {
                    if Instant::now() >= next_pull {
                        repair(&cluster, database.clone(), why).await;
                        pulled = true;
                    }
                    continue;
                }
                // A primary that cannot write, or has nobody to pull pages from, makes room for one that is sound.
                Health::Behind { .. } => {}
                Health::NeedsRepair { .. } | Health::Parked { .. } => {
                    troubles.to_pull.insert(name.clone());
                }
            }
            reasons.push(format!("database {name}: {}", health.trouble()));
            troubles.databases.insert(name.clone());
        }
        if pulled {
            next_pull = Instant::now() + PULL_EVERY;
        }
        if (full.is_none() && reasons.is_empty())
            || !cluster.raft().is_leader()
            || Instant::now() < next_hand_over
        {
            continue;
        }
        next_hand_over = Instant::now() + HAND_OVER_EVERY;
        if let Some(reason) = full {
            warn!(reason, "handing leadership over");
            cluster.hand_over().await;
        } else if let Some(to) = better_off::who(&cluster, &troubles, 0).await {
            warn!(reason = reasons.join("; "), to, "handing leadership over");
            if let Err(error) = cluster.transfer_leadership(Some(to)).await {
                warn!(%error, "leadership not handed over");
            }
        } else if troubles.to_pull != given_up {
            for database in troubles.to_pull.difference(&given_up) {
                warn!(
                    database,
                    "no voter that answers has a sound copy; where none is left, run `halite db repair {database} --keep-log` or `--keep-file`"
                );
            }
            given_up = troubles.to_pull;
        }
    }
}

/// The bytes that are left, when they are too few. A system that does not tell has room.
pub(super) fn no_room(cluster: &Cluster) -> Option<u64> {
    let disk = rustix::fs::statvfs(cluster.data_dir()).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let all = disk.f_blocks.saturating_mul(disk.f_frsize);
    (free < ROOM_BYTES_MIN.min(all / ROOM_PART_MIN)).then_some(free)
}

async fn repair(cluster: &Arc<Cluster>, database: Arc<Database>, why: &str) {
    let Some(primary) = cluster.other_primary() else {
        return;
    };
    warn!(database = %database.spec().name, why, from = primary.node_id, "repairing by page diff");
    match page_diff::bring(cluster, primary.node_id, &primary.addr, &database).await {
        Ok(()) => info!(database = %database.spec().name, "repaired"),
        Err(status) => {
            warn!(database = %database.spec().name, error = status.message(), "repair failed, trying again")
        }
    }
}
