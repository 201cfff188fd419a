//! Rows that are only ever inserted: `log(id INTEGER PRIMARY KEY, writer, seq, part, parts)`.
//!
//! Each write inserts all its parts in one transaction, and SQLite hands out the ids: one more than the greatest. Rows are never
//! deleted or changed, so ids have no gaps, those of one write follow each other, and every state of the table is a prefix of one
//! sequence of rows: whoever reads row `id` at any time on any node has to find the same content.

use std::fmt;

use super::{History, Operation, Request};

/// One write of one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId {
    /// Number of the writer.
    pub writer: i64,
    /// Its writes count from 1; no two operations have the same.
    pub seq: i64,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Rowid, from 1.
    pub id: i64,
    /// The write it belongs to.
    pub write: WriteId,
    /// Which of the rows of this write, from 0.
    pub part: i64,
    /// How many rows the write has.
    pub parts: i64,
}

/// Insert all parts of a write in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insert {
    /// Which write.
    pub write: WriteId,
    /// How many rows, at least 1.
    pub parts: i64,
}

/// What a writer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inserted {
    /// The id of its last row, if it was told.
    pub newest: Option<i64>,
}

/// Read all rows with an id greater than `after`, in the order of their ids. The answer is these rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRows {
    /// 0 for the whole table.
    pub after: i64,
}

/// Operations of this workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SetHistory {
    /// Writes.
    pub inserts: Vec<Operation<Insert>>,
    /// Reads.
    pub reads: Vec<Operation<ReadRows>>,
}

impl Request for Insert {
    type Answer = Inserted;

    fn list_mut(history: &mut History) -> &mut Vec<Operation<Self>> {
        &mut history.set.inserts
    }
}

impl Request for ReadRows {
    type Answer = Vec<Row>;

    fn list_mut(history: &mut History) -> &mut Vec<Operation<Self>> {
        &mut history.set.reads
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writer {} seq {}", self.writer, self.seq)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            write,
            part,
            parts,
        } = self;
        write!(f, "row {id} ({write}, part {part} of {parts})")
    }
}

impl fmt::Display for Insert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "insert {} with {} rows", self.write, self.parts)
    }
}

impl fmt::Display for ReadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read rows after {}", self.after)
    }
}
