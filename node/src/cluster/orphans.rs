//! Copies of what did not come from the log, beside the databases: a start, a repair and an operator's word put them there when something else takes
//! the place of what a file held. They are told in `halite status` until somebody has moved them away: nothing else would say that there are any.
//!
//! Looked for by [`file_watch`](super::file_watch).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Cluster;

/// What is told of a database of which there is a copy.
pub const HELD_OTHER: &str =
    "held what was not committed, as if it was changed while this node was stopped";

/// By database: the first of its copies, and how many there are.
pub(super) type Orphans = BTreeMap<String, (PathBuf, usize)>;

/// Those in the directory of the databases. What `halite set-aside` leaves there has a number for a name, and whoever called it knows of it.
pub(super) fn look(dir: &Path) -> Orphans {
    let mut found = Orphans::new();
    // A directory that cannot be read, or is not there yet, holds none to be told of.
    for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = file.file_name();
        let Some(database) = name.to_str().and_then(database_of) else {
            continue;
        };
        let (first, count) = found
            .entry(database.to_owned())
            .or_insert_with(|| (file.path(), 0));
        *count += 1;
        if file.path() < *first {
            *first = file.path();
        }
    }
    found
}

/// Whose copy a file is by its name: `app.db.orphan-TXID-CHECKSUM`.
fn database_of(file: &str) -> Option<&str> {
    let (database, kept) = file.rsplit_once(".db.orphan-")?;
    let (txid, checksum) = kept.split_once('-')?;
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hex(txid) && is_hex(checksum)).then_some(database)
}

impl Cluster {
    /// What is kept beside the databases of this node.
    pub(super) fn tells_of_orphans(&self) -> Option<String> {
        let orphans = self.orphans.lock();
        let (database, (first, _)) = orphans.iter().next()?;
        let all: usize = orphans.values().map(|(_, count)| count).sum();
        let more = match all - 1 {
            0 => String::new(),
            more => format!(" (and {more} more beside it)"),
        };
        Some(format!(
            "the file of database {database:?} {HELD_OTHER}: that is kept in {}{more}. \
             Take from it what you need and move it away, then this is not shown any more",
            first.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "app.db",
            "app.db-wal",
            "app.db.orphan-1",
            "app.db.orphan-1-wal",
            "app.db.orphan-000000000000000a-c0ffee0000000001",
            "app.db.orphan-0000000000000003-c0ffee0000000002",
            "a.db.b.db.orphan-0000000000000003-c0ffee0000000003",
            "other.db.keep-file",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = look(dir.path());
        let names: Vec<_> = found.iter().map(|(name, (_, n))| (&**name, *n)).collect();
        assert_eq!(names, [("a.db.b", 1), ("app", 2)]);
        assert!(
            found["app"]
                .0
                .ends_with("app.db.orphan-0000000000000003-c0ffee0000000002")
        );
        assert_eq!(look(&dir.path().join("nothing")), Orphans::new());
    }
}
