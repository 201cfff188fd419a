//! [`ReaderPool`]: the threads that run read-only statements of all databases of a node.
//!
//! Each thread keeps one read-only connection with its statement cache per database. Many jobs per hand-over, large results in pieces with
//! back-pressure. Never writes: a statement that is not read-only comes back as such, for the caller to hand it to the primary.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use halite_proto::v1;

use super::{Database, DatabaseId, Host, ReplyTo};

/// Statements to be run on one snapshot of this node's file.
pub struct ReadJob {
    /// Of which database.
    pub database: Arc<Database>,
    /// One or more.
    pub statements: Vec<v1::Statement>,
    /// Until when it may run, waiting for a slow receiver included.
    pub deadline: Instant,
    /// Where the answer goes; pieces of a large result in order, the last one without `more`.
    pub reply: ReplyTo,
}

/// See the module.
pub struct ReaderPool {}

impl ReaderPool {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(threads: usize, host: Arc<dyn Host>) -> io::Result<Arc<ReaderPool>> {
        let _ = (threads, host);
        Ok(Arc::new(ReaderPool {}))
    }

    /// Hands over jobs. Never blocks; a job that finds the queue full is answered as unavailable. A statement that writes is answered with
    /// [`is_not_read_only`].
    pub fn run(&self, jobs: Vec<ReadJob>) {
        let _ = jobs;
    }

    /// Closes every connection to a database and waits until that is done: before the database is shut down or dropped. Blocking.
    pub fn forget(&self, database: DatabaseId) {
        let _ = database;
    }

    /// Stops the threads and waits for them. Blocking.
    pub fn shutdown(&self) {}
}

/// The error says that a statement is not read-only and belongs to the primary.
pub fn is_not_read_only(error: &v1::Error) -> bool {
    error.code() == v1::ErrorCode::NotPrimary && error.sqlite_code == rusqlite::ffi::SQLITE_READONLY
}
