//! Purged ≤ applied ≤ committed ≤ last: nothing leaves the log that a start needs, nothing is shown that is not committed, and
//! nothing is committed that no log has. And no snapshot covers what is not applied.
//!
//! A start may show more than its own log says is committed, since a checkpoint remembers it: so somebody must have said it once.

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct IndexesInOrder {
    /// The highest index that anybody ever said is committed.
    committed: u64,
}

impl Invariant for IndexesInOrder {
    fn name(&self) -> &'static str {
        "indexes are in order"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        let known = self.committed;
        let newest = nodes.iter().map(|seen| seen.status.committed_index);
        self.committed = newest.fold(self.committed, u64::max);
        let held = nodes.iter().map(last).max().unwrap_or_default();
        for seen in nodes {
            let (status, ends) = (&seen.status, seen.log.ends);
            let last = last(seen);
            let (applied, committed) = (status.applied_index, status.committed_index);
            // It learns what is committed before it has the entries or the snapshot that lead there: others have them, or have
            // said so before.
            let lags = committed <= held.max(known);
            let in_order = ends.purged <= applied.max(ends.snapshot)
                && ends.snapshot <= self.committed
                && applied <= self.committed
                && (committed <= last || lags);
            if !in_order {
                return Err(format!(
                    "n{}: purged={} snapshot={} applied={applied} committed={committed} last={last}",
                    seen.node, ends.purged, ends.snapshot
                ));
            }
        }
        Ok(())
    }
}

/// The last index that its log has, or had until it was purged.
fn last(seen: &Seen) -> u64 {
    seen.log
        .ends
        .end
        .saturating_sub(1)
        .max(seen.log.ends.purged)
}
