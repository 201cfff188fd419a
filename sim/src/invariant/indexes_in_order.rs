//! Purged ≤ applied ≤ committed ≤ last: nothing leaves the log that a start needs, nothing is shown that is not committed, and
//! nothing is committed that the log does not have. And no snapshot covers what is not applied.
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
        for seen in nodes {
            let (status, ends) = (&seen.status, seen.log.ends);
            let last = ends.end.saturating_sub(1).max(ends.purged);
            let (applied, committed) = (status.applied_index, status.committed_index);
            // It learns what is committed before the snapshot is installed that leads there: others have said so long before.
            let lags = committed <= known;
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
