//! [`Cursor`]: a statement that is half run and its connection, as one value that can be put aside and go on later, on any thread.
//!
//! Owns both while it lives. Knows nothing of who reads, and holds whatever the statement holds: as a rule a read transaction. Called by the
//! node's reader threads.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, Statement};

/// A statement ready to be stepped, from the connection's cache or not.
pub enum Prepared<'c> {
    /// Goes back to the cache when it is dropped.
    Cached(CachedStatement<'c>),
    /// Is finalized when it is dropped.
    Plain(Statement<'c>),
}

impl<'c> Prepared<'c> {
    /// Prepares a statement, `cached` or not.
    ///
    /// # Errors
    /// SQLite's.
    pub fn new(
        connection: &'c Connection,
        sql: &str,
        cached: bool,
    ) -> Result<Self, rusqlite::Error> {
        if cached {
            connection.prepare_cached(sql).map(Prepared::Cached)
        } else {
            connection.prepare(sql).map(Prepared::Plain)
        }
    }
}

impl<'c> Deref for Prepared<'c> {
    type Target = Statement<'c>;

    fn deref(&self) -> &Self::Target {
        match self {
            Prepared::Cached(statement) => statement,
            Prepared::Plain(statement) => statement,
        }
    }
}

impl DerefMut for Prepared<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Prepared::Cached(statement) => statement,
            Prepared::Plain(statement) => statement,
        }
    }
}

/// See the module.
///
/// Nobody outside can put another statement into it, or bind values that are not plain: what moves to another thread is this connection and its
/// own statement only.
pub struct Cursor {
    /// Borrows from the connection, so it ends first. Always the connection's own; never lent out mutably, never lent out for longer than the
    /// cursor is borrowed.
    statement: ManuallyDrop<Prepared<'static>>,
    /// From a box that is freed when the statement has ended.
    connection: NonNull<Connection>,
}

// SAFETY: a connection may be used on any thread, by one at a time (rusqlite says so with its own `Send`), and so may its statements. What is
// not `Send` in a statement are its references to the connection, and they move along with it: the box was handed over by value, so nothing else
// refers to the connection; the statement was prepared here on this very connection, and no call lends either out for longer than it borrows
// the cursor, which is not `Sync`.
unsafe impl Send for Cursor {}

impl Cursor {
    /// Prepares a statement on `connection`, which the cursor keeps; given back, with the error, if that fails.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(
        connection: Box<Connection>,
        sql: &str,
        cached: bool,
    ) -> Result<Cursor, (Box<Connection>, rusqlite::Error)> {
        let connection = NonNull::from(Box::leak(connection));
        // SAFETY: the box was just leaked, so it lives until it is freed: in this file only, after the statement has ended. Until then it is
        // only shared, never borrowed mutably.
        match Prepared::new(unsafe { connection.as_ref() }, sql, cached) {
            Ok(statement) => Ok(Cursor {
                statement: ManuallyDrop::new(statement),
                connection,
            }),
            // SAFETY: the pointer came from a box and is freed once; no statement was made, and an error of rusqlite borrows nothing.
            Err(error) => Err((unsafe { Box::from_raw(connection.as_ptr()) }, error)),
        }
    }

    /// What is known of the statement.
    pub fn statement(&self) -> &Statement<'_> {
        &self.statement
    }

    /// Gives a parameter its value.
    ///
    /// # Errors
    /// SQLite's.
    pub fn bind(&mut self, index: usize, value: ValueRef<'_>) -> Result<(), rusqlite::Error> {
        self.statement
            .raw_bind_parameter(index, ToSqlOutput::Borrowed(value))
    }

    /// Steps to the next row and shows it to `take`; `None` after the last one.
    ///
    /// # Errors
    /// SQLite's. The statement is over then.
    pub fn next<T>(
        &mut self,
        take: impl FnOnce(&Row<'_>) -> T,
    ) -> Result<Option<T>, rusqlite::Error> {
        let mut rows = self.statement.raw_query();
        let taken = rows.next()?.map(take);
        // Dropping the rows would reset the statement. Forgotten, they leave it where it is; they own nothing. After the last row and after an
        // error it has been reset already.
        std::mem::forget(rows);
        Ok(taken)
    }

    /// Gives the memory back that the connection holds of the file and does not need where the statement stands.
    ///
    /// # Errors
    /// SQLite's; nothing of the statement has changed.
    pub fn release_memory(&self) -> Result<(), rusqlite::Error> {
        // SAFETY: it lives as long as the cursor, and is only ever shared.
        unsafe { self.connection.as_ref() }.execute_batch("PRAGMA shrink_memory")
    }

    /// Ends the statement, wherever it is, and gives the connection back.
    pub fn close(self) -> Box<Connection> {
        let mut cursor = ManuallyDrop::new(self);
        // SAFETY: the cursor is never dropped or used after this.
        unsafe { cursor.end() }
    }

    /// Ends the statement, then takes the connection.
    ///
    /// # Safety
    /// Called once; neither is used after it.
    unsafe fn end(&mut self) -> Box<Connection> {
        // The cache takes a statement as it is: one that was not reset would go on holding its transaction there. Dropping rows resets.
        drop(self.statement.raw_query());
        // SAFETY: it is not used again, says the caller; the connection that it borrows from is still there.
        unsafe { ManuallyDrop::drop(&mut self.statement) };
        // SAFETY: the pointer came from a box and is freed once, says the caller; the only thing that borrowed from it has just ended.
        unsafe { Box::from_raw(self.connection.as_ptr()) }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // SAFETY: nothing is used after drop; `close` does not get here.
        drop(unsafe { self.end() });
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 10) SELECT x FROM n";

    fn cursor(connection: Box<Connection>, cached: bool) -> Cursor {
        match Cursor::open(connection, NUMBERS, cached) {
            Ok(cursor) => cursor,
            Err((_, error)) => panic!("{error}"),
        }
    }

    fn number(cursor: &mut Cursor) -> Option<i64> {
        cursor
            .next(|row| row.get::<_, i64>(0).expect("an integer"))
            .expect("stepped")
    }

    fn memory() -> Box<Connection> {
        Box::new(Connection::open_in_memory().expect("opened"))
    }

    #[test]
    fn statement_goes_on_where_it_was_on_another_thread() {
        let mut first = cursor(memory(), true);
        assert_eq!((number(&mut first), number(&mut first)), (Some(1), Some(2)));
        let rest = std::thread::spawn(move || {
            let rest: Vec<i64> = std::iter::from_fn(|| number(&mut first)).collect();
            (rest, first.close())
        });
        let (rest, connection) = rest.join().expect("joined");
        assert_eq!(rest, [3, 4, 5, 6, 7, 8, 9, 10]);
        // The statement went back to the cache, reset.
        let mut again = cursor(connection, true);
        assert_eq!(number(&mut again), Some(1));
    }

    #[test]
    fn half_run_statement_holds_nothing_once_it_is_closed() {
        let mut connection = memory();
        for cached in [true, false, true] {
            let mut half = cursor(connection, cached);
            assert_eq!(number(&mut half), Some(1));
            connection = half.close();
            assert!(!connection.is_busy(), "cached={cached}");
        }
    }

    #[test]
    fn half_run_statement_can_be_dropped() {
        for cached in [true, false] {
            let directory = tempfile::tempdir().expect("directory");
            let path = directory.path().join("file.db");
            let first = Connection::open(&path).expect("opened");
            first.execute_batch("CREATE TABLE t(a)").expect("created");
            first
                .execute_batch("INSERT INTO t VALUES (1), (2)")
                .expect("inserted");
            let opened = Cursor::open(Box::new(first), "SELECT a FROM t", cached);
            let mut half = opened.map_err(|(_, error)| error).expect("prepared");
            assert_eq!(number(&mut half), Some(1));
            let second = Connection::open(&path).expect("opened");
            let write = "BEGIN EXCLUSIVE; INSERT INTO t VALUES (3); COMMIT";
            assert!(second.execute_batch(write).is_err());
            second.execute_batch("ROLLBACK").ok();
            drop(half);
            second.execute_batch(write).expect("nobody holds the file");
        }
    }

    #[test]
    fn values_are_bound() {
        let opened = Cursor::open(memory(), "SELECT ?1 + ?2", false);
        let mut sum = opened.map_err(|(_, error)| error).expect("prepared");
        assert_eq!(sum.statement().parameter_count(), 2);
        sum.bind(1, ValueRef::Integer(40)).expect("bound");
        sum.bind(2, ValueRef::Integer(2)).expect("bound");
        assert_eq!(number(&mut sum), Some(42));
    }

    #[test]
    fn connection_comes_back_when_the_statement_cannot_be_prepared() {
        let opened = Cursor::open(memory(), "no SQL", false);
        let (connection, _) = opened.expect_err("no SQL");
        assert_eq!(number(&mut cursor(connection, true)), Some(1));
    }
}
