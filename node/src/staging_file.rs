//! [`StagingFile`]: a file that is filled from the network and gone with its last owner unless somebody installs it. [`Appender`]: what fills it.
//!
//! Imports (`api`) arrive in one; page diffs (`cluster`) in files that stay. Writes run where they may block.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempPath;

use crate::database::{Host, blocking};

/// Where pulled pages and uploads wait for their installation.
pub(crate) fn staging_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("staging")
}

/// Appends to a file.
pub(crate) struct Appender {
    /// Taken while a write is under way.
    file: Option<File>,
    host: Arc<dyn Host>,
}

impl Appender {
    pub(crate) fn new(file: File, host: &Arc<dyn Host>) -> Self {
        Self {
            file: Some(file),
            host: host.clone(),
        }
    }

    /// Appends a piece.
    pub(crate) async fn write(&mut self, piece: Bytes) -> io::Result<()> {
        let mut file = self
            .file
            .take()
            .ok_or_else(|| io::Error::other("an earlier write did not finish"))?;
        let written = blocking(&self.host, move || {
            let result = file.write_all(&piece);
            (file, result)
        });
        let (file, result) = written.await?;
        self.file = Some(file);
        result
    }
}

/// See the module.
pub(crate) struct StagingFile {
    file: Appender,
    staged: Staged,
}

/// A file that is filled. Removed with its last owner, where that may block: a file system takes its time over gigabytes.
pub(crate) struct Staged {
    path: Option<TempPath>,
    host: Arc<dyn Host>,
}

impl Staged {
    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            self.host.spawn_blocking(Box::new(move || drop(path)));
        }
    }
}

impl StagingFile {
    /// An empty file in `dir`, which is created if need be.
    pub(crate) async fn create(
        dir: PathBuf,
        prefix: &'static str,
        suffix: &'static str,
        host: &Arc<dyn Host>,
    ) -> io::Result<Self> {
        let created = blocking(host, move || {
            std::fs::create_dir_all(&dir)?;
            tempfile::Builder::new()
                .prefix(prefix)
                .suffix(suffix)
                .tempfile_in(&dir)
        });
        let (file, path) = created.await??.into_parts();
        Ok(Self {
            file: Appender::new(file, host),
            staged: Staged {
                path: Some(path),
                host: host.clone(),
            },
        })
    }

    /// Appends a piece.
    pub(crate) async fn write(&mut self, piece: Bytes) -> io::Result<()> {
        self.file.write(piece).await
    }

    /// The file with all that was written.
    pub(crate) fn into_staged(self) -> Staged {
        self.staged
    }
}
