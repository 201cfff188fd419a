//! Applied and committed indexes never go back while a node runs, nor does the level of its cluster.

use std::collections::BTreeMap;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct NothingGoesBack {
    /// By node: its start, committed and applied.
    indexes: BTreeMap<u64, (u64, u64, u64)>,
    /// By node: its start and the feature level.
    levels: BTreeMap<u64, (u64, u32)>,
}

impl Invariant for NothingGoesBack {
    fn name(&self) -> &'static str {
        "nothing goes back"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for Seen {
            node,
            start,
            status,
            ..
        } in nodes
        {
            let now = (*start, status.committed_index, status.applied_index);
            let before = self.indexes.insert(*node, now).unwrap_or_default();
            if before.0 == now.0 && (now.1 < before.1 || now.2 < before.2) {
                return Err(format!(
                    "n{node} went back: committed {} to {}, applied {} to {}",
                    before.1, now.1, before.2, now.2
                ));
            }
            let now = (*start, status.level);
            let before = self.levels.insert(*node, now).unwrap_or_default();
            if before.0 == now.0 && now.1 < before.1 {
                return Err(format!(
                    "n{node} went back: level {} to {}",
                    before.1, now.1
                ));
            }
        }
        Ok(())
    }
}
