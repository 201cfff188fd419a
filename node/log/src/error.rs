//! What can go wrong, as facts.

use std::io;
use std::path::PathBuf;

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process (or another store in this one) holds the directory.
    #[error("log directory {} is in use by another process", dir.display())]
    InUse {
        /// The log directory.
        dir: PathBuf,
    },
    /// The files are damaged in a way that a crash does not explain.
    #[error("log directory {} is damaged: {detail}", dir.display())]
    Corrupt {
        /// The log directory.
        dir: PathBuf,
        /// What was found, and where.
        detail: String,
    },
    /// Writes that had been flushed are missing, although what is left reads well.
    #[error(
        "log directory {} lost flushed writes: found_sequence={found}, flushed_sequence={flushed}",
        dir.display()
    )]
    LostWrites {
        /// The log directory.
        dir: PathBuf,
        /// Sequence number of the newest write that was found.
        found: u64,
        /// Sequence number up to which writes had been flushed.
        flushed: u64,
    },
    /// Written by a version of Halite that this one does not know.
    #[error("log directory {} has an unknown format, format={format}", dir.display())]
    UnknownFormat {
        /// The log directory.
        dir: PathBuf,
        /// The format number found.
        format: u64,
    },
    /// The operating system refused.
    #[error("cannot open log directory {}: {source}", dir.display())]
    Io {
        /// The log directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Why the log could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A stored record does not have the checksum, the shape or the place it was written with.
    #[error("corrupt record in the log store: {reason}, family={family}, key={key}")]
    Corrupt {
        /// Column family: `log`, `vote` or `meta`.
        family: &'static str,
        /// Key of the record: the index for `log`, text for the others.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Entries that must be there are not.
    #[error("hole in the log: entry missing at index={index}")]
    Hole {
        /// First missing index.
        index: u64,
    },
    /// The range starts before the first entry: what is missing was purged.
    #[error("log entries were purged: asked_from={from}, first_index={first}")]
    Purged {
        /// First index asked for.
        from: u64,
        /// First index that is still there.
        first: u64,
    },
    /// The range ends behind the last entry.
    #[error("log ends before the range: asked_to={to}, end_index={end}")]
    PastEnd {
        /// Last index asked for, inclusive.
        to: u64,
        /// The index after the last entry.
        end: u64,
    },
    /// An append does not continue the log.
    #[error("append does not continue the log: index={index}, expected={expected}")]
    NotConsecutive {
        /// Index of the entry.
        index: u64,
        /// Index it should have had.
        expected: u64,
    },
    /// This operation's own write or read failed.
    #[error("log store i/o failed: {0}")]
    Io(#[source] io::Error),
    /// An earlier write failed; the store refuses everything until `recover`.
    #[error("log store has stopped after a failed write and needs recovery: {cause}")]
    Failed {
        /// The first failure.
        cause: String,
    },
    /// The store was closed.
    #[error("log store is closed")]
    Closed,
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        let kind = match &error {
            LogError::Io(source) => source.kind(),
            LogError::Corrupt { .. } | LogError::Hole { .. } => io::ErrorKind::InvalidData,
            LogError::Purged { .. } | LogError::PastEnd { .. } => io::ErrorKind::NotFound,
            LogError::NotConsecutive { .. } => io::ErrorKind::InvalidInput,
            LogError::Failed { .. } | LogError::Closed => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
