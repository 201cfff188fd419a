//! [`RestoreError`]: why a disk could not be brought back. Facts only.

use std::io;
use std::path::PathBuf;

/// Why a [`CrashDisk`](crate::CrashDisk) could not be brought back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A connection has the file open.
    #[error("file on a simulated disk is still open path={path}")]
    StillOpen {
        /// The file.
        path: PathBuf,
    },
    /// The real file could not be rewritten.
    #[error("cannot rewrite file of a simulated disk path={path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
