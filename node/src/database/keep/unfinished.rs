//! [`Unfinished`]: a `--keep-file` that was begun. It puts the log's version in place first, so that both are there; if the process dies before
//! the file's is taken in, this is how the next try knows which copy is meant.
//!
//! A file beside the database, durable before anything is replaced.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use halite_ltx::Txid;
use halite_pager::beside;

const ENDING: &str = ".keep-file";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// What was in the file.
    pub(crate) copy: PathBuf,
    /// Where the log's version ends. Beyond it, something was committed since.
    pub(crate) txid: Txid,
}

impl Unfinished {
    /// The one that was begun for the database at `path`, if its copy is still there.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(beside(path, ENDING)).ok()?;
        let (txid, name) = text.trim_end().split_once(' ')?;
        let copy = path.with_file_name(name);
        let txid = Txid::new(u64::from_str_radix(txid, 16).ok()?);
        copy.is_file().then_some(Self { copy, txid })
    }

    /// Durably.
    pub(in crate::database) fn note(&self, path: &Path) -> io::Result<()> {
        let name = self.copy.file_name().unwrap_or_default();
        let mut file = File::create(beside(path, ENDING))?;
        writeln!(file, "{} {}", self.txid, name.to_string_lossy())?;
        file.sync_all()?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    }

    /// It is over.
    pub(in crate::database) fn forget(path: &Path) {
        // What is left of it names a copy that is gone, or a state that is past.
        let _ = std::fs::remove_file(beside(path, ENDING));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_known_until_it_is_over_or_its_copy_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        assert_eq!(Unfinished::of(&path), None);
        let copy = dir.path().join("app.db.orphan-1f-00");
        std::fs::write(&copy, "x").unwrap();
        let begun = Unfinished {
            copy: copy.clone(),
            txid: Txid::new(0x1f),
        };
        begun.note(&path).unwrap();
        assert_eq!(Unfinished::of(&path), Some(begun.clone()));
        std::fs::remove_file(&copy).unwrap();
        assert_eq!(Unfinished::of(&path), None);
        std::fs::write(&copy, "x").unwrap();
        Unfinished::forget(&path);
        assert_eq!(Unfinished::of(&path), None);
    }
}
