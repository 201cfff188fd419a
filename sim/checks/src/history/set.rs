//! Rows that are only ever inserted: `log(id INTEGER PRIMARY KEY, writer, seq, part, parts)`.
//!
//! Each write inserts all its parts in one transaction, and SQLite hands out the ids: one more than the greatest. Rows are never
//! deleted or changed, so ids have no gaps, those of one write follow each other, and every state of the table is a prefix of one
//! sequence of rows: whoever reads row `id` at any time on any node has to find the same content.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{History, Operation, OperationId, Request, SessionId};

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

impl SetHistory {
    /// Drops the reads that have returned, except of each session the one that saw most and of all the one with most rows: for runs
    /// without an end, whose reads no memory holds.
    ///
    /// To be called after the checks have passed over a history that holds a read of the whole table. What is recorded from then on is
    /// checked against that table, all writes, and what each session had seen. Only reads that are under way now may miss something
    /// unnoticed.
    pub fn forget_reads(&mut self) {
        let mut most: BTreeMap<SessionId, (i64, OperationId)> = BTreeMap::new();
        let mut longest = (0, OperationId(0));
        for read in &self.reads {
            let Some(rows) = read.outcome.ok() else {
                continue;
            };
            let newest = rows.last().map_or(0, |row| row.id);
            let of_session = most.entry(read.caller.session).or_insert((newest, read.id));
            *of_session = (newest, read.id).max(*of_session);
            longest = (rows.len(), read.id).max(longest);
        }
        let mut kept: BTreeSet<OperationId> = most.values().map(|(_, id)| *id).collect();
        kept.insert(longest.1);
        let reads = &mut self.reads;
        reads.retain(|read| read.returned.is_none() || kept.contains(&read.id));
    }
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

#[cfg(test)]
mod tests {
    use crate::check_all;
    use crate::history::{Level, Outcome, ReadRows};
    use crate::script::Script;

    #[test]
    fn forgotten_reads_still_bind_those_that_follow() {
        let mut script = Script::default();
        for seq in 1..=4 {
            script.unknown_insert(1, seq, 1);
        }
        let pending = script.begin(5, Level::Local, ReadRows { after: 0 });
        script.read_up_to(2, Level::Session, 3);
        script.read_up_to(2, Level::Session, 3);
        script.read_up_to(3, Level::Session, 1);
        let whole = script.read_up_to(4, Level::Local, 4);
        script.history.set.forget_reads();
        let kept = script.history.set.reads.iter().map(|read| read.id.0);
        assert_eq!(kept.collect::<Vec<_>>(), [5, 7, 8, whole.0]);
        script.finish(pending, Outcome::Ok(Vec::new()));
        script.read_up_to(2, Level::Session, 3);
        script.end();
        assert_eq!(check_all(&script.history, &script.end), []);

        let mut back = script.clone();
        back.read_up_to(2, Level::Session, 2);
        assert_eq!(
            check_all(&back.history, &back.end)[0].property,
            "session_guarantees"
        );
        let mut gone = script.clone();
        gone.end
            .nodes
            .values_mut()
            .for_each(|contents| contents.rows.as_mut().expect("rows").truncate(3));
        assert_eq!(
            check_all(&gone.history, &gone.end)[0].property,
            "nothing_vanishes"
        );
        script.read(3, Level::Linearizable, 3, &[]);
        assert_eq!(
            check_all(&script.history, &script.end)[0].property,
            "linearizable"
        );
    }
}
