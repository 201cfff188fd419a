//! Everybody who saw rows of the set, in one shape: each read that was answered, and each node's table in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::history::{Insert, NodeId, Operation, ReadRows, Row, WriteId};
use crate::violation::{Shown, Violation};
use crate::{FinalState, History};

/// Who saw rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Read(&'a Operation<ReadRows>),
    Node(NodeId),
}

/// The rows with an id greater than `after`, as somebody saw them at one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) after: i64,
    pub(crate) rows: &'a [Row],
}

impl Table<'_> {
    /// The operation, if it was one.
    pub(crate) fn operation(&self) -> Option<&dyn Shown> {
        match self.source {
            Source::Read(read) => Some(read),
            Source::Node(_) => None,
        }
    }

    /// A violation that this table proves.
    pub(crate) fn accuse(&self, property: &'static str, what: String) -> Violation {
        Violation::new(property, what).with_some(self.operation())
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(read) => write!(f, "read {}", read.id),
            Self::Node(node) => write!(f, "{node} in the end"),
        }
    }
}

/// All tables, in the order in which they were known: reads by their return, then nodes.
pub(crate) fn tables<'a>(history: &'a History, end: &'a FinalState) -> Vec<Table<'a>> {
    let mut reads: Vec<_> = history
        .set
        .reads
        .iter()
        .filter_map(|read| {
            let (moment, rows) = read.answered()?;
            let table = Table {
                source: Source::Read(read),
                after: read.asked.after,
                rows,
            };
            Some((moment.order, table))
        })
        .collect();
    reads.sort_unstable_by_key(|(order, _)| *order);
    let reads = reads.into_iter().map(|(_, table)| table);
    reads.chain(final_tables(end)).collect()
}

/// The tables of the nodes in the end.
pub(crate) fn final_tables(end: &FinalState) -> impl Iterator<Item = Table<'_>> {
    end.nodes.iter().filter_map(|(node, contents)| {
        Some(Table {
            source: Source::Node(*node),
            after: 0,
            rows: contents.rows.as_deref()?,
        })
    })
}

/// Each different row that anybody saw, with the first table that has it, in the order of these tables.
///
/// Readers look at the same rows again and again; what follows looks at each once.
pub(crate) fn sightings<'t, 'a>(tables: &'t [Table<'a>]) -> Vec<(Row, &'t Table<'a>)> {
    let rows_max = tables.iter().map(|table| table.rows.len()).sum::<usize>();
    // Indexed by id; ids that no good run can have go the slow way with those that contradict.
    let mut usual: Vec<Option<Row>> = Vec::new();
    let mut others = BTreeSet::new();
    let mut sightings = Vec::new();
    for table in tables {
        for row in table.rows {
            let index = usize::try_from(row.id).unwrap_or(usize::MAX);
            if index <= rows_max {
                if index >= usual.len() {
                    usual.resize(index + 1, None);
                }
                let first = usual[index].get_or_insert_with(|| {
                    sightings.push((*row, table));
                    *row
                });
                if first == row {
                    continue;
                }
            }
            if others.insert(*row) {
                sightings.push((*row, table));
            }
        }
    }
    sightings
}

/// All inserts by what they write.
pub(crate) fn writes(history: &History) -> BTreeMap<WriteId, &Operation<Insert>> {
    let inserts = history.set.inserts.iter();
    inserts.map(|insert| (insert.asked.write, insert)).collect()
}
