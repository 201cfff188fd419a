//! A vote that is on the disk is kept, over power losses as well: the term never goes back, and nobody votes twice in one term.

use std::collections::BTreeMap;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct VotesAreKept {
    /// By node: term, whom for, and whether a quorum granted it.
    votes: BTreeMap<u64, (u64, u64, bool)>,
}

impl Invariant for VotesAreKept {
    fn name(&self) -> &'static str {
        "votes are kept"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        // What was on the disk is not there any more.
        for seen in nodes.iter().filter(|seen| !seen.disks_are_others) {
            let now = seen.log.ends.vote;
            let before = self.votes.insert(seen.node, now).unwrap_or_default();
            let same_term = before.0 == now.0 && before.0 > 0;
            // A candidate that lost follows who was granted the term, and says so in its vote.
            let followed = now.2 && !before.2;
            let forgotten = before.2 && !now.2;
            let other = now.1 != before.1 && !followed || forgotten;
            if now.0 < before.0 || same_term && other {
                return Err(format!(
                    "n{} had voted for n{} in term {} (granted: {}), and now says it voted for n{} in term {} (granted: {})",
                    seen.node, before.1, before.0, before.2, now.1, now.0, now.2
                ));
            }
        }
        Ok(())
    }
}
