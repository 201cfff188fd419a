//! Notices that nothing more is committed though the others hear this leader, and makes room for one from whom they take more than that.
//!
//! Heartbeats are small and wait for nothing; what is written comes in large pieces. A network that loses large packets and lets small ones pass,
//! as one does whose MTU is wrong somewhere, leaves a leader that nobody unseats and whose writes never end. No timeout of Raft finds that: each
//! of them watches whether nodes hear each other.
//!
//! The task is [`run`], which [`Cluster::shutdown`] joins. It only looks, and calls Raft: it waits for nothing that is written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

use super::Cluster;
use super::better_off;
use crate::lasting::Lasting;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(500);
/// No piece of the log takes as long over a network on which a cluster can live.
const STANDS_AFTER: Duration = Duration::from_secs(10);
/// From one try to make room to the next, at first and at most: where it does not help, leadership is not to wander for ever.
const PAUSE: Duration = STANDS_AFTER;
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// What is said of a leader whose entries nobody takes.
const STANDS: &str = "no majority takes what this node writes, though the others hear it: look at the network between the nodes \
                      (large packets may be lost where small ones pass) and at their disks";

pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut stopping = cluster.stopping.subscribe();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut standing = Lasting::default();
    let mut tries = Tries::default();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = tick.tick() => {}
        }
        let now = Instant::now();
        let at = stands_at(&cluster);
        let stands = standing.look(at, now.into_std()) >= STANDS_AFTER;
        if cluster.commits_stand.swap(stands, Ordering::Relaxed) != stands && stands {
            metrics::counter!("halite_commits_stood_total").increment(1);
            warn!(committed = at, "{STANDS}");
        }
        if stands && tries.may_try(now) {
            better_off::make_room(&cluster, at.unwrap_or(0), STANDS).await;
        }
    }
}

/// Where the commits of a leader are that has more in its log.
fn stands_at(cluster: &Cluster) -> Option<u64> {
    let metrics = cluster.raft().metrics();
    let metrics = metrics.borrow_watched();
    let committed = metrics
        .cluster_committed
        .as_ref()
        .map_or(0, |id| id.index());
    let has_more = metrics.last_log_index.is_some_and(|last| last > committed);
    (metrics.state.is_leader() && has_more).then_some(committed)
}

/// When room is made again. Pure.
#[derive(Debug, Default)]
struct Tries {
    /// The last one, and how long it holds for.
    last: Option<(Instant, Duration)>,
}

impl Tries {
    /// Each pause is twice the one before, until there has been none to make for long.
    fn may_try(&mut self, now: Instant) -> bool {
        let pause = match self.last {
            Some((at, pause)) if now < at + pause => return false,
            Some((at, pause)) if now < at + pause + PAUSE_MAX => (pause * 2).min(PAUSE_MAX),
            _ => PAUSE,
        };
        self.last = Some((now, pause));
        true
    }
}

impl Cluster {
    /// Why nothing of what this node writes is kept, if that is known.
    pub(crate) fn standstill(&self) -> Option<&'static str> {
        let stands = self.commits_stand.load(Ordering::Relaxed);
        match self.disk_hangs() {
            // Nothing is applied that is not in the log on this disk.
            true => Some(super::DISK_HANGS),
            false => stands.then_some(STANDS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_more_and_more_rarely() {
        let mut tries = Tries::default();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let made: Vec<u64> = (0..400).filter(|s| tries.may_try(at(*s))).collect();
        assert_eq!(made, [0, 10, 30, 70, 150, 310]);
        // After a long time without it begins anew.
        assert!(tries.may_try(at(5_000)));
        assert!(!tries.may_try(at(5_009)));
        assert!(tries.may_try(at(5_010)));
    }
}
