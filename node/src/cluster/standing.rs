//! What Raft's state says of this node's own standing and of its peers' disks; kept in the node's own storage.

use halite_log::{LogId, LogStore, MetaKey};
use openraft::ServerState;

use super::error::ClusterError;
use super::identity::{Acknowledged, Identity, Lasting};
use super::{Cluster, Metrics};

fn stopped_key() -> MetaKey {
    MetaKey::node("stopped").expect("a constant key without slashes")
}

fn witness_key() -> MetaKey {
    MetaKey::node("witness").expect("a constant key without slashes")
}

/// What an earlier start of this node knew.
pub(crate) fn recall(log: &LogStore, identity: &Identity) -> Result<(), String> {
    let text = |key| {
        let bytes = log.meta_get(&key).map_err(|e| e.to_string())?;
        Ok::<_, String>(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    if let Some(why) = text(stopped_key())? {
        identity.stop(&why, Lasting::Yes);
    }
    for line in text(witness_key())?.unwrap_or_default().lines() {
        let (node_id, instance, said) = witnessed(line)
            .ok_or_else(|| format!("what peers acknowledged does not parse: {line:?}"))?;
        identity.recall(node_id, instance, said);
    }
    Ok(())
}

/// Node, data directory, what it acknowledged.
fn witnessed(line: &str) -> Option<(u64, &str, Acknowledged)> {
    let mut parts = line.split(' ');
    let node_id = parts.next()?.parse().ok()?;
    let instance = parts.next()?;
    Some((node_id, instance, parts.next()?.parse().ok()?))
}

impl Cluster {
    /// Since when this node is a member, and what its followers have acknowledged.
    pub(crate) fn note_standing(&self, now: &Metrics) {
        let identity = self.identity();
        let members = &now.membership_config;
        let is_member = members.membership().get_node(&now.id).is_some();
        identity.set_member_since(members.log_id().filter(|_| is_member));
        let Some(replication) = now.replication.as_ref() else {
            return;
        };
        // Of the term in which this node leads, and no other: while a leader gives its term up, Raft shows the next term beside what was
        // acknowledged in the last one.
        let vote = now.vote;
        let leads = vote.committed && vote.leader_id.voted_for == now.id;
        if now.state != ServerState::Leader || !leads || vote.leader_id.term != now.current_term {
            return;
        }
        let committed = now.local_committed.as_ref().map_or(0, LogId::index);
        for (node_id, matched) in replication {
            if let Some(index) = matched.as_ref().map(LogId::index)
                && *node_id != now.id
            {
                let said = Acknowledged {
                    term: now.current_term,
                    index,
                    committed: committed.min(index),
                };
                identity.witness(*node_id, said);
            }
        }
    }

    /// Whether this node's disk was put back, as a peer has reason to think.
    pub(crate) fn judge_claim(&self) {
        if self.identity().is_claimed() {
            self.identity().judge_claim(self.held());
        }
    }

    /// Keeps what was heard since the last time. What peers acknowledged is not synced: an older word is true as well.
    pub(crate) async fn keep_what_was_heard(&self) -> Result<(), ClusterError> {
        let identity = self.identity();
        let Some(news) = identity.take_news() else {
            return Ok(());
        };
        let is_urgent = news.stopped.is_some();
        let mut changes = Vec::new();
        if let Some(why) = &news.stopped {
            changes.push((stopped_key(), Some(why.as_bytes().to_vec().into())));
        }
        let lines = news
            .witnessed
            .iter()
            .map(|(node_id, instance, said)| format!("{node_id} {instance} {said}\n"));
        let lines: String = lines.collect();
        changes.push((witness_key(), Some(lines.into_bytes().into())));
        let kept = self.shared().log.meta_put(changes, is_urgent).await;
        kept.map_err(|error| {
            identity.put_news_back();
            ClusterError::unavailable(error.to_string())
        })
    }
}
