//! What writers were told and readers saw.
//!
//! Every write of the load inserts rows into `log(id INTEGER PRIMARY KEY, writer, seq, part, parts)`. Ids are handed out by SQLite in
//! commit order and rows are never deleted, so every state of the database is a prefix of one sequence of rows: whoever reads row
//! `id` at any time on any node has to find the same content.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One write of one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId {
    /// Number of the writer.
    pub writer: i64,
    /// Its writes count from 1.
    pub seq: i64,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Rowid.
    pub id: i64,
    /// The write it belongs to.
    pub write: WriteId,
    /// Which of the rows of this write, from 0.
    pub part: i64,
    /// How many rows the write has.
    pub parts: i64,
}

/// What a writer was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept.
    Acknowledged,
    /// It may be kept.
    Unknown(String),
    /// It is not kept.
    Failed(String),
}

/// How fresh a read was promised to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A node's own file, through the node or through `sqlite3`.
    Local,
    /// Monotonic within the session.
    Session,
    /// Everything acknowledged before.
    Linearizable,
}

/// One read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Who read: a session, or a node's file.
    pub reader: String,
    /// What it was promised.
    pub level: Level,
    /// The newest id acknowledged to anybody before the read began.
    pub acknowledged_before: i64,
    /// The newest id it saw; 0 for none.
    pub newest: i64,
}

/// A row as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The row.
    pub row: Row,
    /// Who saw it first.
    pub reader: String,
}

/// Everything recorded.
#[derive(Debug, Default)]
pub struct Records {
    /// By write.
    pub outcomes: BTreeMap<WriteId, (Outcome, i64)>,
    /// By row id.
    pub seen: BTreeMap<i64, Sighting>,
    /// In the order in which they ended.
    pub readings: Vec<Reading>,
    /// Two readers saw different rows under one id.
    pub contradictions: Vec<(Sighting, Sighting)>,
    newest_acknowledged: i64,
}

/// Recorder shared by all writers and readers.
#[derive(Debug, Default)]
pub struct History(Mutex<Records>);

impl History {
    /// The records; nobody records while they are held.
    pub fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write has ended. `newest` is the last id it was told, if it was told one.
    pub fn wrote(&self, write: WriteId, parts: i64, outcome: Outcome, newest: Option<i64>) {
        let mut records = self.records();
        if outcome == Outcome::Acknowledged {
            let newest = newest.unwrap_or(0);
            records.newest_acknowledged = records.newest_acknowledged.max(newest);
        }
        records.outcomes.insert(write, (outcome, parts));
    }

    /// The newest id acknowledged to anybody.
    pub fn newest_acknowledged(&self) -> i64 {
        self.records().newest_acknowledged
    }

    /// A read has ended.
    pub fn read(&self, reading: Reading, rows: &[Row]) {
        let mut records = self.records();
        for &row in rows {
            let sighting = Sighting {
                row,
                reader: reading.reader.clone(),
            };
            let first = records
                .seen
                .entry(row.id)
                .or_insert_with(|| sighting.clone());
            if first.row != row {
                let first = first.clone();
                records.contradictions.push((first, sighting));
            }
        }
        records.readings.push(reading);
    }

    /// Writes acknowledged, unknown and failed.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for (outcome, _) in self.records().outcomes.values() {
            counts[match outcome {
                Outcome::Acknowledged => 0,
                Outcome::Unknown(_) => 1,
                Outcome::Failed(_) => 2,
            }] += 1;
        }
        counts
    }
}
