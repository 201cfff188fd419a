//! Changing who belongs to the cluster, and moving leadership. On the primary only.
//!
//! A node is added as a learner, catches up, and is then made a voter. Its data directory is registered before it hears from the
//! cluster, and forgotten when it is removed, so that neither a stranger nor a removed node is ever listened to.

use std::collections::BTreeSet;
use std::time::Duration;

use halite_proto::v1;
use halite_proto::v1::command::Kind;
use openraft::ChangeMembers;
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::ClusterError;
use super::formation::{identify, member_of};
use super::identity::REMOVED;
use super::{Cluster, Metrics};

/// A learner further behind than this many entries is not promoted yet.
const PROMOTE_LAG_MAX: u64 = 1000;
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);

impl Cluster {
    pub(crate) async fn add_member(&self, node_id: u64, addr: &str) -> Result<(), ClusterError> {
        self.require_primary()?;
        if node_id == 0 {
            return Err(ClusterError::invalid("a node id is at least 1".into()));
        }
        let metrics = self.metrics();
        if let Some(known) = metrics.membership_config.membership().get_node(&node_id) {
            if known.addr == addr {
                return Ok(());
            }
            return Err(ClusterError::already_exists(format!(
                "node {node_id} is a member at {}: remove it first to change its address",
                known.addr
            )));
        }
        let answer = identify(self, node_id, addr).await.map_err(|s| {
            ClusterError::unavailable(format!("no node answers at {addr}: {}", s.message()))
        })?;
        self.check_candidate(node_id, addr, &answer)?;
        self.register(node_id, &answer.instance_id).await?;
        let added = self
            .raft()
            .add_learner(node_id, member_of(node_id, addr), false);
        change(added).await?;
        info!(node_id, addr, "member added as a learner");
        Ok(())
    }

    fn check_candidate(
        &self,
        node_id: u64,
        addr: &str,
        answer: &v1::IdentifyResponse,
    ) -> Result<(), ClusterError> {
        if answer.cluster_name != self.identity().cluster_name {
            return Err(ClusterError::fenced(format!(
                "the node at {addr} is configured for cluster {:?}, this is {:?}",
                answer.cluster_name,
                self.identity().cluster_name
            )));
        }
        if answer.node_id != node_id {
            return Err(ClusterError::invalid(format!(
                "the node at {addr} has node-id {}, not {node_id}",
                answer.node_id
            )));
        }
        let ours = self.identity().cluster_id();
        if answer.initialized && Some(answer.cluster_id.as_str()) != ours.as_deref() {
            return Err(ClusterError::fenced(format!(
                "the node at {addr} belongs to another cluster: give it an empty data directory"
            )));
        }
        if answer.initialized && self.identity().instance_of(node_id).as_deref() == Some(REMOVED) {
            return Err(ClusterError::fenced(format!(
                "the node at {addr} was removed from this cluster and holds old state: give it an empty data directory"
            )));
        }
        Ok(())
    }

    pub(crate) async fn register(
        &self,
        node_id: u64,
        instance_id: &str,
    ) -> Result<(), ClusterError> {
        let node = v1::RegisterNodeCommand {
            node_id,
            instance_id: instance_id.to_owned(),
        };
        self.command(Kind::RegisterNode(node)).await.map(drop)
    }

    pub(crate) async fn promote_member(&self, node_id: u64) -> Result<(), ClusterError> {
        self.require_primary()?;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        if membership.get_node(&node_id).is_none() {
            return Err(ClusterError::invalid(format!(
                "node {node_id} is not a member: add it first"
            )));
        }
        let mut voters: BTreeSet<u64> = membership.voter_ids().collect();
        if !voters.insert(node_id) {
            return Ok(());
        }
        let behind = behind(&metrics, node_id);
        if behind.is_none_or(|behind| behind > PROMOTE_LAG_MAX) {
            return Err(ClusterError::unavailable(match behind {
                Some(entries) => {
                    format!("node {node_id} is still {entries} entries behind: try again")
                }
                None => format!("node {node_id} has not answered yet: try again"),
            }));
        }
        change(self.raft().change_membership(voters, true)).await?;
        info!(node_id, "member promoted to voter");
        Ok(())
    }

    pub(crate) async fn remove_member(&self, node_id: u64) -> Result<(), ClusterError> {
        self.require_primary()?;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        if membership.get_node(&node_id).is_none() {
            return Err(ClusterError::invalid(format!(
                "node {node_id} is not a member"
            )));
        }
        let mut voters: BTreeSet<u64> = membership.voter_ids().collect();
        if voters.remove(&node_id) {
            if voters.is_empty() {
                return Err(ClusterError::invalid(
                    "the last voter cannot be removed".into(),
                ));
            }
            if node_id == self.identity().node_id {
                return Err(ClusterError::invalid(
                    "the primary does not remove itself: run `halite transfer` first".into(),
                ));
            }
            change(self.raft().change_membership(voters, true)).await?;
        }
        change(
            self.raft()
                .change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([node_id])), true),
        )
        .await?;
        self.register(node_id, REMOVED).await?;
        info!(node_id, "member removed");
        Ok(())
    }

    /// Moves leadership to `to`, or to the voter that is best caught up; who leads afterwards.
    pub(crate) async fn transfer_leadership(&self, to: Option<u64>) -> Result<u64, ClusterError> {
        self.require_primary()?;
        let own = self.identity().node_id;
        if to == Some(own) {
            return Ok(own);
        }
        let metrics = self.metrics();
        let target = match to {
            Some(id)
                if metrics
                    .membership_config
                    .membership()
                    .voter_ids()
                    .any(|v| v == id) =>
            {
                id
            }
            Some(id) => return Err(ClusterError::invalid(format!("node {id} is not a voter"))),
            None => best_successor(&metrics, own)
                .ok_or_else(|| ClusterError::unavailable("no other voter is reachable".into()))?,
        };
        let mut watch = self.watch_server();
        let deadline = Instant::now() + TRANSFER_TIMEOUT;
        self.raft()
            .trigger()
            .transfer_leader(target)
            .await
            .map_err(|e| ClusterError::unavailable(e.to_string()))?;
        loop {
            let now = super::server_of(&watch);
            match now.current_leader {
                Some(leader) if leader != own => return Ok(leader),
                _ => {}
            }
            match tokio::time::timeout_at(deadline, super::server_changed(&mut watch)).await {
                // Raft that has stopped changes nothing any more: waiting on would be an endless loop.
                Ok(changed) => changed?,
                Err(_) => {
                    return Err(ClusterError::unavailable(format!(
                        "node {target} did not take over within {} s: leadership stays where it was",
                        TRANSFER_TIMEOUT.as_secs()
                    )));
                }
            }
        }
    }

    /// Before this node stops: somebody else leads, if anybody can.
    pub(crate) async fn hand_over(&self) {
        let metrics = self.metrics();
        if !self.raft().is_leader() || best_successor(&metrics, self.identity().node_id).is_none() {
            return;
        }
        match self.transfer_leadership(None).await {
            Ok(to) => info!(to, "leadership handed over"),
            Err(error) => warn!(%error, "leadership not handed over"),
        }
    }

    /// Leads no longer, without waiting for anybody: the voter that is best caught up is told to take over, and heartbeats end, so that the
    /// others elect one where it does not.
    pub(crate) async fn give_way(&self) {
        let Some(to) = best_successor(&self.metrics(), self.identity().node_id) else {
            return;
        };
        warn!(
            to,
            "a quorum does not answer in time for a primary: giving way"
        );
        if let Err(error) = self.raft().trigger().transfer_leader(to).await {
            warn!(%error, "not given way");
        }
    }

    fn require_primary(&self) -> Result<(), ClusterError> {
        if self.raft().is_leader() {
            Ok(())
        } else {
            Err(self.not_primary())
        }
    }
}

/// How many entries a node is behind the primary; `None` if it never answered.
fn behind(metrics: &Metrics, node_id: u64) -> Option<u64> {
    let matched = metrics
        .replication
        .as_ref()?
        .get(&node_id)?
        .as_ref()?
        .index();
    Some(metrics.last_log_index.unwrap_or(0).saturating_sub(matched))
}

/// The other voter whose log reaches furthest.
fn best_successor(metrics: &Metrics, own: u64) -> Option<u64> {
    let replication = metrics.replication.as_ref()?;
    metrics
        .membership_config
        .membership()
        .voter_ids()
        .filter(|id| *id != own)
        .filter_map(|id| Some((replication.get(&id)?.as_ref()?.index(), id)))
        .max()
        .map(|(_, id)| id)
}

async fn change<T, E: std::fmt::Display>(
    change: impl Future<Output = Result<T, E>>,
) -> Result<(), ClusterError> {
    match tokio::time::timeout(CHANGE_TIMEOUT, change).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(ClusterError::unavailable(format!(
            "membership not changed: {error}"
        ))),
        Err(_) => Err(ClusterError::outcome_unknown(
            "no quorum answered the membership change within 10 s: look at `halite member list`"
                .into(),
        )),
    }
}
