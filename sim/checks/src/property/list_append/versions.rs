//! In which order each list grew, as the longest list that anybody read has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::NAME;
use crate::history::{Element, Key, ListTransaction, NodeId, Operation, OperationId, Step};
use crate::{FinalState, History, Violation};

/// What is known of all lists. Transactions are named by their place in the history.
#[derive(Default)]
pub(super) struct Versions {
    pub(super) lists: BTreeMap<Key, Versioned>,
    /// Reads of committed transactions that agree with the order, without what the transaction itself had appended.
    pub(super) reads: Vec<Read>,
    /// Acknowledged, or seen by somebody.
    pub(super) committed: Vec<bool>,
}

/// One list.
#[derive(Default)]
pub(super) struct Versioned {
    /// Who appended each element, in the order of the list; `None` if nobody did.
    pub(super) order: Vec<Option<usize>>,
    /// Who committed an append that nobody saw, ascending: it comes after all that was seen.
    pub(super) unseen: Vec<usize>,
}

/// A transaction found the first `length` elements of a list.
pub(super) struct Read {
    pub(super) transaction: usize,
    pub(super) key: Key,
    pub(super) length: usize,
}

/// A list as somebody saw it.
#[derive(Clone, Copy)]
struct Seen<'a> {
    source: Source,
    key: Key,
    list: &'a [Element],
    /// How many of its last elements the reading transaction had appended itself.
    own: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Source {
    Transaction(usize, OperationId),
    Node(NodeId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transaction(_, id) => write!(f, "{id}"),
            Self::Node(node) => write!(f, "{node} in the end"),
        }
    }
}

/// Gathers what is known and what is wrong.
struct Survey<'a> {
    history: &'a [Operation<ListTransaction>],
    writers: BTreeMap<(Key, Element), usize>,
    longest: BTreeMap<Key, Seen<'a>>,
    /// What the longest lists hold.
    held: BTreeSet<(Key, Element)>,
    versions: Versions,
    violations: Vec<Violation>,
}

impl Versions {
    /// Also everything that is wrong without regard to order.
    pub(super) fn of(history: &History, end: &FinalState) -> (Self, Vec<Violation>) {
        let mut survey = Survey {
            history: &history.lists,
            writers: BTreeMap::new(),
            longest: BTreeMap::new(),
            held: BTreeSet::new(),
            versions: Self::default(),
            violations: Vec::new(),
        };
        survey.note_writers();
        let mut seen = survey.reads();
        for (node, contents) in &end.nodes {
            for (key, list) in contents.lists.iter().flatten() {
                seen.push(Seen {
                    source: Source::Node(*node),
                    key: *key,
                    list,
                    own: 0,
                });
            }
        }
        survey.order(&seen);
        survey.compare(&seen);
        survey.note_unseen();
        survey.lost(end);
        (survey.versions, survey.violations)
    }
}

impl<'a> Survey<'a> {
    fn accuse(&mut self, source: Source, other: Option<Source>, what: String) {
        let mut violation = Violation::new(NAME, what);
        for source in [Some(source), other].into_iter().flatten() {
            if let Source::Transaction(n, _) = source {
                violation = violation.with(&self.history[n]);
            }
        }
        self.violations.push(violation);
    }

    fn source(&self, transaction: usize) -> Source {
        Source::Transaction(transaction, self.history[transaction].id)
    }

    fn note_writers(&mut self) {
        for (n, transaction) in self.history.iter().enumerate() {
            self.versions.committed.push(transaction.outcome.is_ok());
            for (key, element) in appends(transaction) {
                self.writers.insert((key, element), n);
            }
        }
    }

    /// What acknowledged transactions read. Those whose reads do not show their own appends are accused.
    fn reads(&mut self) -> Vec<Seen<'a>> {
        let mut seen = Vec::new();
        for (n, transaction) in self.history.iter().enumerate() {
            let Some((_, lists)) = transaction.answered() else {
                continue;
            };
            let mut lists = lists.iter();
            let mut appended: BTreeMap<Key, Vec<Element>> = BTreeMap::new();
            for step in &transaction.asked.steps {
                match step {
                    Step::Append { key, element } => {
                        appended.entry(*key).or_default().push(*element)
                    }
                    Step::Read { key } => {
                        let own = appended.get(key).map_or(&[][..], Vec::as_slice);
                        let source = self.source(n);
                        match lists.next() {
                            Some(list) if list.ends_with(own) => seen.push(Seen {
                                source,
                                key: *key,
                                list,
                                own: own.len(),
                            }),
                            Some(_) => self.accuse(
                                source,
                                None,
                                format!("{source} read {key} without its own appends"),
                            ),
                            None => self.accuse(
                                source,
                                None,
                                format!("{source} has no answer to its read of {key}"),
                            ),
                        }
                    }
                }
            }
        }
        seen
    }

    /// The longest lists, and who wrote what is in them.
    fn order(&mut self, seen: &[Seen<'a>]) {
        for seen in seen {
            let longest = self.longest.entry(seen.key).or_insert(*seen);
            if seen.list.len() > longest.list.len() {
                *longest = *seen;
            }
        }
        for (key, seen) in self.longest.clone() {
            self.versions.lists.entry(key).or_default();
            for element in seen.list {
                let writer = self.writers.get(&(key, *element)).copied();
                self.versions
                    .lists
                    .entry(key)
                    .or_default()
                    .order
                    .push(writer);
                if !self.held.insert((key, *element)) {
                    let what = format!("{key} has {element} twice by {}", seen.source);
                    self.accuse(seen.source, writer.map(|writer| self.source(writer)), what);
                }
            }
        }
    }

    /// All other lists are prefixes of the longest ones, and all that is in them was committed by somebody.
    fn compare(&mut self, seen: &[Seen<'a>]) {
        let mut known = BTreeSet::new();
        for seen in seen {
            let longest = self.longest[&seen.key];
            let agrees = longest.list.starts_with(seen.list);
            if !agrees {
                let (key, n) = (seen.key, difference(seen.list, longest.list));
                let what = format!(
                    "{key} has {} at {n} by {} and {} by {}",
                    seen.list[n], seen.source, longest.list[n], longest.source
                );
                self.accuse(seen.source, Some(longest.source), what);
            } else if let Source::Transaction(transaction, _) = seen.source {
                self.versions.reads.push(Read {
                    transaction,
                    key: seen.key,
                    length: seen.list.len() - seen.own,
                });
            }
            // What agrees was looked at with the longest, which comes by as well.
            if !agrees || seen.source == longest.source {
                for element in seen.list {
                    if known.insert((seen.key, *element)) {
                        self.explain(seen, *element);
                    }
                }
            }
        }
    }

    fn explain(&mut self, seen: &Seen<'_>, element: Element) {
        let (key, source) = (seen.key, seen.source);
        match self.writers.get(&(key, element)).copied() {
            None => self.accuse(
                source,
                None,
                format!("{key} has {element} by {source}, and nobody appended it"),
            ),
            Some(writer) if self.history[writer].outcome.is_failed() => {
                let what = format!("{key} has {element} by {source}, and its transaction failed");
                self.accuse(source, Some(self.source(writer)), what);
            }
            Some(writer) => self.versions.committed[writer] = true,
        }
    }

    fn note_unseen(&mut self) {
        for (n, transaction) in self.history.iter().enumerate() {
            if !self.versions.committed[n] {
                continue;
            }
            for append in appends(transaction).filter(|append| !self.held.contains(append)) {
                let versioned = self.versions.lists.entry(append.0).or_default();
                if versioned.unseen.last() != Some(&n) {
                    versioned.unseen.push(n);
                }
            }
        }
    }

    /// Appends of committed transactions are on every node in the end.
    fn lost(&mut self, end: &FinalState) {
        for (node, contents) in &end.nodes {
            let Some(lists) = &contents.lists else {
                continue;
            };
            let held: BTreeSet<(Key, Element)> = lists
                .iter()
                .flat_map(|(key, list)| list.iter().map(|element| (*key, *element)))
                .collect();
            for (n, transaction) in self.history.iter().enumerate() {
                let lost = appends(transaction).find(|append| !held.contains(append));
                if let (true, Some((key, element))) = (self.versions.committed[n], lost) {
                    let source = self.source(n);
                    let what = format!(
                        "{source} appended {element} to {key}, which is not at {node} in the end"
                    );
                    self.accuse(source, None, what);
                }
            }
        }
    }
}

fn appends(transaction: &Operation<ListTransaction>) -> impl Iterator<Item = (Key, Element)> {
    transaction
        .asked
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Append { key, element } => Some((*key, *element)),
            Step::Read { .. } => None,
        })
}

/// Where a list that is not a prefix of a longer one differs from it first.
fn difference(list: &[Element], longest: &[Element]) -> usize {
    let pairs = list.iter().zip(longest);
    pairs.take_while(|(a, b)| a == b).count()
}
