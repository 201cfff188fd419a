//! [`Watcher`]: which rare states the nodes are in, as far as they show from look to look. Only looks.

use std::collections::{BTreeMap, BTreeSet};

use halite::cluster::DISK_HANGS;
use halite::server::{LogEntryView, TroubleView};

use super::Sometimes;
use crate::invariant::{Appended, Seen};

/// See the module.
#[derive(Default)]
pub struct Watcher {
    nodes: BTreeMap<u64, Before>,
    /// Where each transaction was committed, by database and TXID.
    committed: BTreeMap<(u64, u64), u64>,
    /// What was proposed first as each transaction, by database and TXID.
    proposed: BTreeMap<(u64, u64), u64>,
    reached: BTreeSet<Sometimes>,
}

/// A node as it was at the look before.
struct Before {
    start: u64,
    /// Index after the last entry of its log.
    end: u64,
    /// The term that it leads, or has led last.
    led: u64,
    databases: BTreeMap<u64, Database>,
    /// The transaction whose chunks were committed last: its database and its term.
    open_chunks: Option<(u64, u64)>,
}

#[derive(Clone, Copy)]
struct Database {
    trouble: Option<TroubleView>,
    applied: u64,
    target_beyond_log: bool,
    target_in_tail: bool,
}

impl Watcher {
    /// Looks at the nodes that run.
    pub fn look(&mut self, nodes: &[Seen]) {
        for seen in nodes {
            for (index, transaction) in &seen.transactions {
                let key = (transaction.database_id, transaction.txid);
                self.committed.entry(key).or_insert(*index);
            }
            for entry in &seen.log.appended {
                self.appended(entry);
            }
        }
        let newest = nodes.iter().filter_map(|node| node.primary_term).max();
        let was_deposed = |seen: &Seen| leads(seen).is_some_and(|term| Some(term) < newest);
        if nodes.iter().any(was_deposed) {
            self.reached.insert(Sometimes::DeposedUnnoticed);
        }
        let newest_primary = nodes.iter().filter(|node| node.primary_term.is_some());
        let newest_primary = newest_primary.max_by_key(|node| node.primary_term);
        for seen in nodes.iter().filter(|seen| says_that_it_hangs(seen)) {
            let goes_on = newest_primary.is_some_and(|primary| primary.node != seen.node);
            self.reached.insert(match goes_on {
                true => Sometimes::HangingSyncHoldsNobodyUp,
                false => Sometimes::HangingSync,
            });
        }
        let purged = nodes.iter().map(|node| node.log.ends.purged).max();
        for seen in nodes {
            self.look_at(seen, purged.unwrap_or(0));
        }
    }

    /// Something that does not show by looking has happened.
    pub fn reach(&mut self, state: Sometimes) {
        self.reached.insert(state);
    }

    /// What was reached so far.
    pub fn reached(&self) -> &BTreeSet<Sometimes> {
        &self.reached
    }

    /// A log that was seen has let go of a transaction that this database of the node lacks.
    pub fn lacks_what_is_purged(&self, nodes: &[Seen], node: u64, database: &str) -> bool {
        let purged = nodes.iter().map(|seen| seen.log.ends.purged).max();
        let seen = nodes.iter().find(|seen| seen.node == node);
        let said = seen.and_then(|seen| seen.databases.iter().find(|d| d.name == database));
        said.is_some_and(|said| self.lacks(said.id, said.applied, purged.unwrap_or(0)))
    }

    /// A transaction of the database was committed after `applied`, and is purged.
    fn lacks(&self, database: u64, applied: u64, purged: u64) -> bool {
        let of_database = self.committed.range((database, 0)..(database + 1, 0));
        let mut indexes = of_database.map(|(_, index)| *index);
        indexes.any(|index| applied < index && index <= purged)
    }

    fn appended(&mut self, entry: &Appended) {
        if entry.replaces {
            self.reached.insert(Sometimes::TailReplaced);
        }
        if let Some(transaction) = entry.transaction {
            let key = (transaction.database_id, transaction.txid);
            let first = *self.proposed.entry(key).or_insert(entry.digest);
            if first != entry.digest {
                self.reached.insert(Sometimes::SameTxidTwice);
            }
        }
    }

    fn look_at(&mut self, seen: &Seen, purged: u64) {
        let databases: BTreeMap<u64, Database> = seen
            .databases
            .iter()
            .map(|said| {
                // One that is about to be opened is not unwell.
                let is_told = seen
                    .status
                    .databases
                    .iter()
                    .any(|told| told.name == said.name && !told.trouble.is_empty());
                let database = Database {
                    trouble: said
                        .trouble
                        .filter(|trouble| *trouble != TroubleView::NotOpen || is_told),
                    applied: said.applied,
                    target_beyond_log: said.checkpoint_target >= seen.log.ends.end,
                    target_in_tail: said.checkpoint_target < seen.log.ends.end
                        && said.checkpoint_target > seen.known_committed(),
                };
                (said.id, database)
            })
            .collect();
        if seen.page_diffs.broken_off > 0 {
            self.reached.insert(Sometimes::DiffBrokenOff);
        }
        if seen.page_diffs.resumed > 0 {
            self.reached.insert(Sometimes::DiffResumed);
        }
        let before = self.nodes.remove(&seen.node);
        let same_start = before.as_ref().filter(|before| before.start == seen.start);
        let mut open_chunks = same_start.and_then(|before| before.open_chunks);
        if chunks_across(&mut open_chunks, &seen.committed) {
            self.reached.insert(Sometimes::ChunksAcrossPrimaries);
        }
        if let Some(before) = &before {
            if before.start == seen.start {
                self.compare(before, &databases, seen, purged);
                if leads(seen) > Some(before.led) && before.is_unwell() {
                    self.reached.insert(Sometimes::ElectedWhileUnwell);
                }
            } else {
                self.compare_starts(before);
            }
        }
        let led = before.as_ref().map_or(0, |before| before.led);
        let now = Before {
            start: seen.start,
            end: seen.log.ends.end,
            led: leads(seen).unwrap_or(led),
            databases,
            open_chunks,
        };
        self.nodes.insert(seen.node, now);
    }

    fn compare_starts(&mut self, before: &Before) {
        let mut databases = before.databases.values();
        if before.is_unwell() {
            self.reached.insert(Sometimes::RestartedWhileUnwell);
        }
        if databases.clone().any(|d| d.target_beyond_log) {
            self.reached.insert(Sometimes::RestartedWithTargetBeyondLog);
        }
        if databases.any(|d| d.target_in_tail) {
            self.reached.insert(Sometimes::RestartedWithTargetInTail);
        }
    }

    /// Two looks at one life of a node.
    fn compare(
        &mut self,
        before: &Before,
        now: &BTreeMap<u64, Database>,
        seen: &Seen,
        purged: u64,
    ) {
        if seen.log.ends.first > before.end {
            self.reached.insert(Sometimes::SnapshotInstalled);
        }
        for said in &seen.databases {
            let (Some(was), Some(is)) = (before.databases.get(&said.id), now.get(&said.id)) else {
                continue;
            };
            let was_repaired = was.trouble == Some(TroubleView::NeedsRepair);
            if was_repaired && is.trouble != was.trouble {
                self.reached.insert(Sometimes::Repaired);
                if said.checkpoint_done < said.checkpoint_target {
                    self.reached.insert(Sometimes::DiffNotCheckpointed);
                }
            }
            if was_repaired && is.trouble == was.trouble {
                let is_of = |entry: &&LogEntryView| {
                    entry
                        .transaction
                        .is_some_and(|transaction| transaction.database_id == said.id)
                };
                if seen.committed.iter().any(|entry| is_of(&entry)) {
                    self.reached.insert(Sometimes::CommittedDuringRepair);
                }
            }
            if was.trouble.is_some()
                && is.trouble.is_some()
                && self.lacks(said.id, is.applied, purged)
            {
                self.reached.insert(Sometimes::PurgedWhileUnwell);
            }
        }
    }
}

impl Before {
    fn is_unwell(&self) -> bool {
        let mut databases = self.databases.values();
        databases.any(|database| database.trouble.is_some())
    }
}

/// The node says so of its log's disk.
pub fn says_that_it_hangs(seen: &Seen) -> bool {
    let mut databases = seen.status.databases.iter();
    databases.any(|database| database.trouble == DISK_HANGS)
}

/// The term in which the node was elected, if it knows of none since.
fn leads(seen: &Seen) -> Option<u64> {
    let (term, leader, granted) = seen.log.ends.vote;
    (granted && leader == seen.node).then_some(term)
}

/// Follows what is committed; true if another term begins while a transaction lacks its last entry.
fn chunks_across(open: &mut Option<(u64, u64)>, committed: &[LogEntryView]) -> bool {
    let mut across = false;
    for entry in committed {
        across |= open.is_some_and(|(_, term)| entry.term != term);
        if let Some(database) = entry.chunk_of {
            *open = Some((database, entry.term));
        } else if entry.transaction.map(|t| t.database_id) == open.map(|(database, _)| database)
            || open.is_some_and(|(_, term)| entry.term != term)
        {
            *open = None;
        }
    }
    across
}

#[cfg(test)]
mod tests {
    use halite::server::TransactionView;

    use super::*;

    fn entry(term: u64, chunk_of: Option<u64>, closes: Option<u64>) -> LogEntryView {
        LogEntryView {
            index: 1,
            term,
            digest: 0,
            transaction: closes.map(|database_id| TransactionView {
                database_id,
                txid: 1,
                checksum: 0,
                chunks: 0,
            }),
            chunk_of,
            proposal_id: 0,
        }
    }

    #[test]
    fn chunks_that_are_closed_in_their_term_are_across_nothing() {
        let mut open = None;
        let closed = [entry(1, Some(7), None), entry(1, None, Some(7))];
        assert!(!chunks_across(&mut open, &closed));
        assert!(!chunks_across(&mut open, &[entry(2, None, None)]));
        // Another database's transaction closes nothing.
        let other = [entry(2, Some(7), None), entry(2, None, Some(8))];
        assert!(!chunks_across(&mut open, &other));
        assert!(chunks_across(&mut open, &[entry(3, None, None)]));
        assert!(!chunks_across(&mut open, &[entry(4, None, None)]));
    }
}
