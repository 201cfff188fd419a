//! A number is committed once: what two primaries build on the same transaction cannot both be in the history.
//!
//! Appliers pass over an entry whose number they have, so of two of them one is lost, whoever was told that it was written.

use std::collections::HashMap;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct NumberedOnce {
    /// Index of each transaction, by database and number.
    indexes: HashMap<(u64, u64), u64>,
}

impl Invariant for NumberedOnce {
    fn name(&self) -> &'static str {
        "each number is committed once"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for seen in nodes {
            for (index, transaction) in &seen.transactions {
                let key = (transaction.database_id, transaction.txid);
                let first = *self.indexes.entry(key).or_insert(*index);
                if first != *index {
                    return Err(format!(
                        "transaction {} of database {} at index {first} and at index {index} of n{}",
                        transaction.txid, transaction.database_id, seen.node
                    ));
                }
            }
        }
        Ok(())
    }
}
