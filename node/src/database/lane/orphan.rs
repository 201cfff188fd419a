//! Keeps a copy of what was never committed. Nothing is thrown away silently: before a page diff replaces it, the file as it is goes beside the
//! database, under a name that says what it is. Made once, however often it is found.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use halite_ltx::{PageNo, Txid};
use halite_pager::{Database, beside};

use super::Lane;
use crate::database::failure::describe;

/// Where a copy is.
pub(super) struct OrphanCopy {
    pub(super) path: PathBuf,
    /// It was made just now.
    pub(super) is_new: bool,
}

impl Lane {
    /// Copies the file, read through SQLite: nothing else may open and close it, or its locks are gone.
    pub(super) fn keep_orphan(&self) {
        match self.keep_copy() {
            Ok(OrphanCopy { path: to, .. }) => {
                tracing::error!(database = %self.spec.name, copy = %to.display(), "what was never committed is kept in a copy");
            }
            Err(error) => {
                tracing::error!(database = %self.spec.name, error = describe(&error), "what was never committed could not be copied");
            }
        }
    }

    /// Something else is about to take the place of what is in the file: if that did not come from the log, a copy of it is kept. A disk that has
    /// no room for it does not keep the database from being repaired.
    pub(super) fn put_aside(&self) {
        if !self.strange {
            return;
        }
        let database = &self.spec.name;
        match self.keep_copy() {
            Ok(OrphanCopy { is_new: false, .. }) => {}
            Ok(OrphanCopy { path, .. }) => {
                tracing::error!(%database, copy = %path.display(), "what is in the file did not come from the log, as if it was changed while the node was stopped: it is kept in a copy before it is replaced");
            }
            Err(error) => {
                tracing::error!(%database, error = describe(&error), "what is in the file did not come from the log, and could not be copied before it is replaced");
            }
        }
    }

    /// Copies the file as it is beside the database.
    pub(super) fn keep_copy(&self) -> io::Result<OrphanCopy> {
        keep_copy(&self.pager, self.applied.position.txid)
    }
}

/// Copies a database as it is beside itself; `txid`: where its log says that it is. The name says what is in it: the same content is kept once.
pub(super) fn keep_copy(pager: &Arc<Database>, txid: Txid) -> io::Result<OrphanCopy> {
    let path = beside(
        pager.path(),
        &format!(".orphan-{txid}-{}", pager.checksum()),
    );
    let is_new = !path.try_exists()?;
    if is_new {
        copy_to(pager, &path)?;
    }
    Ok(OrphanCopy { path, is_new })
}

fn copy_to(pager: &Arc<Database>, to: &Path) -> io::Result<()> {
    let pages = pager.snapshot().map_err(io::Error::other)?;
    let directory = to.parent().unwrap_or(to);
    // As open to others as the database is when it is made.
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)?;
    let mut out = BufWriter::new(file.as_file_mut());
    let mut page = Vec::new();
    for number in 1..=pages.page_count() {
        pages
            .read_page(PageNo::new(number), &mut page)
            .map_err(io::Error::other)?;
        out.write_all(&page)?;
    }
    out.flush()?;
    drop(out);
    file.as_file().sync_all()?;
    file.persist(to).map_err(|error| error.error)?;
    Ok(())
}
