//! [`Applier`]: writes pages that were decided elsewhere, as one atomic SQLite transaction. Owns a connection whose main database
//! is in memory and whose `replica` is the file; runs on one thread at a time.

mod page_sink;
mod statement;
mod text_encoding;

use std::sync::Arc;

use halite_ltx::{Checksum, PageNo};
use libsqlite3_sys as ffi;
use rusqlite::Connection;

pub use page_sink::PageSink;

use crate::blank_page::blank_page;
use crate::connection;
use crate::connection_state::{ApplyCheck, ConnectionState, Role};
use crate::database::Database;
use crate::error::{ApplyError, PagerError};
use crate::gate::CommitOutcome;
use crate::page_mask::masked_page_checksum;
use crate::vfs;
use statement::Statement;
use text_encoding::TextEncoding;

/// The state that an apply builds upon and leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyTarget {
    /// Size of the database afterwards, in pages; 0 makes it blank. The lock page counts, though it is never given.
    pub page_count: u32,
    /// Database checksum that must be there before, if known.
    pub expected_pre: Option<Checksum>,
    /// Database checksum that must come out, if known; checked before anything is published.
    pub expected_post: Option<Checksum>,
}

/// Applies pages to a database.
pub struct Applier {
    // Finalized before the connection is closed, which is closed before the database is let go.
    insert: Statement,
    connection: Connection,
    state: Arc<ConnectionState>,
    database: Arc<Database>,
    /// What the connection takes the text of the database for.
    encoding: TextEncoding,
    /// It is another one now: the connection has to be opened anew before it is used again.
    outdated: bool,
    encoding_changed: bool,
}

// SAFETY: the statement belongs to the connection beside it, and both are only used through `&mut Applier`, so by one thread
// at a time, which is all that SQLite's multi-thread mode asks for.
unsafe impl Send for Applier {}

impl Database {
    /// Opens the connection that applies pages.
    pub fn applier(self: &Arc<Self>) -> Result<Applier, PagerError> {
        Applier::open(Arc::clone(self))
    }
}

impl Applier {
    fn open(database: Arc<Database>) -> Result<Self, PagerError> {
        // A file too damaged to tell its encoding may be repaired by what is applied.
        let encoding = connection::read_only(database.path())
            .and_then(|reader| reader.query_row("PRAGMA encoding", [], |row| row.get(0)))
            .map_or(TextEncoding::Utf8, |name: String| {
                TextEncoding::of_name(&name)
            });
        let connection = connection::attached(database.path(), encoding.name())?;
        let state = vfs::connection_state(&connection, c"replica")?;
        *state.role.lock() = Role::Applier(ApplyCheck::default());
        let insert = Statement::prepare(
            &connection,
            c"INSERT INTO sqlite_dbpage(pgno, data, schema) VALUES (?1, ?2, 'replica')",
        )?;
        Ok(Applier {
            insert,
            connection,
            state,
            database,
            encoding,
            outdated: false,
            encoding_changed: false,
        })
    }

    /// The text encoding was changed since this was asked last: no connection that was opened before can go on. This one is opened anew by itself.
    pub fn take_encoding_change(&mut self) -> bool {
        std::mem::take(&mut self.encoding_changed)
    }

    /// The database this applies to.
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Applies one transaction: `fill` gives its pages to the sink, in any order; the last content of a page counts.
    ///
    /// Either everything becomes visible at once, with the target's size and checksum, or nothing does. Returns the database
    /// checksum afterwards.
    pub fn apply<E: From<ApplyError>>(
        &mut self,
        target: ApplyTarget,
        fill: impl FnOnce(&mut PageSink<'_>) -> Result<(), E>,
    ) -> Result<Checksum, E> {
        self.run(target, false, fill)
    }

    /// Brings the database to the exact state of `target` after a crash, whatever prefix of the WAL has survived.
    ///
    /// `fill` gives every page touched after the position that the last checkpoint made durable, up to the target (replaying the
    /// transactions in order does that). In the same atomic transaction every page that only the WAL holds, and every page past
    /// the end of what the WAL says, is put back from the database file. Run it before anything else is written; running it
    /// again after another crash is harmless.
    ///
    /// What readers can see meanwhile, stock programs included:
    /// - before it, what recovery made of the WAL: a prefix of published transactions, so a committed state. Transactions whose
    ///   gate was still shut have no commit frame there. The state may be older or newer than the target;
    /// - during it, the same: nothing becomes visible before the commit frame, and the checksum is compared before that;
    /// - after it, exactly the target.
    ///
    /// A checkpoint that was cut short has copied pages of states up to the target only, provided that its position was recorded
    /// before it began. Readers do not see them: the WAL, synced before pages were copied, holds those pages as well.
    pub fn redo<E: From<ApplyError>>(
        &mut self,
        target: ApplyTarget,
        fill: impl FnOnce(&mut PageSink<'_>) -> Result<(), E>,
    ) -> Result<Checksum, E> {
        self.run(target, true, fill)
    }

    fn run<E: From<ApplyError>>(
        &mut self,
        target: ApplyTarget,
        redo: bool,
        fill: impl FnOnce(&mut PageSink<'_>) -> Result<(), E>,
    ) -> Result<Checksum, E> {
        if self.outdated {
            self.open_again()?;
        }
        self.begin(target)?;
        let filled = self.fill(target, redo, fill);
        let result = match filled {
            Ok((0, _)) => {
                self.rollback();
                self.unchanged(target).map_err(E::from)
            }
            Ok((_, encoding)) => self.commit().map_err(E::from).inspect(|_| {
                self.outdated = encoding.is_some_and(|now| now != self.encoding);
                self.encoding_changed |= self.outdated;
            }),
            Err(error) => {
                self.rollback();
                Err(error)
            }
        };
        *self.state.role.lock() = Role::Applier(ApplyCheck::default());
        result
    }

    fn open_again(&mut self) -> Result<(), ApplyError> {
        let again = Applier::open(Arc::clone(&self.database)).map_err(|error| match error {
            PagerError::Sqlite(error) => ApplyError::Sqlite(error),
            _ => ApplyError::File {
                code: ffi::SQLITE_CANTOPEN,
            },
        })?;
        *self = Applier {
            encoding_changed: self.encoding_changed,
            ..again
        };
        Ok(())
    }

    fn begin(&mut self, target: ApplyTarget) -> Result<(), ApplyError> {
        let begin = self
            .connection
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute([]));
        if let Err(error) = begin {
            self.rollback();
            return Err(if connection::is_busy(&error) {
                ApplyError::WriterActive
            } else {
                error.into()
            });
        }
        // Only now, with the write lock held, does the state stand still.
        let found = self.database.checksum();
        if let Some(expected) = target.expected_pre.filter(|&expected| expected != found) {
            self.rollback();
            return Err(ApplyError::PreChecksum { expected, found });
        }
        *self.state.role.lock() = Role::Applier(ApplyCheck {
            page_count: Some(target.page_count.max(1)),
            blank: target.page_count == 0,
            post_checksum: target.expected_post,
            error: None,
        });
        Ok(())
    }

    /// Writes the pages; returns how many, and the text encoding if page 1 is among them.
    fn fill<E: From<ApplyError>>(
        &mut self,
        target: ApplyTarget,
        redo: bool,
        fill: impl FnOnce(&mut PageSink<'_>) -> Result<(), E>,
    ) -> Result<(u64, Option<TextEncoding>), E> {
        let page_size = self.database.page_size();
        let blank = (target.page_count == 0)
            .then(|| blank_page(page_size, self.database.options.auto_vacuum));
        let present = self.database.page_count().max(1);
        let mut sink = PageSink::new(
            &self.connection,
            &mut self.insert,
            page_size,
            target.page_count,
            redo,
        );
        fill(&mut sink)?;
        #[cfg(feature = "planted-bugs")]
        let redo = redo && !halite_planted::on(halite_planted::Bug::RedoKeepsWal);
        if redo {
            // SAFETY: the connection is open and borrowed by the sink.
            let main = unsafe { vfs::lower_file(&self.state) }.ok_or(ApplyError::File {
                code: ffi::SQLITE_MISUSE,
            })?;
            let index = self
                .database
                .shared
                .file
                .index
                .get()
                .ok_or(ApplyError::File {
                    code: ffi::SQLITE_MISUSE,
                })?;
            sink.put_back(index, main, present)?;
        }
        if let Some(page) = blank {
            sink.insert(PageNo::FIRST, Some(&page))?;
        }
        if target.page_count.max(1) < present {
            sink.truncate()?;
        }
        Ok((sink.written(), sink.encoding()))
    }

    fn commit(&mut self) -> Result<Checksum, ApplyError> {
        let committed = self
            .connection
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]));
        if let Err(error) = committed {
            self.rollback();
            let refused = match &mut *self.state.role.lock() {
                Role::Applier(check) => check.error.take(),
                _ => None,
            };
            return Err(match (refused, *self.state.outcome.lock()) {
                (Some(refused), _) => refused,
                (None, CommitOutcome::FailedAfterOpen) => ApplyError::Write(error),
                (None, _) => error.into(),
            });
        }
        Ok(self.database.checksum())
    }

    /// Nothing was written: the database must be what the target says, as it is.
    fn unchanged(&self, target: ApplyTarget) -> Result<Checksum, ApplyError> {
        let page_size = self.database.page_size();
        let mut committed = self.database.shared.file.stable();
        let Some(state) = committed.as_mut() else {
            return Err(ApplyError::File {
                code: ffi::SQLITE_MISUSE,
            });
        };
        if state.table.page_count() == 0 && target.page_count == 1 {
            // A blank database can also be meant as one empty page, if that is what some transaction led to.
            let page = blank_page(page_size, self.database.options.auto_vacuum);
            let changed = [(PageNo::FIRST, masked_page_checksum(PageNo::FIRST, &page))];
            if Some(state.table.checksum_after(1, &changed)) == target.expected_post {
                state.table.update(1, &changed);
            }
        }
        let (size, found) = (state.table.page_count(), state.table.checksum());
        if size != target.page_count {
            return Err(ApplyError::Size {
                expected: target.page_count,
                found: size,
            });
        }
        match target.expected_post {
            Some(expected) if expected != found => {
                Err(ApplyError::PostChecksum { expected, found })
            }
            _ => Ok(found),
        }
    }

    fn rollback(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, path = %self.database.path().display(), "cannot roll back an apply");
        }
    }
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier")
            .field("path", &self.database.path())
            .finish_non_exhaustive()
    }
}
