//! [`StagingFile`]: a file that is filled from the network and gone with its last owner unless somebody installs it.
//!
//! Page diffs (`cluster`) and imports (`api`) arrive in one. Writes run where they may block.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempPath;

use crate::database::{Host, blocking};

/// Where pulled pages and uploads wait for their installation. What an earlier run left there is of no use.
pub(crate) fn staging_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("staging")
}

/// See the module.
pub(crate) struct StagingFile {
    /// Taken while a write is under way.
    file: Option<File>,
    path: TempPath,
    host: Arc<dyn Host>,
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
            file: Some(file),
            path,
            host: host.clone(),
        })
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

    /// The file with all that was written.
    pub(crate) fn into_path(self) -> TempPath {
        self.path
    }
}
