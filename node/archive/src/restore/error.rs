//! [`RestoreError`]: why a restore came to nothing.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use halite_ltx::{CompactError, DecodeError, PageSize, Txid};

use crate::{BlockingStopped, DestinationError, FileKey, OutputPlaceError, PlanError};

/// Why a restore came to nothing. No output exists, and no temporary file. (Only if the directory's fsync fails after the rename, the
/// output is there, whole, but its name may not survive a power loss.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The state cannot be restored from what the archive holds.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Files were deleted while they were needed, and what is left does not lead to the same transaction. There **is** a backup.
    #[error("archive changed during the restore: {source} txid={txid}")]
    Replan {
        /// The transaction of the first plan.
        txid: Txid,
        /// Why there is no second plan.
        source: PlanError,
    },
    /// The destination failed.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// A file is damaged, cut off or not readable.
    #[error("archive file is not readable: {source} file={key}")]
    File {
        /// The file.
        key: FileKey,
        /// What is wrong, and where.
        source: DecodeError,
    },
    /// A file holds other transactions than its name says.
    #[error(
        "archive file holds other transactions than its name says file={key} min_txid={min} max_txid={max}"
    )]
    FileName {
        /// The name.
        key: FileKey,
        /// First transaction in the file.
        min: Txid,
        /// Last transaction in the file.
        max: Txid,
    },
    /// Files of the plan have different page sizes.
    #[error("page size changes within the archive file={key} expected={expected} found={found}")]
    PageSize {
        /// The file.
        key: FileKey,
        /// Page size of the files before it.
        expected: PageSize,
        /// Its page size.
        found: PageSize,
    },
    /// Files of the plan do not fit together.
    #[error("archive files cannot be merged: {0}")]
    Merge(#[source] CompactError),
    /// Something is where the database should go. (With `force` it is replaced.)
    #[error("restore target exists path={0:?}")]
    OutputExists(PathBuf),
    /// No database can be put there.
    #[error(transparent)]
    Place(OutputPlaceError),
    /// Another restore writes to the same target at this moment.
    #[error("another restore to the same target is running path={0:?}")]
    OutputBusy(PathBuf),
    /// The database file cannot be written.
    #[error("cannot {action}: {source} path={path:?}")]
    Output {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The caller's check refused the restored database.
    #[error("restored database failed its check: {0}")]
    Check(Box<dyn Error + Send + Sync>),
    /// The restore was given up by its caller, or the process is stopping.
    #[error("restore was stopped")]
    Stopped,
}

impl RestoreError {
    /// True if the archive holds nothing at all, so that a fresh start is what may be wanted.
    pub fn is_no_backup(&self) -> bool {
        matches!(self, RestoreError::Plan(PlanError::Empty))
    }

    pub(crate) fn is_file_gone(&self) -> bool {
        matches!(
            self,
            RestoreError::Destination(DestinationError::NotFound { .. })
        )
    }
}

impl From<OutputPlaceError> for RestoreError {
    fn from(error: OutputPlaceError) -> Self {
        match error {
            OutputPlaceError::Exists(path) => RestoreError::OutputExists(path),
            other => RestoreError::Place(other),
        }
    }
}

impl From<BlockingStopped> for RestoreError {
    fn from(_: BlockingStopped) -> Self {
        RestoreError::Stopped
    }
}
