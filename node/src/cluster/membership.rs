//! Changing who belongs to the cluster. On the primary only, one change at a time.
//!
//! A node is added as a learner, catches up, and is then made a voter. Its data directory is registered before it hears from the
//! cluster, and forgotten when it is removed, so that neither a stranger nor a removed node is ever listened to. What an interrupted change
//! left is finished by whoever leads next. [`rules`] decides, [`transfer`] moves leadership.

mod rules;
pub(crate) mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use openraft::ChangeMembers;
use openraft::raft::Precondition;
use tokio::sync::MutexGuard;
use tracing::info;

use super::better_off;
use super::error::ClusterError;
use super::feature_level::Levels;
use super::formation::{identify, member_of};
use super::identity::REMOVED;
use super::network::acknowledges;
use super::{Cluster, Metrics, server_changed, server_of};
use rules::{Refusal, Standing};

const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever wants to change something waits this long for the change before it.
const TURN_TIMEOUT: Duration = Duration::from_secs(3);
/// A member that has not answered by then is not counted on.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

impl Cluster {
    pub(crate) async fn add_member(&self, node_id: u64, addr: &str) -> Result<(), ClusterError> {
        let _turn = self.turn().await?;
        self.require_primary()?;
        if node_id == 0 {
            return Err(ClusterError::invalid("a node id is at least 1".into()));
        }
        self.finish_change().await?;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        if let Some(known) = membership.get_node(&node_id) {
            if known.addr == addr {
                return self.check_known(node_id, addr).await;
            }
            return Err(ClusterError::already_exists(format!(
                "node {node_id} is a member at {}: remove it first to change its address",
                known.addr
            )));
        }
        if let Some((id, _)) = membership.nodes().find(|(_, known)| known.addr == addr) {
            return Err(ClusterError::invalid(format!(
                "{addr} is the address of node {id}, which is a member"
            )));
        }
        let answer = identify(self, node_id, addr).await.map_err(|s| {
            // Not tried again by itself: an address that is wrong stays wrong.
            ClusterError::invalid(format!("no node answers at {addr}: {}", s.message()))
        })?;
        self.check_candidate(node_id, addr, &answer)?;
        let before = self.identity().instance_of(node_id).unwrap_or_default();
        self.register(node_id, &answer.instance_id).await?;
        let member = BTreeMap::from([(node_id, member_of(node_id, addr))]);
        if let Err(error) = self.change(ChangeMembers::AddNodes(member)).await {
            if error.code != v1::ErrorCode::OutcomeUnknown {
                // No trace is left of what did not happen.
                self.register(node_id, &before).await?;
            }
            return Err(error);
        }
        info!(node_id, addr, "member added as a learner");
        Ok(())
    }

    /// A member that is added again: nothing is to be done, unless the node there is another than the cluster knows.
    async fn check_known(&self, node_id: u64, addr: &str) -> Result<(), ClusterError> {
        let known = self.identity().instance_of(node_id).unwrap_or_default();
        match identify(self, node_id, addr).await {
            Ok(answer) if !known.is_empty() && answer.instance_id != known => {
                Err(ClusterError::invalid(format!(
                    "node {node_id} is a member, and has lost the data directory that the cluster knows: run `halite member remove {node_id}`, \
                     then add it again"
                )))
            }
            // One that is down may be asked for as well as one that answers.
            _ => Ok(()),
        }
    }

    fn check_candidate(
        &self,
        node_id: u64,
        addr: &str,
        answer: &v1::IdentifyResponse,
    ) -> Result<(), ClusterError> {
        if answer.cluster_name != self.identity().cluster_name {
            return Err(ClusterError::invalid(format!(
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
        let (level, theirs) = (
            self.identity().level.cluster(),
            Levels::from_wire(answer.level_min, answer.level_max),
        );
        if !theirs.hold(level) {
            return Err(ClusterError::invalid(format!(
                "the node at {addr} is too {} for this cluster: it runs halite {}, for levels {theirs}, and the cluster is at level {level}",
                if theirs.max < level { "old" } else { "new" },
                answer.version
            )));
        }
        let ours = self.identity().cluster_id();
        if answer.initialized && Some(answer.cluster_id.as_str()) != ours.as_deref() {
            return Err(ClusterError::invalid(format!(
                "the node at {addr} belongs to another cluster: give it an empty data directory"
            )));
        }
        if !answer.stopped.is_empty() {
            return Err(ClusterError::invalid(format!(
                "the node at {addr} takes no part: {}",
                answer.stopped
            )));
        }
        if answer.initialized && self.identity().instance_of(node_id).as_deref() == Some(REMOVED) {
            return Err(ClusterError::invalid(format!(
                "the node at {addr} was removed from this cluster and holds old state: give it an empty data directory, as `halite set-aside DATA_DIR` does there"
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

    pub(crate) async fn promote_member(
        &self,
        node_id: u64,
        force: bool,
    ) -> Result<(), ClusterError> {
        let _turn = self.turn().await?;
        self.require_primary()?;
        self.finish_change().await?;
        let standing = self.standing().await;
        let behind = behind(&self.metrics(), node_id);
        let promoted = rules::promotion(&standing, node_id, behind, force);
        let promoted = promoted.map_err(|refusal| match refusal {
            // A node that was added a moment ago has not heard from the primary yet.
            Refusal::Silent(_) => ClusterError::unavailable(format!("{refusal} yet: try again")),
            _ => refused(&refusal),
        })?;
        if promoted {
            self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node_id])))
                .await?;
            info!(node_id, force, "member promoted to voter");
        }
        Ok(())
    }

    /// Removes a member. Repeated, it goes on where it was interrupted.
    pub(crate) async fn remove_member(
        &self,
        node_id: u64,
        force: bool,
    ) -> Result<(), ClusterError> {
        let _turn = self.turn().await?;
        self.require_primary()?;
        self.finish_change().await?;
        let standing = self.standing().await;
        let known = self.identity().instance_of(node_id);
        let left = rules::removal(&standing, node_id, known.is_some(), force)
            .map_err(|refusal| refused(&refusal))?;
        if left.demote {
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([node_id])))
                .await?;
        }
        if left.forget {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node_id])))
                .await?;
        }
        if known.as_deref() != Some(REMOVED) {
            self.register(node_id, REMOVED).await?;
        }
        info!(node_id, force, "member removed");
        Ok(())
    }

    /// Operators are put in order: one change at a time.
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, ()>, ClusterError> {
        tokio::time::timeout(TURN_TIMEOUT, self.changing.lock())
            .await
            .map_err(|_| {
                ClusterError::unavailable(
                    "another change of members, of the primary or of the level is under way: try again".into(),
                )
            })
    }

    /// What an earlier primary, or an earlier call, left half way: of a change of voters, and of a removal or an addition.
    pub(super) async fn finish_interrupted(&self) -> Result<(), ClusterError> {
        let Ok(_turn) = self.changing.try_lock() else {
            return Ok(());
        };
        let server = server_of(&self.watch_server());
        if server.membership_config.log_id() != server.committed_membership_config.log_id() {
            // Raft is still at it.
            return Ok(());
        }
        self.finish_change().await?;
        let server = server_of(&self.watch_server());
        let membership = server.membership_config.membership();
        let gone: Vec<u64> = {
            let catalog = self.shared().catalog.lock();
            let known = catalog.nodes.iter();
            known
                .filter(|(id, instance)| {
                    membership.get_node(id).is_none() && instance.as_str() != REMOVED
                })
                .map(|(id, _)| *id)
                .collect()
        };
        for node_id in gone {
            self.register(node_id, REMOVED).await?;
            info!(node_id, "an interrupted change of members is finished");
        }
        Ok(())
    }

    /// Brings a change of voters that was begun to its end. With two configurations in force nothing else may begin.
    async fn finish_change(&self) -> Result<(), ClusterError> {
        let mut watch = self.watch_server();
        let settled = async {
            loop {
                let now = server_of(&watch);
                if now.membership_config.log_id() == now.committed_membership_config.log_id() {
                    return Ok::<_, ClusterError>(now);
                }
                server_changed(&mut watch).await?;
            }
        };
        let Ok(now) = tokio::time::timeout(CHANGE_TIMEOUT, settled).await else {
            let configs = server_of(&self.watch_server()).membership_config;
            return Err(ClusterError::unavailable(format!(
                "an earlier change of members is not committed: a majority of the voters does not answer: voters={:?}",
                configs.membership().get_joint_config()
            )));
        };
        if now?.membership_config.membership().get_joint_config().len() > 1 {
            self.change(ChangeMembers::AddVoterIds(BTreeSet::new()))
                .await?;
            info!("an interrupted change of voters is finished");
        }
        Ok(())
    }

    /// Proposes a change to the members as they are known here, and to no others.
    async fn change(
        &self,
        change: ChangeMembers<u64, halite_log::Member>,
    ) -> Result<(), ClusterError> {
        let known = server_of(&self.watch_server()).membership_config;
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: *known.log_id(),
        };
        let changed = self.raft().change_membership_if(change, true, [unchanged]);
        match tokio::time::timeout(CHANGE_TIMEOUT, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.forward_to_leader().is_some() => Err(self.not_primary()),
            Ok(Err(error)) => Err(ClusterError::unavailable(format!(
                "membership not changed: {error}"
            ))),
            Err(_) => Err(ClusterError::outcome_unknown(
                "no quorum answered the membership change within 10 s: look at `halite member list`, and repeat the command".into(),
            )),
        }
    }

    /// The members, and who of them acknowledges this primary now: its heartbeats, and what it would write.
    async fn standing(&self) -> Standing {
        let server = server_of(&self.watch_server());
        let membership = server.membership_config.membership();
        let (own, vote) = (server.id, server.vote);
        let others = membership.nodes().filter(|(id, _)| **id != own);
        let asked = others.map(|(id, member)| async move {
            let answer = acknowledges(self.transport(), *id, &member.addr, vote);
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
            if !answer.unwrap_or(false) {
                return None;
            }
            // Heartbeats wait for no disk.
            let told = better_off::ask(self, &member.addr).await;
            (!told.is_some_and(|node| node.log_hangs)).then_some(*id)
        });
        let mut answering: BTreeSet<u64> = join_all(asked).await.into_iter().flatten().collect();
        if !self.disk_hangs() {
            answering.insert(server.id);
        }
        Standing {
            primary: server.id,
            configs: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, _)| *id).collect(),
            answering,
        }
    }

    pub(super) fn require_primary(&self) -> Result<(), ClusterError> {
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

fn refused(refusal: &Refusal) -> ClusterError {
    let message = refusal.to_string();
    match refusal {
        // Time helps.
        Refusal::Behind { .. } => ClusterError::unavailable(message),
        _ => ClusterError::invalid(message),
    }
}
