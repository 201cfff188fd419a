//! Whether a primary contradicts what this node has applied. Then a disk was put back to an old copy, here or elsewhere: histories have parted
//! below what is committed, which Raft takes to be impossible. The node stops taking part, and keeps what it has.

use std::fmt;

use halite_log::{LogId, TypeConfig, Vote};
use openraft::alias::SnapshotMetaOf;
use openraft::async_runtime::WatchReceiver as _;
use openraft::entry::RaftEntry as _;
use openraft::raft::AppendEntriesRequest;

use super::Cluster;
use super::identity::Lasting;

/// One place at which two histories differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contradiction {
    ours: LogId,
    theirs: LogId,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |id: &LogId| (id.index(), id.committed_leader_id().term);
        let ((ours, our_term), (theirs, their_term)) = (id(&self.ours), id(&self.theirs));
        write!(
            f,
            "it has applied entry {ours} of term {our_term}, the primary has entry {theirs} of term {their_term}"
        )
    }
}

/// The first of the leader's entries that contradicts what is applied. `known`: the log id of an applied entry, as far as the log has it.
pub(crate) fn contradiction(
    theirs: impl IntoIterator<Item = LogId>,
    applied: LogId,
    known: impl Fn(u64) -> Option<LogId>,
) -> Option<Contradiction> {
    let term = |id: LogId| id.committed_leader_id().term;
    theirs.into_iter().find_map(|theirs| {
        let ours = match theirs.index().cmp(&applied.index()) {
            std::cmp::Ordering::Equal => applied,
            // Terms never go back along a log: this holds where the log is purged, too.
            std::cmp::Ordering::Less if term(theirs) > term(applied) => applied,
            std::cmp::Ordering::Less => known(theirs.index())?,
            std::cmp::Ordering::Greater if term(theirs) < term(applied) => applied,
            std::cmp::Ordering::Greater => return None,
        };
        (ours != theirs).then_some(Contradiction { ours, theirs })
    })
}

impl Cluster {
    /// True if what the primary sends contradicts what is applied here; then this node has stopped taking part.
    pub(crate) async fn contradicts(&self, request: &AppendEntriesRequest<TypeConfig>) -> bool {
        let entries = request.entries.iter().map(|entry| entry.log_id());
        let ids = request
            .prev_log_id
            .into_iter()
            .chain(entries)
            .chain(request.leader_commit);
        self.stops_at(&request.vote, ids).await
    }

    /// The same of a snapshot that the primary offers.
    pub(crate) async fn contradicts_snapshot(
        &self,
        vote: &Vote,
        meta: &SnapshotMetaOf<TypeConfig>,
    ) -> bool {
        self.stops_at(vote, meta.last_log_id.into_iter()).await
    }

    async fn stops_at(&self, vote: &Vote, theirs: impl Iterator<Item = LogId> + Clone) -> bool {
        let identity = self.identity();
        if identity.stopped().is_some() {
            return true;
        }
        let Some(found) = self.find_contradiction(vote, theirs).await else {
            return false;
        };
        identity.stop(
            &format!(
                "its history and the cluster's have parted: {found}. A disk was put back to an old copy, of this node or of others. Nothing of \
                 it is thrown away: run `halite member remove {id}`, stop this node, run `halite set-aside` on its data directory, which keeps \
                 what it alone has as .orphan files, and add it again with `halite member add`",
                id = identity.node_id
            ),
            Lasting::Yes,
        );
        true
    }

    async fn find_contradiction(
        &self,
        vote: &Vote,
        theirs: impl Iterator<Item = LogId> + Clone,
    ) -> Option<Contradiction> {
        let (applied, heard) = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow_watched();
            (metrics.last_applied?, metrics.current_term)
        };
        // A leader that was replaced may still send what never was committed.
        if vote.leader_id.term < heard.max(applied.committed_leader_id().term) {
            return None;
        }
        let found = contradiction(theirs.clone(), applied, |_| None);
        let below: Vec<LogId> = theirs.filter(|id| id.index() < applied.index()).collect();
        if found.is_some() || below.is_empty() {
            return found;
        }
        // Rare: the primary asks where this node's log and its own meet.
        let known = self.raft().with_raft_state(move |state| {
            contradiction(below, applied, |index| state.log_ids.get(index))
        });
        // A Raft that has stopped takes nothing in either.
        known.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new_term_index(term, index)
    }

    #[test]
    fn a_difference_at_or_below_what_is_applied_is_a_contradiction() {
        let applied = id(3, 100);
        // The log begins at 50; terms 1 and 2 are purged but for the last entries of 2.
        let known = |index| match index {
            50..=59 => Some(id(2, index)),
            60..=100 => Some(id(3, index)),
            _ => None,
        };
        for (theirs, contradicts) in [
            (id(3, 100), false),
            (id(3, 60), false),
            (id(2, 59), false),
            // Another entry where one is applied.
            (id(4, 100), true),
            (id(2, 100), true),
            (id(2, 60), true),
            (id(3, 59), true),
            (id(4, 80), true),
            // Purged here: nothing is known of it but that terms do not go back.
            (id(1, 20), false),
            (id(4, 20), true),
            // Beyond what is applied.
            (id(3, 101), false),
            (id(4, 101), false),
            (id(2, 101), true),
        ] {
            let found = contradiction([theirs], applied, known);
            assert_eq!(found.is_some(), contradicts, "{theirs}: {found:?}");
        }
    }

    #[test]
    fn the_first_of_several_is_named() {
        let known = |index| Some(id(3, index));
        let found = contradiction([id(3, 90), id(4, 95), id(4, 96)], id(3, 100), known);
        let said = found.expect("two differ").to_string();
        assert_eq!(
            said,
            "it has applied entry 100 of term 3, the primary has entry 95 of term 4"
        );
    }
}
