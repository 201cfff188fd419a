//! [`DestinationError`]: why a destination did not do what it was asked.

use std::io;
use std::path::PathBuf;

use crate::{BlockingStopped, ContentError, FileKey};

/// Why a destination did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// The file is not there.
    #[error("archive file not found destination={url} file={key}")]
    NotFound {
        /// The destination.
        url: String,
        /// The file.
        key: FileKey,
    },
    /// The file is there and has other bytes: somebody else writes to this destination, or history forked.
    #[error("archive file exists with other content destination={url} file={key}")]
    Conflict {
        /// The destination.
        url: String,
        /// The file.
        key: FileKey,
    },
    /// The content to be stored could not be produced.
    #[error("archive file could not be produced: {source} file={key}")]
    Content {
        /// The file.
        key: FileKey,
        /// What its producer says.
        source: ContentError,
    },
    /// Another process is storing the same file at this moment.
    #[error("archive file is being written by another process path={path:?}")]
    Busy {
        /// The temporary file.
        path: PathBuf,
    },
    /// The storage failed.
    #[error("cannot {action}: {source} path={path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The process is stopping.
    #[error(transparent)]
    Stopped(#[from] BlockingStopped),
}

impl DestinationError {
    /// True if the same call may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            DestinationError::Busy { .. } | DestinationError::Io { .. }
        )
    }
}
