//! Who this node is in the cluster at the moment, and what follows from it.
//!
//! On losing leadership or its lease, in this order: strong reads and writes stop, the gates are shut, the lanes closed. On
//! winning: an entry of the new term is committed and everything before it applied, then the lanes open.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use halite_log::TypeConfig;
use halite_proto::v1;
use openraft::metrics::RaftMetrics;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Cluster;
use super::removal::Removal;
use super::unconfirmed::Unconfirmed;

/// What people are told of a node that was removed.
pub(super) const REMOVED: &str = "this node was removed from the cluster and serves nothing: stop it; to add it again, run `halite set-aside DATA_DIR` first";

type Metrics = RaftMetrics<TypeConfig>;

/// The part of the cluster's state that routing depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Lanes are open under this term.
    Primary {
        term: u64,
    },
    Follower,
    Learner,
    Candidate,
    /// No member of a cluster yet, as far as it knows.
    Joining,
    Removed,
    /// Takes no part: [`Identity::stopped`](super::identity::Identity::stopped) says why.
    Stopped,
}

impl Role {
    /// It serves nobody, and what it knows of the cluster grows old.
    pub(crate) fn takes_no_part(&self) -> bool {
        matches!(self, Self::Removed | Self::Stopped)
    }

    pub(crate) fn to_wire(self) -> v1::Role {
        match self {
            Self::Primary { .. } => v1::Role::Primary,
            Self::Follower => v1::Role::Follower,
            Self::Learner => v1::Role::Learner,
            Self::Candidate => v1::Role::Candidate,
            Self::Joining => v1::Role::Joining,
            Self::Removed => v1::Role::Removed,
            Self::Stopped => v1::Role::Stopped,
        }
    }
}

/// What Raft's state says this node should be; `None`: others are members, and it is not. `quorum_age` is how long ago the last message was sent
/// that a quorum has answered.
fn desired(metrics: &Metrics, quorum_age: Option<Duration>, lease: Duration) -> Option<Role> {
    let membership = metrics.membership_config.membership();
    let member = membership.get_node(&metrics.id).is_some();
    let any_member = membership.nodes().next().is_some();
    if !any_member {
        return Some(Role::Joining);
    }
    if !member {
        return None;
    }
    Some(match metrics.state {
        ServerState::Leader => {
            let alone = membership.voter_ids().all(|id| id == metrics.id);
            #[cfg(feature = "planted-bugs")]
            let alone = alone || halite_planted::on(halite_planted::Bug::StalePrimaryReads);
            if alone || quorum_age.is_some_and(|age| age <= lease) {
                Role::Primary {
                    term: metrics.current_term,
                }
            } else {
                Role::Follower
            }
        }
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        _ => Role::Follower,
    })
}

/// What proposals go by: whether Raft takes them in.
fn note_quorum(cluster: &Cluster, now: &Metrics, quorum_age: Option<Duration>) {
    let mut voters = now.membership_config.membership().voter_ids();
    let silent_for = match voters.all(|id| id == now.id) {
        true => Some(Duration::ZERO),
        false => quorum_age,
    };
    let lease = Duration::from_millis(cluster.timing().election_max_ms);
    let proposer = &cluster.shared().opener.proposer;
    proposer.note_quorum(silent_for, cluster.host().now(), lease);
}

/// Runs until Raft stops.
pub(crate) async fn watch_role(cluster: Arc<Cluster>) {
    let role = cluster.shared().role.clone();
    let mut server = cluster.raft().server_metrics();
    let mut check = tokio::time::interval(cluster.timing().look);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut unconfirmed, mut looked) = (Unconfirmed::default(), Instant::now());
    let mut removal = Removal::default();
    loop {
        let over = tokio::select! {
            changed = super::server_changed(&mut server) => changed.is_err(),
            _ = check.tick() => false,
        };
        let now = cluster.metrics();
        // Also when all that is heard of the failure is that nothing will change any more. And when the log has failed where Raft does not
        // write: a follower that waits for a snapshot might not write for ever.
        if over || now.running_state.is_err() || cluster.shared().log.failure().is_some() {
            break;
        }
        cluster
            .known_term
            .store(now.current_term, Ordering::Relaxed);
        let quorum_age = now.last_quorum_acked.map(|at| at.elapsed());
        let lease = cluster.timing().lease;
        note_quorum(&cluster, &now, quorum_age);
        let by_raft = desired(&now, quorum_age, lease);
        let mut wanted = removal.judge(by_raft, cluster.signs_of_removal());
        let confirmed = !now.state.is_leader() || matches!(wanted, Role::Primary { .. });
        let elapsed = std::mem::replace(&mut looked, Instant::now()).elapsed();
        if unconfirmed.note(now.current_term, confirmed, elapsed, lease) {
            cluster.give_way().await;
        }
        cluster.note_standing(&now);
        // A quorum that follows this node knows better than a peer that refuses it.
        if cluster.identity().is_removed() && !matches!(wanted, Role::Primary { .. }) {
            wanted = Role::Removed;
        }
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::OldRemovalStands)
            && cluster.identity().was_told_removed()
        {
            wanted = Role::Removed;
        }
        cluster.judge_claim();
        if cluster.identity().stopped().is_some() {
            wanted = Role::Stopped;
        }
        if removal.is_news(wanted) {
            warn!(node = cluster.identity().node_id, "{REMOVED}");
        }
        cluster.end_overdue_transfer().await;
        let current = *role.borrow();
        if wanted == current {
            if let Role::Primary { term } = current {
                open_lanes_again(&cluster, term);
            }
            continue;
        }
        if let Role::Primary { .. } = current {
            step_down(&cluster, &role, wanted).await;
        }
        match wanted {
            Role::Primary { term } => step_up(&cluster, &role, term).await,
            other => {
                role.send_replace(other);
            }
        }
    }
    let why = match (
        &cluster.metrics().running_state,
        cluster.shared().log.failure(),
    ) {
        (Err(fatal), _) => fatal.to_string(),
        (Ok(()), Some(failed)) => failed,
        (Ok(()), None) => "raft has stopped".to_owned(),
    };
    cluster.failure.send_replace(Some(why));
    let last = *role.borrow();
    if let Role::Primary { .. } = last {
        step_down(&cluster, &role, Role::Follower).await;
    }
}

async fn step_down(cluster: &Cluster, role: &watch::Sender<Role>, to: Role) {
    // No strong read and no write is taken in from here on.
    role.send_replace(if matches!(to, Role::Primary { .. }) {
        Role::Follower
    } else {
        to
    });
    #[cfg(feature = "planted-bugs")]
    if halite_planted::on(halite_planted::Bug::GateTakesAnyEntry) {
        return;
    }
    let closing: Vec<_> = cluster
        .shared()
        .all_databases()
        .iter()
        .map(|d| d.close_lane(cluster.other_primary()))
        .collect();
    for closed in closing {
        // A database that has stopped has no lane left either.
        let _ = closed.await;
    }
    info!(node = cluster.identity().node_id, "no longer primary");
}

async fn step_up(cluster: &Cluster, role: &watch::Sender<Role>, term: u64) {
    // Whatever this or an earlier primary left in the log is applied before a lane can build on it.
    let blank =
        tokio::time::timeout(cluster.election_timeout(), cluster.raft().write_blank()).await;
    match blank {
        Ok(Ok(response)) if response.log_id.committed_leader_id().term == term => {}
        Ok(Ok(_)) | Err(_) => return,
        Ok(Err(error)) => {
            warn!(term, %error, "elected, but the first entry was not committed");
            return;
        }
    }
    let leadership = cluster.shared().leadership(term);
    // Announced first: a database that is created meanwhile opens its own lane.
    role.send_replace(Role::Primary { term });
    for database in cluster.shared().all_databases() {
        database.open_lane(leadership);
    }
    metrics::counter!("halite_became_primary_total").increment(1);
    info!(node = cluster.identity().node_id, term, "primary");
}

/// A database that could not write gives up its lane. Where no other node was better off, this one is still primary when it can write again.
fn open_lanes_again(cluster: &Cluster, term: u64) {
    for database in cluster.shared().all_databases() {
        if database.wants_lane() {
            info!(database = %database.spec().name, "taking writes again");
            database.open_lane(cluster.shared().leadership(term));
        }
    }
}
