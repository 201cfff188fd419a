//! Why a database cannot be opened, an entry not be applied, a page diff not be installed.

use std::io;
use std::path::PathBuf;

use halite_ltx::{Checksum, PageSize, Txid};
use rusqlite::ffi;

/// Why [`Database::open`](super::Database::open) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file is where a new database should be, and nothing says that it is ours: it is left alone.
    #[error(
        "a file is in the way of a new database, and it is not one this node made: move it away path={0}"
    )]
    ForeignFile(PathBuf),
    /// The file has another page size than the catalog says.
    #[error("page size of the file differs expected={expected} found={found}")]
    PageSize {
        /// Of the catalog.
        expected: PageSize,
        /// Of the file.
        found: PageSize,
    },
    /// The pager could not open the file.
    #[error("database file cannot be opened: {0}")]
    Pager(#[source] halite_pager::OpenError),
    /// A connection to it could not be opened.
    #[error("database cannot be connected to: {0}")]
    Connection(#[source] halite_pager::PagerError),
    /// SQLite makes nothing of the file, so no page could be written into it either.
    #[error("database file is damaged: {0}")]
    Damaged(#[source] rusqlite::Error),
    /// The lane's thread could not be started.
    #[error("lane cannot be started: {0}")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// The file is not, or no longer, a database of ours. Anything else (a lock, the disk) passes.
    pub(crate) fn is_damage(&self) -> bool {
        use halite_pager::{OpenError as Pager, PagerError};
        match self {
            OpenError::PageSize { .. } | OpenError::Damaged(_) => true,
            OpenError::Pager(
                Pager::NotADatabase { .. }
                | Pager::TooNew { .. }
                | Pager::BadPageSize { .. }
                | Pager::StrayLog { .. }
                | Pager::NotWal { .. },
            ) => true,
            OpenError::Pager(Pager::Sqlite { source, .. })
            | OpenError::Connection(PagerError::Sqlite(source)) => is_damage(source),
            _ => false,
        }
    }
}

/// SQLite speaks of the content of the file: disks and locks have codes of their own.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code & 0xff);
    matches!(
        code,
        Some(ffi::SQLITE_ERROR | ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB)
    )
}

/// Why an entry was not applied. The database then needs repair; [`Health`](super::Health) says so too.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// Entries in between are missing.
    #[error("entry does not follow the database applied_txid={applied} entry_txid={found}")]
    Gap {
        /// What the database has.
        applied: Txid,
        /// What came.
        found: Txid,
    },
    /// The entry was made for another content than this file has.
    #[error(
        "entry does not fit the database txid={txid} expected_checksum={expected:016x} checksum={found}"
    )]
    Diverged {
        /// Of the entry.
        txid: Txid,
        /// What the entry was made for.
        expected: u64,
        /// What the database has.
        found: Checksum,
    },
    /// The transaction is here with another content than the one that is committed: what is here was never committed.
    #[error(
        "history forked: what is here was never committed txid={txid} committed_checksum={committed} checksum={found}"
    )]
    Forked {
        /// Which transaction.
        txid: Txid,
        /// What is committed.
        committed: Checksum,
        /// What is here.
        found: Checksum,
    },
    /// The entry's bytes are damaged, or lead to another content than it says.
    #[error("entry cannot be applied txid={txid}: {reason}")]
    Corrupt {
        /// Of the entry.
        txid: Txid,
        /// Why.
        reason: String,
    },
    /// An earlier entry was not applied.
    #[error("database needs repair: {0}")]
    NeedsRepair(String),
}

/// Why a page diff was not installed. The database is as before.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The state makes no sense for this database.
    #[error("page diff does not fit the database: {0}")]
    Invalid(String),
    /// The stream broke off or is damaged.
    #[error("page diff is not readable: {0}")]
    Damaged(String),
    /// With these pages the file would not have the checksum promised: it has changed since its checksums were sent.
    #[error("page diff does not lead to the state promised: {0}")]
    Mismatch(String),
    /// It could not be written here.
    #[error("page diff cannot be written: {0}")]
    Io(String),
}
