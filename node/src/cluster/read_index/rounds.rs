//! [`Rounds`]: the quorum rounds by which a primary proves that it still leads, one after the other; a follower asks the primary for one.
//!
//! Called by the task of [`ReadIndex`](super::ReadIndex) alone, which gives each round its deadline. Which voters are still being asked is
//! kept when a round is dropped half way. An answer to an earlier round must never count for a later one.
//!
//! The round is made here: openraft goes by when its last acknowledged message was sent, and takes the answer to an append for the answer to
//! a later one that ends at the same entry. An answer that was held up by the network could confirm a read asked long after it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use halite_log::{TypeConfig, Vote};
use halite_proto::v1;
use openraft::{Raft, ReadPolicy};

use crate::cluster::error::ClusterError;
use crate::cluster::network::acknowledges;
use crate::cluster::state_machine::StateMachine;
use crate::cluster::transport::{Purpose, Transport};
use crate::cluster::{Server, primary_of, server_of};
use crate::database::Leadership;

/// A voter that has not answered by then is asked anew.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(400);

/// A voter's answer: who, to which round, and whether it acknowledges the vote.
type Acknowledgement = (u64, u64, bool);

/// What a round found out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Everything acknowledged before the round is at or below it.
    pub(super) index: u64,
    /// As whom a quorum acknowledged this node; `None` if another node was asked.
    pub(super) leadership: Option<Leadership>,
}

impl Found {
    /// Nobody else can have been elected before the round, under a newer leadership than this one.
    pub(super) fn confirms(self, leadership: Leadership) -> bool {
        self.leadership == Some(leadership)
    }
}

/// See the module. What is kept from one round to the next.
pub(super) struct Rounds {
    raft: Raft<TypeConfig, StateMachine>,
    transport: Arc<Transport>,
    /// Number of the last round.
    round: u64,
    /// Voters that are being asked: one question at a time, each to its end, however many rounds there are.
    asking: FuturesUnordered<BoxFuture<'static, Acknowledgement>>,
    asked: BTreeSet<u64>,
}

impl Rounds {
    pub(super) fn new(raft: Raft<TypeConfig, StateMachine>, transport: Arc<Transport>) -> Self {
        Self {
            raft,
            transport,
            round: 0,
            asking: FuturesUnordered::new(),
            asked: BTreeSet::new(),
        }
    }

    /// Between rounds: a voter comes to the end of its question, and can be asked again. `None` if nobody is being asked. Cancel safe.
    pub(super) async fn late_answer(&mut self) -> Option<()> {
        let (voter, ..) = self.asking.next().await?;
        self.asked.remove(&voter);
        Some(())
    }

    /// Raft takes this node for the leader; only a round can tell whether it still is.
    pub(super) fn leads(&self) -> bool {
        self.raft.is_leader()
    }

    /// The primary, as far as this node knows, if it is another one.
    pub(super) fn other_primary(&self) -> Option<v1::NodeAddress> {
        let server = server_of(&self.raft.server_metrics());
        primary_of(&server)
            .filter(|(node_id, _)| *node_id != server.id)
            .map(|(node_id, addr)| v1::NodeAddress { node_id, addr })
    }

    /// An index that everything acknowledged before this call is at or below.
    pub(super) async fn next(&mut self) -> Result<Found, ClusterError> {
        if self.leads() {
            return self.local().await;
        }
        let (leader, addr) = primary_of(&server_of(&self.raft.server_metrics()))
            .ok_or_else(|| ClusterError::not_primary(None))?;
        let mut peer = self
            .transport
            .peer(leader, &addr, Purpose::Control)
            .map_err(|status| ClusterError::unavailable(status.message().to_owned()))?;
        let answer = peer.read_index(v1::ReadIndexRequest {}).await;
        match answer {
            Ok(response) => Ok(Found {
                index: response.into_inner().index,
                leadership: None,
            }),
            Err(status) => Err(ClusterError::unavailable(format!(
                "the primary did not confirm the read: {}",
                status.message()
            ))),
        }
    }

    /// A quorum round on the primary.
    async fn local(&mut self) -> Result<Found, ClusterError> {
        // In this order: who acknowledges this vote after the index was read has elected nobody else before.
        let vote = server_of(&self.raft.server_metrics()).vote;
        let found = |index| Found {
            index,
            leadership: Some(Leadership {
                term: vote.leader_id.term,
                leader_id: vote.leader_id.voted_for,
            }),
        };
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::StalePrimaryReads) {
            return Ok(found(0));
        }
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::LateAnswerConfirms) {
            let read = self.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
            let (index, _) = read.map_err(|error| ClusterError::unavailable(error.to_string()))?;
            return Ok(found(index.index()));
        }
        let read = self
            .raft
            .get_read_log_id(ReadPolicy::LeaseRead)
            .await
            .map_err(|error| {
                ClusterError::unavailable(format!("no quorum confirmed the read: {error}"))
            })?;
        let server = server_of(&self.raft.server_metrics());
        if server.vote != vote || !vote.committed || vote.leader_id.voted_for != server.id {
            return Err(ClusterError::not_primary(None));
        }
        self.confirm(vote, &server).await?;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::ReadIndexBeforeBlank) {
            let (_, applied) = read;
            return Ok(found(applied.map_or(0, |id| id.index())));
        }
        let (index, _) = read;
        Ok(found(index.index()))
    }

    /// Waits until a quorum acknowledges `vote`, asked from now on.
    async fn confirm(&mut self, vote: Vote, server: &Server) -> Result<(), ClusterError> {
        self.round += 1;
        let membership = server.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let mut answered = BTreeSet::from([server.id]);
        let mut acknowledged = answered.clone();
        while !is_quorum(membership.get_joint_config(), &acknowledged) {
            for (&id, member) in membership.nodes() {
                let is_free = !self.asked.contains(&id) && !answered.contains(&id);
                if voters.contains(&id) && is_free {
                    self.asked.insert(id);
                    self.asking.push(self.ask(id, member.addr.clone(), vote));
                }
            }
            let Some((id, round, acknowledges)) = self.asking.next().await else {
                return Err(ClusterError::unavailable(format!(
                    "no quorum confirmed the read: acknowledged={acknowledged:?}"
                )));
            };
            self.asked.remove(&id);
            // What it was asked in an earlier round says nothing about this one.
            if round == self.round {
                answered.insert(id);
                if acknowledges {
                    acknowledged.insert(id);
                }
            }
        }
        Ok(())
    }

    fn ask(&self, id: u64, addr: String, vote: Vote) -> BoxFuture<'static, Acknowledgement> {
        let (transport, round) = (self.transport.clone(), self.round);
        let asked = async move {
            let answer = acknowledges(&transport, id, &addr, vote);
            let answer = tokio::time::timeout(QUESTION_TIMEOUT, answer).await;
            (id, round, answer.unwrap_or(false))
        };
        asked.boxed()
    }
}

/// A majority of each configuration: there are two while the membership changes.
fn is_quorum(configs: &[BTreeSet<u64>], acknowledged: &BTreeSet<u64>) -> bool {
    configs
        .iter()
        .all(|config| config.intersection(acknowledged).count() > config.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_a_majority_of_each_configuration() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        let one = [set(&[1])];
        assert!(is_quorum(&one, &set(&[1])));
        let three = [set(&[1, 2, 3])];
        assert!(!is_quorum(&three, &set(&[1])));
        assert!(!is_quorum(&three, &set(&[1, 4, 5])));
        assert!(is_quorum(&three, &set(&[1, 3])));
        let even = [set(&[1, 2, 3, 4])];
        assert!(!is_quorum(&even, &set(&[1, 2])));
        let joint = [set(&[1, 2, 3]), set(&[3, 4, 5])];
        assert!(!is_quorum(&joint, &set(&[1, 2, 3])));
        assert!(is_quorum(&joint, &set(&[1, 3, 4])));
    }
}
