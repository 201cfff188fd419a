//! Every node holds the same bytes: one checksum per database and TXID, whoever says it and whenever.

use std::collections::BTreeMap;

use super::{Invariant, Seen};
use crate::workload::databases;

#[derive(Default)]
pub(super) struct SameBytes {
    checksums: BTreeMap<(String, u64), (String, u64)>,
}

impl Invariant for SameBytes {
    fn name(&self) -> &'static str {
        "same bytes at the same position"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for seen in nodes {
            for database in &seen.status.databases {
                // What needs repair says so and is read by nobody.
                if !database.trouble.is_empty() {
                    continue;
                }
                // Each database of this name has its own contents; their end is compared all the same.
                if database.name.starts_with(databases::AGAIN) {
                    continue;
                }
                let key = (database.name.clone(), database.txid);
                let (checksum, first) = self
                    .checksums
                    .entry(key)
                    .or_insert_with(|| (database.checksum.clone(), seen.node));
                if *checksum != database.checksum {
                    return Err(format!(
                        "{} at txid {} has checksum {checksum} at n{first} and {} at n{}",
                        database.name, database.txid, database.checksum, seen.node
                    ));
                }
            }
        }
        Ok(())
    }
}
