//! Looking at the nodes: what they say, and what their logs hold.

use std::collections::{BTreeMap, BTreeSet};

use halite::server::{LogEntryView, LogView, NodeView, TransactionView};

use super::World;
use crate::invariant::{Appended, Log, Seen};
use crate::node::Node;

/// So many of the newest entries are read at each look, to see whether the log was cut and written anew.
const READ_AGAIN: u64 = 8;
/// So many of the newest entries are shown to invariants.
const TERMS_SHOWN: usize = 64;

/// What was seen so far.
#[derive(Default)]
pub(super) struct Eyes {
    /// The log of each node, as it was when the node was last seen: a node that is down still has it, but for what it had not synced.
    logs: BTreeMap<u64, Copy>,
    /// Up to where each log was committed: start of the node and index.
    committed: BTreeMap<u64, (u64, u64)>,
    /// Indexes of the committed parts of transactions, by their proposal and term.
    parts: BTreeMap<(u64, u64), BTreeSet<u64>>,
    /// Checksum of each committed transaction, by database id and TXID.
    pub(super) transactions: BTreeMap<(u64, u64), u64>,
    /// Names of databases by their id.
    pub(super) databases: BTreeMap<u64, String>,
}

#[derive(Default)]
struct Copy {
    start: u64,
    entries: BTreeMap<u64, (u64, u64)>,
}

impl Eyes {
    /// The transactions among entries that are newly said to be committed, with their indexes, and without those that lack a part.
    fn whole_transactions(&mut self, committed: &[LogEntryView]) -> Vec<(u64, TransactionView)> {
        let mut whole = Vec::new();
        for entry in committed {
            let proposal = (entry.proposal_id, entry.term);
            if entry.chunk_of.is_some() {
                self.parts.entry(proposal).or_default().insert(entry.index);
            }
            let Some(transaction) = entry.transaction else {
                continue;
            };
            let parts = self.parts.get(&proposal).map_or(0, BTreeSet::len);
            if parts != transaction.chunks as usize {
                continue;
            }
            whole.push((entry.index, transaction));
            let key = (transaction.database_id, transaction.txid);
            // A second one of that number is passed over by everybody.
            self.transactions.entry(key).or_insert(transaction.checksum);
        }
        whole
    }
}

impl World {
    /// Looks at all nodes that run.
    pub(super) fn look(&mut self) {
        let seen: Vec<Seen> = self
            .nodes
            .values()
            .filter_map(|node| see(node, &mut self.eyes))
            .collect();
        for node in &seen {
            let line = line_of(node);
            if self.last_seen.get(&node.node) != Some(&line) {
                self.trace.note(format_args!("n{} {line}", node.node));
                self.last_seen.insert(node.node, line);
            }
        }
        self.watcher.look(&seen);
        let newest = seen.iter().filter_map(|node| node.primary_term).max();
        if newest > self.newest_term {
            if self.newest_term.is_some() {
                self.failovers_us.push(self.trace.now_us());
            }
            self.newest_term = newest;
        }
        let mut wrong = Vec::new();
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.look(&seen) {
                wrong.push((invariant.name(), what));
            }
        }
        for (property, what) in wrong {
            self.violated(property, what);
        }
        self.seen = seen;
    }
}

fn see(node: &Node, eyes: &mut Eyes) -> Option<Seen> {
    let view = node.view()?;
    let said = view.status()?;
    let (status, topology) = (said.node?, said.topology?);
    let ends = view.log()?;
    let start = node.starts();
    let log = see_log(&view, ends, eyes.logs.entry(node.id).or_default(), start);
    // A follower hears what is committed before its log is what the primary's is.
    let up_to = match view.primary_term() {
        Some(_) => status.committed_index,
        None => status.committed_index.min(status.applied_index),
    };
    let committed = see_committed(&view, node.id, start, up_to, eyes);
    let transactions = eyes.whole_transactions(&committed);
    let databases = view.databases();
    let names = databases.iter().map(|d| (d.id, d.name.clone()));
    eyes.databases.extend(names);
    Some(Seen {
        databases,
        page_diffs: view.page_diffs(),
        node: node.id,
        start,
        primary_term: view.primary_term(),
        damaged: node.is_damaged(),
        log_damaged: node.log_is_damaged(),
        disks_are_others: node.disks_are_others(),
        status,
        topology,
        committed,
        transactions,
        log,
    })
}

/// What is newly said to be committed.
fn see_committed(
    view: &NodeView,
    node: u64,
    start: u64,
    to: u64,
    eyes: &mut Eyes,
) -> Vec<LogEntryView> {
    let from = match eyes.committed.get(&node) {
        Some((known, index)) if *known == start => index + 1,
        _ => 1,
    };
    // A disk that cannot be read shows elsewhere.
    let entries = (from <= to).then(|| view.entries(from, to)).flatten();
    let entries = entries.and_then(Result::ok).unwrap_or_default();
    if let Some(last) = entries.last() {
        eyes.committed.insert(node, (start, last.index));
    }
    entries
}

/// Brings the copy of a log up to date.
fn see_log(view: &NodeView, ends: LogView, copy: &mut Copy, start: u64) -> Log {
    if copy.start != start {
        *copy = Copy {
            start,
            ..Copy::default()
        };
    }
    copy.entries = copy.entries.split_off(&ends.first);
    copy.entries.split_off(&ends.end);
    let known = copy
        .entries
        .last_key_value()
        .map_or(0, |(last, _)| last + 1);
    let mut from = known.saturating_sub(READ_AGAIN).max(ends.first);
    let read = |from: u64| {
        let entries = (from < ends.end).then(|| view.entries(from, ends.end - 1));
        entries.flatten().and_then(Result::ok).unwrap_or_default()
    };
    let mut entries = read(from);
    let same =
        |entry: &LogEntryView| copy.entries.get(&entry.index) == Some(&(entry.term, entry.digest));
    if from > ends.first && !entries.first().is_some_and(same) {
        from = ends.first;
        entries = read(from);
    }
    let mut before = from
        .checked_sub(1)
        .and_then(|i| copy.entries.get(&i))
        .map(|e| e.0);
    let mut appended = Vec::new();
    for entry in entries {
        let new = (entry.term, entry.digest);
        let old = copy.entries.insert(entry.index, new);
        if old != Some(new) {
            appended.push(Appended {
                transaction: entry.transaction,
                chunk_of: entry.chunk_of,
                replaces: old.is_some(),
                index: entry.index,
                term: entry.term,
                digest: entry.digest,
                term_before: before,
            });
        }
        before = Some(entry.term);
    }
    Log {
        ends,
        terms: copy
            .entries
            .iter()
            .rev()
            .take(TERMS_SHOWN)
            .map(|(index, (term, _))| (*index, *term))
            .collect(),
        appended,
    }
}

fn line_of(seen: &Seen) -> String {
    let status = &seen.status;
    let databases: Vec<String> = status
        .databases
        .iter()
        .map(|d| format!("{}@{}/{}{}", d.name, d.txid, d.checksum, d.trouble))
        .collect();
    format!(
        "{:?} term={} log={}..{} flushed={} committed={} applied={} {}",
        status.role(),
        status.term,
        seen.log.ends.first,
        seen.log.ends.end,
        seen.log.ends.flushed,
        status.committed_index,
        status.applied_index,
        databases.join(" ")
    )
}
