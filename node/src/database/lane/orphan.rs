//! Keeps a copy of what was never committed. Nothing is thrown away silently: before a page diff replaces it, the file as it is goes beside the
//! database, under a name that says what it is. Made once, however often it is found.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use halite_ltx::PageNo;

use super::Lane;
use super::apply::describe;

impl Lane {
    /// Copies the file, read through SQLite: nothing else may open and close it, or its locks are gone.
    pub(super) fn keep_orphan(&self) {
        let to = self.orphan_path();
        match self.copy_to(&to) {
            Ok(()) => {
                tracing::error!(database = %self.spec.name, copy = %to.display(), "what was never committed is kept in a copy");
            }
            Err(error) => {
                tracing::error!(database = %self.spec.name, copy = %to.display(), error = describe(&error), "what was never committed could not be copied");
            }
        }
    }

    pub(super) fn orphan_path(&self) -> PathBuf {
        let position = self.applied.position;
        let mut path = self.spec.path.clone().into_os_string();
        path.push(format!(".orphan-{}-{}", position.txid, position.checksum));
        path.into()
    }

    fn copy_to(&self, to: &PathBuf) -> io::Result<()> {
        if to.try_exists()? {
            return Ok(());
        }
        let pages = self.pager.snapshot().map_err(io::Error::other)?;
        let directory = to.parent().unwrap_or(to);
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
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
}
