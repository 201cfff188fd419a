//! [`Writer`]: the connection for SQL writes. Owns the connection and its gate; runs on one thread, the lane's.

use std::sync::Arc;

use rusqlite::Connection;

use crate::connection;
use crate::connection_state::{ConnectionState, Role};
use crate::database::Database;
use crate::error::PagerError;
use crate::gate::{CommitOutcome, Gate};
use crate::vfs;

/// A connection whose commits pass a gate before anybody can see them.
///
/// SQL runs on [`connection`](Self::connection) as on any other, autocommit statements, `VACUUM` and DDL included. If the gate
/// refuses, the committing statement fails with `SQLITE_ABORT_ROLLBACK` and the transaction is rolled back.
pub struct Writer {
    // Closed before the database is let go.
    connection: Connection,
    state: Arc<ConnectionState>,
    database: Arc<Database>,
}

impl Database {
    /// Opens the connection for SQL writes; each of its commits passes `gate`.
    ///
    /// Writers and appliers may exist side by side; whichever starts a transaction while another's is open gets `SQLITE_BUSY`.
    pub fn writer(self: &Arc<Self>, gate: Box<dyn Gate>) -> Result<Writer, PagerError> {
        Writer::open(Arc::clone(self), gate)
    }
}

impl Writer {
    fn open(database: Arc<Database>, gate: Box<dyn Gate>) -> Result<Self, PagerError> {
        let connection = connection::read_write(database.path())?;
        let state = vfs::connection_state(&connection, c"main")?;
        *state.role.lock() = Role::Writer(gate);
        Ok(Writer {
            connection,
            state,
            database,
        })
    }

    /// The connection. Journal mode, locking mode, `synchronous`, `wal_checkpoint` and `wal_autocheckpoint` must be left alone:
    /// what they would break is refused, with less clear errors than an authorizer gives.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// As [`connection`](Self::connection), for calls that need it exclusively.
    pub fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// What became of the last write transaction: set back when one begins (`BEGIN IMMEDIATE` or the first write), set when it
    /// ends.
    pub fn last_commit(&self) -> CommitOutcome {
        *self.state.outcome.lock()
    }

    /// The database this writes to.
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.database.path())
            .finish_non_exhaustive()
    }
}
