//! Which transaction must have come before which.

use std::collections::BTreeMap;
use std::fmt;

use super::versions::Versions;
use crate::History;
use crate::history::{Key, Level, ListTransaction, Operation};

/// Why a node comes before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    WriteWrite(Key),
    WriteRead(Key),
    ReadWrite(Key),
    RealTime,
    Session,
    /// Leaves a helper node; the edge that led there says why.
    Onward,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteWrite(key) => write!(f, "write-write {key}"),
            Self::WriteRead(key) => write!(f, "write-read {key}"),
            Self::ReadWrite(key) => write!(f, "read-write {key}"),
            Self::RealTime => f.write_str("real time"),
            Self::Session => f.write_str("session"),
            Self::Onward => f.write_str("onward"),
        }
    }
}

/// The first nodes are the transactions of the history; helpers follow, which keep the number of edges linear.
pub(super) struct Graph {
    transactions: usize,
    pub(super) edges: Vec<Vec<(usize, Edge)>>,
}

impl Graph {
    pub(super) fn of(history: &History, versions: &Versions) -> Self {
        let transactions = history.lists.len();
        let mut graph = Self {
            transactions,
            edges: vec![Vec::new(); transactions],
        };
        graph.data(versions);
        let committed: Vec<usize> = (0..transactions)
            .filter(|n| versions.committed[*n])
            .collect();
        let strict = |operation: &Operation<ListTransaction>| {
            operation.asked.appends() || operation.caller.level == Level::Linearizable
        };
        graph.time(&history.lists, &committed, Edge::RealTime, strict);
        let mut sessions: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for n in committed {
            let session = history.lists[n].caller.session;
            sessions.entry(session).or_default().push(n);
        }
        for of_session in sessions.values() {
            graph.time(&history.lists, of_session, Edge::Session, |operation| {
                operation.caller.level == Level::Session && !strict(operation)
            });
        }
        graph
    }

    /// Any graph whose first nodes are transactions.
    #[cfg(test)]
    pub(super) fn from_edges(transactions: usize, edges: Vec<Vec<(usize, Edge)>>) -> Self {
        Self {
            transactions,
            edges,
        }
    }

    /// The transaction that a node is.
    pub(super) fn transaction(&self, node: usize) -> Option<usize> {
        (node < self.transactions).then_some(node)
    }

    fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.edges[from].push((to, edge));
        }
    }

    fn helper(&mut self) -> usize {
        self.edges.push(Vec::new());
        self.edges.len() - 1
    }

    fn data(&mut self, versions: &Versions) {
        let mut ends = BTreeMap::new();
        for (key, list) in &versions.lists {
            for pair in list.order.windows(2) {
                if let [Some(writer), Some(next)] = *pair {
                    self.add(writer, next, Edge::WriteWrite(*key));
                }
            }
            if !list.unseen.is_empty() {
                let end = self.helper();
                ends.insert(*key, end);
                for writer in &list.unseen {
                    self.add(end, *writer, Edge::Onward);
                }
                if let Some(Some(last)) = list.order.last() {
                    self.before_unseen(*last, end, &list.unseen, Edge::WriteWrite(*key));
                }
            }
        }
        for read in &versions.reads {
            let (reader, key) = (read.transaction, read.key);
            let list = &versions.lists[&key];
            let last = read.length.checked_sub(1).and_then(|last| list.order[last]);
            if let Some(writer) = last {
                self.add(writer, reader, Edge::WriteRead(key));
            }
            // A transaction reads before it appends, or its own appends are not counted: the next element is the first of another one,
            // or its own.
            match list.order.get(read.length) {
                Some(Some(next)) => self.add(reader, *next, Edge::ReadWrite(key)),
                Some(None) => {}
                None => {
                    if let Some(end) = ends.get(&key) {
                        self.before_unseen(reader, *end, &list.unseen, Edge::ReadWrite(key));
                    }
                }
            }
        }
    }

    /// `from` comes before all that nobody saw; through the helper, unless that would lead back to itself.
    fn before_unseen(&mut self, from: usize, end: usize, unseen: &[usize], edge: Edge) {
        if unseen.binary_search(&from).is_ok() {
            for writer in unseen {
                self.add(from, *writer, edge);
            }
        } else {
            self.add(from, end, edge);
        }
    }

    /// Whoever had returned comes before those that began later and are `held` to it. A chain of helpers stands for time.
    fn time(
        &mut self,
        operations: &[Operation<ListTransaction>],
        scope: &[usize],
        edge: Edge,
        held: impl Fn(&Operation<ListTransaction>) -> bool,
    ) {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for n in scope {
            let operation = &operations[*n];
            if let Some((returned, _)) = operation.answered() {
                moments.push((returned.order, false, *n));
            }
            if held(operation) {
                moments.push((operation.invoked.order, true, *n));
            }
        }
        moments.sort_unstable();
        let mut now: Option<usize> = None;
        let mut fresh = false;
        for (_, begins, n) in moments {
            if begins {
                if let Some(now) = now {
                    self.add(now, n, Edge::Onward);
                }
                fresh = false;
                continue;
            }
            // Operations that return with no beginning between them share a helper.
            let helper = match now {
                Some(now) if fresh => now,
                _ => self.helper(),
            };
            if let Some(earlier) = now {
                self.add(earlier, helper, Edge::Onward);
            }
            self.add(n, helper, edge);
            (now, fresh) = (Some(helper), true);
        }
    }
}
