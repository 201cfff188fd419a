//! The errors of this crate: one enum per public operation. Facts only; nothing is logged here.

use std::io;
use std::path::PathBuf;

use halite_ltx::{Checksum, InvalidPageSize, PageNo, PageSize};

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another [`Database`](crate::Database) of this process has the file.
    #[error("database is already open in this process path={path}")]
    AlreadyOpen {
        /// The file.
        path: PathBuf,
    },
    /// The file has content that is no SQLite database, or it is encrypted.
    #[error("not an SQLite database, or encrypted path={path}")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file needs a newer SQLite.
    #[error(
        "database file format is newer than this SQLite path={path} read_version={read_version}"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Byte 19 of the file.
        read_version: u8,
    },
    /// The header holds an impossible page size.
    #[error("database header is corrupt path={path}")]
    BadPageSize {
        /// The file.
        path: PathBuf,
        /// The number found.
        source: InvalidPageSize,
    },
    /// There is no database, but the write-ahead log or journal of one.
    #[error(
        "a database is missing, but its log is not: move it away or restore the database log={log} bytes={bytes}"
    )]
    StrayLog {
        /// The log or journal found.
        log: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// SQLite would not switch the file to WAL mode.
    #[error("database cannot be converted to WAL mode path={path} journal_mode={journal_mode}")]
    NotWal {
        /// The file.
        path: PathBuf,
        /// The mode it stayed in.
        journal_mode: String,
    },
    /// Another program holds a lock on the file.
    #[error("database is locked by another program path={path}")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("cannot access database path={path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite failed.
    #[error("cannot open database path={path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Why a connection, a snapshot or a checkpoint failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PagerError {
    /// SQLite failed.
    #[error("sqlite failed")]
    Sqlite(#[from] rusqlite::Error),
    /// A write transaction is under way, and the operation needs the writer's place.
    #[error("a write transaction is under way")]
    WriterActive,
    /// A page is not in the database.
    #[error("no such page pgno={pgno} page_count={page_count}")]
    NoSuchPage {
        /// The page asked for.
        pgno: PageNo,
        /// Size of the database in pages.
        page_count: u32,
    },
    /// The file system failed.
    #[error("file access failed code={code}")]
    File {
        /// SQLite's extended result code.
        code: i32,
    },
}

/// Why the pages of a captured transaction could not be read back.
#[derive(Debug, thiserror::Error)]
#[error("cannot read captured page pgno={pgno} code={code}")]
pub struct CaptureError {
    /// The page.
    pub pgno: PageNo,
    /// SQLite's extended result code.
    pub code: i32,
}

/// Why pages were not applied. Nothing of them is visible, except after `FailedAfterCheck` as its text says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The database is not in the state that the pages build upon.
    #[error("database is in another state expected={expected} found={found}")]
    PreChecksum {
        /// What the caller expected.
        expected: Checksum,
        /// What the database has.
        found: Checksum,
    },
    /// The pages lead to another state than the caller expected.
    #[error("applied pages give another checksum expected={expected} found={found}")]
    PostChecksum {
        /// What the caller expected.
        expected: Checksum,
        /// What the pages gave.
        found: Checksum,
    },
    /// SQLite would commit another size than the target.
    #[error("applied pages give another database size expected={expected} found={found}")]
    Size {
        /// The target, in pages.
        expected: u32,
        /// What SQLite would commit, in pages.
        found: u32,
    },
    /// A page has the wrong length, or page 1 names another page size.
    #[error("page size differs pgno={pgno} database={database} found={found}")]
    PageSize {
        /// The page.
        pgno: PageNo,
        /// Page size of this database.
        database: PageSize,
        /// Length or size found.
        found: usize,
    },
    /// Page 0 does not exist.
    #[error("page number is zero")]
    PageZero,
    /// Page 1 is no header of an SQLite database in WAL mode.
    #[error("page 1 is no header of a database in WAL mode")]
    NotWalHeader,
    /// The database grows by a page that was not given.
    #[error("database grows, but a page is missing pgno={pgno}")]
    MissingPage {
        /// The first page missing.
        pgno: PageNo,
    },
    /// Another transaction is being written.
    #[error("a write transaction is under way")]
    WriterActive,
    /// The checks passed, but writing failed: the pages may have to be applied again.
    #[error("applied pages could not be written")]
    Write(#[source] rusqlite::Error),
    /// SQLite failed.
    #[error("sqlite failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The WAL or the database file could not be read.
    #[error("file access failed code={code}")]
    File {
        /// SQLite's extended result code.
        code: i32,
    },
}

/// Why a file could not be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The source has another page size than the target.
    #[error("page size of the imported file differs source={found} database={database}")]
    PageSize {
        /// Page size of the source.
        found: PageSize,
        /// Page size of this database.
        database: PageSize,
    },
    /// The source is a database that is open here.
    #[error("file to import is an open database of this process path={path}")]
    IsOpen {
        /// The source.
        path: PathBuf,
    },
    /// The source is no SQLite database.
    #[error("file to import is not an SQLite database, or encrypted path={path}")]
    NotADatabase {
        /// The source.
        path: PathBuf,
    },
    /// The source could not be copied.
    #[error("cannot read file to import path={path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite failed, or the gate refused (see [`Writer::last_commit`](crate::Writer::last_commit)).
    #[error("cannot import")]
    Sqlite(#[from] rusqlite::Error),
}
