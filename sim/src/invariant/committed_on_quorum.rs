//! What anybody says is committed is on the disks of a majority of voters: so many voters that run can at most lack it.
//!
//! Looked at only while all voters that run agree on who votes. Says nothing of nodes that are down.

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct CommittedOnQuorum {
    /// Terms of the entries that anybody said are committed.
    terms: BTreeMap<u64, u64>,
}

impl Invariant for CommittedOnQuorum {
    fn name(&self) -> &'static str {
        "committed is on a quorum"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        let entries = nodes.iter().flat_map(|seen| &seen.committed);
        self.terms
            .extend(entries.map(|entry| (entry.index, entry.term)));
        let Some(voters) = agreed_voters(nodes) else {
            return Ok(());
        };
        let newest = nodes.iter().map(|seen| seen.status.committed_index).max();
        let Some((index, term)) = self
            .terms
            .range(..=newest.unwrap_or(0))
            .next_back()
            .map(|(index, term)| (*index, *term))
        else {
            return Ok(());
        };
        let lack: Vec<u64> = nodes
            .iter()
            .filter(|seen| voters.contains(&seen.node) && lacks(seen, index, term))
            .map(|seen| seen.node)
            .collect();
        let majority = voters.len() / 2 + 1;
        if voters.len() - lack.len() < majority {
            return Err(format!(
                "index {index} of term {term} is said to be committed, but of voters {voters:?} it is not on the disks of {lack:?}"
            ));
        }
        Ok(())
    }
}

fn lacks(seen: &Seen, index: u64, term: u64) -> bool {
    let ends = seen.log.ends;
    if index <= ends.purged {
        return false;
    }
    let other_term = seen.log.terms.get(&index).is_some_and(|own| *own != term);
    index >= ends.end || index > ends.flushed || other_term
}

/// Who votes, if all voters that run agree with the one of the newest term.
fn agreed_voters(nodes: &[Seen]) -> Option<BTreeSet<u64>> {
    let newest = nodes.iter().max_by_key(|seen| seen.topology.term)?;
    let voters = voters_of(newest);
    if voters.is_empty() {
        // It has just started and has not looked into its log yet.
        return None;
    }
    let mut others = nodes.iter().filter(|seen| voters.contains(&seen.node));
    others
        .all(|seen| voters_of(seen) == voters)
        .then_some(voters)
}

fn voters_of(seen: &Seen) -> BTreeSet<u64> {
    let members = seen.topology.members.iter();
    let voters = members.filter(|member| member.voter);
    voters.map(|member| member.node_id).collect()
}
