//! Terms never go back, not even over a power loss; applied and committed indexes never go back within a life; and applied ≤ committed ≤ last.

use std::collections::BTreeMap;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct NothingGoesBack {
    terms: BTreeMap<u64, u64>,
    /// By node and life: committed and applied.
    indexes: BTreeMap<(u64, u64), (u64, u64)>,
}

impl Invariant for NothingGoesBack {
    fn name(&self) -> &'static str {
        "nothing goes back"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for Seen {
            node, life, status, ..
        } in nodes
        {
            let (committed, applied) = (status.committed_index, status.applied_index);
            let term = self.terms.entry(*node).or_default();
            if status.term < *term {
                return Err(format!(
                    "n{node} went back from term {term} to {}",
                    status.term
                ));
            }
            *term = status.term;
            let before = self.indexes.entry((*node, *life)).or_default();
            if committed < before.0 || applied < before.1 {
                return Err(format!(
                    "n{node} went back: committed {} to {committed}, applied {} to {applied}",
                    before.0, before.1
                ));
            }
            *before = (committed, applied);
        }
        Ok(())
    }
}
