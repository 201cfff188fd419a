//! What writers were told and readers saw: the record of [`halite_checks`], shared by all writers and readers of a load.
//!
//! Every write of the load inserts rows into `log(id INTEGER PRIMARY KEY, writer, seq, part, parts)`. Each writer and each reader is a
//! session of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use halite_checks::{
    Caller, Contents, FinalState, Insert, Inserted, Level, NodeId, Outcome, ReadRows, Row,
    SessionId, Ticket, WriteId, check_all, report,
};

/// Everything recorded.
#[derive(Debug)]
pub struct Records {
    /// Operations of all sessions.
    pub operations: halite_checks::History,
    /// How many reads of each reader were answered.
    pub answered_reads: BTreeMap<String, usize>,
    /// Session `n` is the one before place `n`.
    names: Vec<String>,
    newest_acknowledged: i64,
    began: Instant,
}

impl Records {
    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn name(&self, session: SessionId) -> &str {
        let place = session
            .0
            .checked_sub(1)
            .and_then(|n| usize::try_from(n).ok());
        let name = place.and_then(|place| self.names.get(place));
        name.map_or("nobody", String::as_str)
    }

    fn begin_read(&mut self, session: SessionId, level: Level, after: i64) -> Ticket<ReadRows> {
        let caller = Caller {
            session,
            node: None,
            level,
        };
        let now_us = self.now_us();
        self.operations.invoke(caller, now_us, ReadRows { after })
    }

    fn end_read(&mut self, ticket: Ticket<ReadRows>, rows: Result<Vec<Row>>) {
        let now_us = self.now_us();
        let outcome = rows.map_or_else(|error| Outcome::Failed(error.to_string()), Outcome::Ok);
        self.operations.returned(ticket, now_us, outcome);
    }
}

/// Recorder shared by all writers and readers.
#[derive(Debug)]
pub struct History(Mutex<Records>);

impl Default for History {
    fn default() -> Self {
        Self(Mutex::new(Records {
            operations: halite_checks::History::default(),
            answered_reads: BTreeMap::new(),
            names: Vec::new(),
            newest_acknowledged: 0,
            began: Instant::now(),
        }))
    }
}

impl History {
    /// The records; nobody records while they are held.
    pub fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session.
    pub fn session(&self, name: impl Into<String>) -> SessionId {
        let mut records = self.records();
        records.names.push(name.into());
        SessionId(records.names.len() as u64)
    }

    /// A write is about to be sent.
    pub fn begin_insert(&self, session: SessionId, write: WriteId, parts: i64) -> Ticket<Insert> {
        let mut records = self.records();
        let caller = Caller {
            session,
            node: None,
            level: Level::Linearizable,
        };
        let now_us = records.now_us();
        let insert = Insert { write, parts };
        records.operations.invoke(caller, now_us, insert)
    }

    /// A write has ended.
    pub fn end_insert(&self, ticket: Ticket<Insert>, outcome: Outcome<Inserted>) {
        let mut records = self.records();
        if let Outcome::Ok(inserted) = &outcome {
            let newest = inserted.newest.unwrap_or(0);
            records.newest_acknowledged = records.newest_acknowledged.max(newest);
        }
        let now_us = records.now_us();
        records.operations.returned(ticket, now_us, outcome);
    }

    /// A read of all rows with a greater id than `after` is about to be sent.
    pub fn begin_read(&self, session: SessionId, level: Level, after: i64) -> Ticket<ReadRows> {
        self.records().begin_read(session, level, after)
    }

    /// A read has ended. One that fails has seen nothing.
    pub fn end_read(&self, ticket: Ticket<ReadRows>, session: SessionId, rows: Result<Vec<Row>>) {
        let mut records = self.records();
        if rows.is_ok() {
            let name = records.name(session).to_owned();
            *records.answered_reads.entry(name).or_default() += 1;
        }
        records.end_read(ticket, rows);
    }

    /// The newest id acknowledged to anybody.
    pub fn newest_acknowledged(&self) -> i64 {
        self.records().newest_acknowledged
    }

    /// Writes acknowledged, unknown and failed.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for insert in &self.records().operations.set.inserts {
            counts[match insert.outcome {
                Outcome::Ok(_) => 0,
                Outcome::Unknown(_) => 1,
                Outcome::Failed(_) => 2,
            }] += 1;
        }
        counts
    }

    /// Checks everything recorded against the whole table that one node holds while no writer is at work; how many rows that is.
    ///
    /// Nobody records meanwhile, so `table` is read after all that is recorded. What was checked is forgotten as far as it can be.
    ///
    /// # Errors
    /// A promise was broken, or the table cannot be read.
    pub fn check(&self, node: u64, table: impl FnOnce() -> Result<Vec<Row>>) -> Result<usize> {
        let session = self.session(format!("the file of node {node} at rest"));
        let mut records = self.records();
        let ticket = records.begin_read(session, Level::Local, 0);
        let table = table()?;
        records.end_read(ticket, Ok(table.clone()));
        let rows = table.len();
        let contents = Contents {
            rows: Some(table),
            ..Contents::default()
        };
        let end = FinalState {
            nodes: BTreeMap::from([(NodeId(node), contents)]),
        };
        let violations = check_all(&records.operations, &end);
        if let Some(report) = report(&violations) {
            let sessions: Vec<String> = (1..)
                .map(SessionId)
                .zip(&records.names)
                .map(|(session, name)| format!("  {session} is {name}"))
                .collect();
            bail!("{report}\n{}", sessions.join("\n"));
        }
        records.operations.set.forget_reads();
        Ok(rows)
    }
}
