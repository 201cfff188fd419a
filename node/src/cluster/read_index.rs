//! The index that a read has to wait for: a linearizable one for that of a round begun after it was asked, a bounded one for that of the
//! last round if that is recent enough.
//!
//! On the primary a quorum round proves that it still leads (no clock is trusted, so a primary that was frozen cannot serve a
//! stale read); a follower asks the primary. Callers that arrive while a round runs share the next one.
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
use openraft::{Raft, ReadPolicy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Server;
use super::error::ClusterError;
use super::network::acknowledges;
use super::state_machine::StateMachine;
use super::transport::{Purpose, Transport};

type Answer = Result<u64, ClusterError>;

/// Callers that may wait for one round.
const WAITING_MAX: usize = 65_536;
const ROUND_TIMEOUT: Duration = Duration::from_millis(1000);
/// A voter that has not answered by then is asked anew.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(400);

/// What a round found out: everything acknowledged before `asked_at` is at or below `index`.
///
/// The time is this node's own, from before it asked: what a primary says of itself may be old, or no longer true, when it is heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confirmed {
    pub(crate) asked_at: Instant,
    pub(crate) index: u64,
}

/// Cheap handle to the task that runs the rounds.
#[derive(Clone)]
pub(crate) struct ReadIndex {
    waiting: mpsc::Sender<oneshot::Sender<Answer>>,
    confirmed: watch::Receiver<Option<Confirmed>>,
}

impl ReadIndex {
    /// Starts the task; it ends when the last handle is dropped.
    pub(crate) fn start(raft: Raft<TypeConfig, StateMachine>, transport: Arc<Transport>) -> Self {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        let (confirm, confirmed) = watch::channel(None);
        tokio::spawn(run(raft, transport, queue, confirm));
        Self { waiting, confirmed }
    }

    /// The last round that came to an answer.
    pub(crate) fn confirmed(&self) -> Option<Confirmed> {
        *self.confirmed.borrow()
    }

    /// An index that everything acknowledged before this call is at or below.
    pub(crate) async fn get(&self) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.waiting
            .try_send(reply)
            .map_err(|_| ClusterError::unavailable("too many linearizable reads wait".into()))?;
        answer
            .await
            .map_err(|_| ClusterError::unavailable("the node is stopping".into()))?
    }
}

/// A voter's answer: who, to which round, and whether it acknowledges the vote.
type Acknowledgement = (u64, u64, bool);

/// What the task keeps from one round to the next.
struct Rounds {
    raft: Raft<TypeConfig, StateMachine>,
    transport: Arc<Transport>,
    /// Number of the last round.
    round: u64,
    /// Voters that are being asked: one question at a time, each to its end, however many rounds there are.
    asking: FuturesUnordered<BoxFuture<'static, Acknowledgement>>,
    asked: BTreeSet<u64>,
}

async fn run(
    raft: Raft<TypeConfig, StateMachine>,
    transport: Arc<Transport>,
    mut queue: mpsc::Receiver<oneshot::Sender<Answer>>,
    confirm: watch::Sender<Option<Confirmed>>,
) {
    let mut rounds = Rounds {
        raft,
        transport,
        round: 0,
        asking: FuturesUnordered::new(),
        asked: BTreeSet::new(),
    };
    let mut callers = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = queue.recv_many(&mut callers, WAITING_MAX) => {
                if count == 0 {
                    return;
                }
            }
            Some((voter, ..)) = rounds.asking.next() => {
                rounds.asked.remove(&voter);
                continue;
            }
        }
        let asked_at = Instant::now();
        let answer = match tokio::time::timeout(ROUND_TIMEOUT, rounds.next()).await {
            Ok(answer) => answer,
            Err(_) => Err(ClusterError::unavailable(
                "no quorum confirmed the read within 1 s".into(),
            )),
        };
        if let Ok(index) = answer {
            confirm.send_replace(Some(Confirmed { asked_at, index }));
        }
        for caller in callers.drain(..) {
            // A caller that gave up is not an error.
            let _ = caller.send(answer.clone());
        }
    }
}

impl Rounds {
    async fn next(&mut self) -> Answer {
        if self.raft.is_leader() {
            return self.local().await;
        }
        let (leader, addr) = super::primary_of(&super::server_of(&self.raft.server_metrics()))
            .ok_or_else(|| ClusterError::not_primary(None))?;
        let mut peer = self
            .transport
            .peer(leader, &addr, Purpose::Control)
            .map_err(|status| ClusterError::unavailable(status.message().to_owned()))?;
        let answer = peer.read_index(halite_proto::v1::ReadIndexRequest {}).await;
        match answer {
            Ok(response) => Ok(response.into_inner().index),
            Err(status) => Err(ClusterError::unavailable(format!(
                "the primary did not confirm the read: {}",
                status.message()
            ))),
        }
    }

    /// A quorum round on the primary.
    async fn local(&mut self) -> Answer {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::StalePrimaryReads) {
            return Ok(0);
        }
        // In this order: who acknowledges this vote after the index was read has elected nobody else before.
        let vote = super::server_of(&self.raft.server_metrics()).vote;
        let (index, _applied) = self
            .raft
            .get_read_log_id(ReadPolicy::LeaseRead)
            .await
            .map_err(|error| {
                ClusterError::unavailable(format!("no quorum confirmed the read: {error}"))
            })?;
        let server = super::server_of(&self.raft.server_metrics());
        if server.vote != vote || !vote.committed || vote.leader_id.voted_for != server.id {
            return Err(ClusterError::not_primary(None));
        }
        self.confirm(vote, &server).await?;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::ReadIndexBeforeBlank) {
            return Ok(_applied.map_or(0, |id| id.index()));
        }
        Ok(index.index())
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
