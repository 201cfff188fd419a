//! State machine safety and leader completeness: what any node ever said is committed at an index stays what it is, on all nodes.

use std::collections::BTreeMap;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct CommittedIsImmutable {
    /// Index to term and digest, and who said so first.
    entries: BTreeMap<u64, (u64, u64, u64)>,
}

impl Invariant for CommittedIsImmutable {
    fn name(&self) -> &'static str {
        "committed is immutable"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for seen in nodes {
            for entry in &seen.committed {
                let (term, digest, first) = *self.entries.entry(entry.index).or_insert((
                    entry.term,
                    entry.digest,
                    seen.node,
                ));
                if (term, digest) != (entry.term, entry.digest) {
                    return Err(format!(
                        "index {} is of term {term} at n{first}, and of term {} at n{} (digests {digest:016x} and {:016x})",
                        entry.index, entry.term, seen.node, entry.digest
                    ));
                }
            }
        }
        Ok(())
    }
}
