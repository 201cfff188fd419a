//! Transactions without foreign keys, for making a table anew: the way that SQLite's own advice for ALTER TABLE has it.
//!
//! Foreign keys can only be switched between transactions, and calls share the connection: they are switched off right before such a transaction,
//! which runs alone, and on again right after it. It is committed if it leaves no violation that was not there before.
//!
//! Called by `batch` and `interactive`, on the lane's thread. Must never leave the connection without foreign keys to the next caller.

use std::collections::BTreeMap;

use halite_proto::v1;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use super::Lane;
use super::batch::{Entry, Outcome, answer, at_the_end, outcomes, weight};
use super::commit::Verdict;
use crate::database::failure::describe;
use crate::database::guard::{Guard, Mode, Terms};
use crate::database::{WriteJob, failure, pragma, statement};

/// A row whose parent is missing: its table, its rowid if it has one, the parent's table. A table may have several such rows without a rowid.
type Violations = BTreeMap<(String, Option<i64>, String), u64>;

impl Lane {
    /// Runs a job as a transaction without foreign keys.
    pub(super) fn rebuild(&mut self, mut job: WriteJob) {
        let shadows = job
            .statements
            .iter()
            .any(|statement| pragma::is_writable_schema_on(&statement.sql));
        let began = self
            .foreign_keys_off()
            .and_then(|()| self.shadow_tables(shadows))
            .and_then(|()| self.begin())
            .map_err(|error| self.explain(error));
        let outcome = match began {
            Ok(()) => self.run_job(&mut job),
            Err(error) => Outcome::Failed(error),
        };
        let checked = match &outcome {
            Outcome::Wrote(_) => self
                .check_foreign_keys(&job.terms())
                .map_err(|error| at_the_end(&job, error)),
            _ => Ok(()),
        };
        let outcome = checked.map_or_else(Outcome::Failed, |()| outcome);
        let wrote = matches!(outcome, Outcome::Wrote(_));
        let entries = vec![Entry { job, outcome }];
        let verdict = if wrote {
            self.commit(outcomes(&entries), |lane| lane.own("COMMIT"))
        } else {
            Verdict::NothingWritten
        };
        self.end_rebuild();
        let verdict = verdict.explained(|error| self.explain(error));
        self.tell(verdict, weight(&entries), |told| answer(entries, told));
        self.retry_unwritten();
    }

    /// To be called outside a transaction, and followed by [`end_rebuild`](Self::end_rebuild).
    pub(super) fn foreign_keys_off(&self) -> rusqlite::Result<()> {
        self.connection().pragma_update(None, "foreign_keys", false)
    }

    /// Whether the tables behind virtual tables may be written: a dump has them row by row.
    pub(super) fn shadow_tables(&self, writable: bool) -> rusqlite::Result<()> {
        self.connection()
            .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, !writable)
            .map(drop)
    }

    /// Rolls back what is open, and brings the connection back to what everybody else gets.
    pub(super) fn end_rebuild(&mut self) {
        if !self.writer_is_idle()
            && let Err(error) = self.own("ROLLBACK")
        {
            tracing::error!(database = %self.spec.name, %error, "rollback failed");
        }
        let restored = self.shadow_tables(false).and_then(|()| {
            // SQLite prepares all statements anew after it.
            self.connection().pragma_update(None, "foreign_keys", true)
        });
        if restored.is_err() || !pragma::enforces_foreign_keys(self.connection()) {
            tracing::warn!(database = %self.spec.name, ?restored, "foreign keys stay off, opening the writer anew");
            let reopened = self.reopen_writer();
            assert!(
                reopened.is_ok(),
                "a connection that enforces foreign keys can be had: {}",
                reopened
                    .err()
                    .map(|error| describe(&error))
                    .unwrap_or_default()
            );
        }
    }

    /// Looks for violations that the open transaction has made.
    pub(super) fn check_foreign_keys(&self, terms: &Terms) -> Result<(), v1::Error> {
        let found = self.guard.armed(Mode::Caller, terms, || {
            violations(self.connection(), &self.guard)
        });
        if matches!(&found, Ok(found) if found.is_empty()) {
            return Ok(());
        }
        // Nobody else writes meanwhile: what is committed is what was there before.
        let internal = |error| failure::internal(format!("reader cannot be guarded: {error}"));
        let mut reader = self
            .pager
            .reader()
            .map_err(|error| failure::internal(describe(&error)))?;
        let inbox = self.inbox.clone();
        let guard = Guard::install(&mut reader, &self.pager, self.host.clone(), move || {
            inbox.interrupted()
        })
        .map_err(internal)?;
        let before = guard.armed(Mode::Caller, terms, || violations(&reader, &guard));
        match (found, before) {
            (Ok(found), Ok(before)) => compare(&found, &before),
            (Ok(found), Err(_)) => compare(&found, &Violations::new()),
            // It could not be checked before, either.
            (Err(error), Err(before)) if error.message == before.message => Ok(()),
            (Err(error), _) => Err(error),
        }
    }
}

fn violations(connection: &Connection, guard: &Guard) -> Result<Violations, v1::Error> {
    let explain = |error| statement::explain(error, guard);
    let mut check = connection
        .prepare("PRAGMA foreign_key_check")
        .map_err(explain)?;
    let mut rows = check.raw_query();
    let mut found = Violations::new();
    while let Some(row) = rows.next().map_err(explain)? {
        let key = (
            row.get(0).map_err(explain)?,
            row.get(1).map_err(explain)?,
            row.get(2).map_err(explain)?,
        );
        *found.entry(key).or_default() += 1;
    }
    Ok(found)
}

fn compare(found: &Violations, before: &Violations) -> Result<(), v1::Error> {
    let new = found
        .iter()
        .filter(|(key, count)| before.get(key).is_none_or(|before| before < count));
    let mut new = new.peekable();
    let Some(((table, rowid, parent), _)) = new.peek() else {
        return Ok(());
    };
    let rowid = rowid.map_or_else(|| "none".to_owned(), |rowid| rowid.to_string());
    let message = format!(
        "FOREIGN KEY constraint failed: foreign_key_check finds what was not there before: table={table:?} rowid={rowid} parent={parent:?} rows={}",
        new.count()
    );
    Err(failure::sql(message, ffi::SQLITE_CONSTRAINT_FOREIGNKEY))
}
