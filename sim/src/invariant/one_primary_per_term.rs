//! Election safety: no two nodes take writes under one term.

use std::collections::BTreeMap;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct OnePrimaryPerTerm {
    primaries: BTreeMap<u64, u64>,
}

impl Invariant for OnePrimaryPerTerm {
    fn name(&self) -> &'static str {
        "one primary per term"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for seen in nodes {
            let Some(term) = seen.primary_term else {
                continue;
            };
            let first = *self.primaries.entry(term).or_insert(seen.node);
            if first != seen.node {
                return Err(format!(
                    "n{first} and n{} are primaries of term {term}",
                    seen.node
                ));
            }
        }
        Ok(())
    }
}
