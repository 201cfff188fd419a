//! Moving leadership. On the primary only.
//!
//! Leadership is given only to a voter that answers now and is caught up. While a primary hands over it takes nothing in, and Raft never
//! takes that back by itself: a primary whose successor does not take over gives its term up, so that somebody leads again.

use std::collections::BTreeMap;
use std::time::Duration;

use halite_log::Vote;
use openraft::raft::VoteRequest;
use tokio::time::Instant;
use tracing::{info, warn};

use super::rules;
use crate::cluster::error::ClusterError;
use crate::cluster::{Cluster, better_off, server_changed, server_of};

/// Until the successor has taken over.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

/// A transfer that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    term: u64,
    to: u64,
    until: Instant,
}

impl Cluster {
    /// Moves leadership to `to`, or to the voter that is best caught up; who leads afterwards.
    pub(crate) async fn transfer_leadership(&self, to: Option<u64>) -> Result<u64, ClusterError> {
        let _turn = self.turn().await?;
        self.require_primary()?;
        let own = self.identity().node_id;
        if to == Some(own) {
            return Ok(own);
        }
        let standing = self.standing().await;
        let metrics = self.metrics();
        let troubles = match to {
            Some(_) => BTreeMap::new(),
            None => better_off::troubles_of(self, &standing.answering).await,
        };
        let troubles = |id| troubles.get(&id).copied().unwrap_or(0);
        let behind = |id| super::behind(&metrics, id);
        let target = rules::successor(&standing, to, troubles, behind)
            .map_err(|refusal| super::refused(&refusal))?;
        self.move_leadership(target).await
    }

    async fn move_leadership(&self, target: u64) -> Result<u64, ClusterError> {
        let own = self.identity().node_id;
        let mut watch = self.watch_server();
        let term = server_of(&watch).vote.leader_id.term;
        let until = self.begin_transfer(term, target).await?;
        // If nobody takes over, this node gives its term up, and an election follows.
        let deadline = until + self.timing().lease * 3;
        loop {
            let now = server_of(&watch);
            match now.current_leader {
                Some(leader) if leader != own => return Ok(leader),
                Some(_) if now.vote.leader_id.term > term => {
                    return Err(ClusterError::unavailable(format!(
                        "leadership did not move: node {target} did not take over within {} s, node {own} leads on",
                        TRANSFER_TIMEOUT.as_secs()
                    )));
                }
                _ => {}
            }
            match tokio::time::timeout_at(deadline, server_changed(&mut watch)).await {
                // Raft that has stopped changes nothing any more: waiting on would be an endless loop.
                Ok(changed) => changed?,
                Err(_) => {
                    return Err(ClusterError::outcome_unknown(format!(
                        "node {target} did not take over within {} s, and nobody is known to lead now: look at `halite status`",
                        TRANSFER_TIMEOUT.as_secs()
                    )));
                }
            }
        }
    }

    /// Tells `to` to take over from the leader of `term`, which is this node; by when it has to have done so.
    async fn begin_transfer(&self, term: u64, to: u64) -> Result<Instant, ClusterError> {
        let until = Instant::now() + TRANSFER_TIMEOUT;
        *self.transfer.lock() = Some(Transfer { term, to, until });
        let told = self.raft().trigger().transfer_leader(to).await;
        told.map_err(|e| ClusterError::unavailable(e.to_string()))?;
        Ok(until)
    }

    /// Gives up the term of a transfer that did not end in time, whoever asked for it, and whether or not he still waits.
    ///
    /// The node votes for the successor in the next term, which ends its leadership as any later vote does, and stands for election like the
    /// others. Not for itself: Raft takes that for a leader's own vote, lets it lead on without heartbeats, and never lets it stand again, though
    /// the others may need its log to elect anybody.
    pub(crate) async fn end_overdue_transfer(&self) {
        let metrics = self.metrics();
        let overdue = {
            let mut transfer = self.transfer.lock();
            let Some(pending) = *transfer else {
                return;
            };
            if metrics.current_term != pending.term || !self.raft().is_leader() {
                *transfer = None;
            }
            transfer.filter(|pending| Instant::now() >= pending.until)
        };
        let Some(Transfer { to, .. }) = overdue else {
            return;
        };
        warn!(
            term = metrics.current_term,
            "the successor did not take over: giving up this term"
        );
        let vote = Vote::new(metrics.current_term + 1, to);
        let mut request = VoteRequest::new(vote, self.shared().log.last_log_id());
        // Authorised by the leader that the request unseats: itself.
        request.leadership_transfer = true;
        // Tried again until the term has changed. A vote waits for the disk, which may hang, and the role is not to be watched by nobody.
        match tokio::time::timeout(self.timing().lease, self.raft().vote(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "the term was not given up"),
            Err(_) => warn!("the term is not given up yet: the vote for it is not on the disk"),
        }
    }

    /// Leads no longer, without waiting for anybody: the voter that is best caught up is told to take over, and heartbeats end, so that the
    /// others elect one where it does not.
    pub(crate) async fn give_way(&self) {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let others = membership.voter_ids().filter(|id| *id != metrics.id);
        let behind = |id: &u64| super::behind(&metrics, *id).unwrap_or(u64::MAX);
        let Some(to) = others.min_by_key(|id| (behind(id), *id)) else {
            return;
        };
        warn!(
            to,
            answers_within_ms = self.timing().heartbeat_answer_ms,
            "a quorum does not answer in time for a primary: giving way; an election-timeout has to be four round trips between nodes or more"
        );
        self.give_way_to(to).await;
    }

    /// As [`Cluster::give_way`], to this voter.
    pub(crate) async fn give_way_to(&self, to: u64) {
        let term = server_of(&self.watch_server()).vote.leader_id.term;
        if let Err(error) = self.begin_transfer(term, to).await {
            warn!(%error, "not given way");
        }
    }

    /// Before this node stops: somebody else leads, if anybody can.
    pub(crate) async fn hand_over(&self) {
        let own = self.identity().node_id;
        let membership = server_of(&self.watch_server()).membership_config;
        let alone = membership.membership().voter_ids().all(|id| id == own);
        if !self.raft().is_leader() || alone {
            return;
        }
        match self.transfer_leadership(None).await {
            Ok(to) => info!(to, "leadership handed over"),
            Err(error) => warn!(%error, "leadership not handed over"),
        }
    }
}
