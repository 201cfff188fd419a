//! Log matching: entries of one index and term are the same on all nodes, at all times, and so is all that comes before them.
//!
//! Each entry is compared with the first one seen of that index and term, and so is the term before it; what comes before that
//! follows by induction.

use std::collections::BTreeMap;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct LogMatching {
    /// By index and term: digest, the term before, and who had it first.
    entries: BTreeMap<(u64, u64), (u64, Option<u64>, u64)>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for seen in nodes {
            let mut last_term = 0;
            for entry in &seen.log.appended {
                if entry.term < last_term || entry.term_before.is_some_and(|t| t > entry.term) {
                    return Err(format!(
                        "in the log of n{} term {} at index {} follows a higher one",
                        seen.node, entry.term, entry.index
                    ));
                }
                last_term = entry.term;
                let (digest, before, first) = self
                    .entries
                    .entry((entry.index, entry.term))
                    .or_insert((entry.digest, entry.term_before, seen.node));
                if *digest != entry.digest {
                    return Err(format!(
                        "index {} of term {} is {digest:016x} at n{first} and {:016x} at n{}",
                        entry.index, entry.term, entry.digest, seen.node
                    ));
                }
                match (*before, entry.term_before) {
                    (Some(one), Some(other)) if one != other => {
                        return Err(format!(
                            "before index {} of term {} comes term {one} at n{first} and term {other} at n{}",
                            entry.index, entry.term, seen.node
                        ));
                    }
                    (None, known) => *before = known,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
