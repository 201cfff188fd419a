//! Notices that the log's disk hangs, and makes room for a node whose disk does not.
//!
//! A disk that fails says so, and the log stops. One that hangs says nothing: a sync does not end. A primary then commits nothing more of its
//! own, since what it writes has to be on its own disk, too; heartbeats go on, so that nobody else takes over by himself. So it hands
//! leadership over, is not elected while its disk hangs, and does not let itself be made the leader either.
//!
//! The task is [`run`], which [`Cluster::shutdown`] joins. It only looks, and calls Raft: it waits for no disk itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

use super::Cluster;
use super::better_off;
use crate::lasting::Lasting;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(250);
/// No batch of the log takes as long on a disk that works, however busy: see the bytes of a batch.
const HANGS_AFTER: Duration = Duration::from_secs(3);
/// Between two tries to hand leadership over.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// What is said of a node whose log hangs.
pub const DISK_HANGS: &str =
    "the disk of this node's log hangs: a write does not end; look at the disk";

pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut stopping = cluster.stopping.subscribe();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut writing = Lasting::default();
    let mut next_try = Instant::now();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = tick.tick() => {}
        }
        let now = Instant::now();
        let lasts = writing.look(cluster.shared().log.writing(), now.into_std());
        let hangs = lasts >= HANGS_AFTER;
        note(&cluster, hangs);
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::HangingDiskLeads) {
            continue;
        }
        // Whatever its role: one that was elected and cannot commit its first entry has none, and keeps the others from an election.
        if hangs && now >= next_try && cluster.raft().is_leader() {
            next_try = now + TRY_AGAIN;
            better_off::make_room(&cluster, 0, DISK_HANGS).await;
        }
    }
}

/// Says when it begins and ends, and keeps the node from leading in between.
fn note(cluster: &Cluster, hangs: bool) {
    if cluster.disk_hangs.send_replace(hangs) == hangs {
        return;
    }
    cluster.raft().runtime_config().elect(!hangs);
    let node = cluster.identity().node_id;
    if hangs {
        metrics::counter!("halite_log_disk_hung_total").increment(1);
        warn!(node, "{}", DISK_HANGS);
    } else {
        info!(node, "the disk of the log answers again");
    }
}

impl Cluster {
    /// The log's disk has not answered for seconds.
    pub(crate) fn disk_hangs(&self) -> bool {
        *self.disk_hangs.borrow()
    }
}
