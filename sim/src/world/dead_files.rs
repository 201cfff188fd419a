//! What a stock program finds in the files of a node that is down.
//!
//! Nobody holds such a file, SQLite recovers its WAL when it is opened, and whatever it shows then must have been committed: the promise that
//! nobody sees what may vanish does not end with the process. The rows go into the history as a read of their own; the checks do the rest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use halite_checks::{Caller, Level, NodeId, Outcome, ReadRows, SessionId};

use super::World;
use crate::file::File;
use crate::node::Node;

/// Sessions of stock programs are numbered from here, by node; those of clients are below.
const FIRST_SESSION: u64 = 1_000_000;

impl World {
    /// Reads the files of a node that has just died, as a program would that knows nothing of Halite. A disk that has lied
    /// may have left anything.
    pub(super) fn read_dead_files(&mut self, node: &Node) -> Result<()> {
        if node.is_damaged() {
            return Ok(());
        }
        let caller = Caller {
            session: SessionId(FIRST_SESSION + node.id),
            node: Some(NodeId(node.id)),
            level: Level::Local,
        };
        for (database, recorder) in self.recorders.clone() {
            let path = node.database_path(&database);
            if !path.exists() {
                continue;
            }
            let ticket = recorder.invoke(caller, ReadRows { after: 0 });
            match read_copy(&path) {
                Ok(rows) => recorder.returned(ticket, Outcome::Ok(rows)),
                Err(error) => {
                    // The cause alone: what is around it names directories of this process.
                    let why = error.root_cause().to_string();
                    recorder.returned(ticket, Outcome::Failed(why.clone()));
                    if !format!("{error:#}").contains("no such table") {
                        let what = format!("n{} {database}: {why}", node.id);
                        self.violated("a file can be read while its node is down", what);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Of a copy: reading a file recovers its WAL, and the node is to find what the crash has left.
fn read_copy(path: &Path) -> Result<Vec<halite_checks::Row>> {
    let dir = path.parent().context("a file has a directory")?;
    let dir = tempfile::Builder::new().prefix("stock-").tempdir_in(dir)?;
    let copy = dir.path().join("copy.db");
    std::fs::copy(path, &copy)?;
    let wal = beside(path, "-wal");
    if wal.exists() {
        std::fs::copy(wal, beside(&copy, "-wal"))?;
    }
    File::open(&copy)?.rows_after(0)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
