//! `halite set-aside`: makes a data directory blank without losing what it holds.
//!
//! For a node that has to join anew: its disk was put back to an old copy, or its history and the cluster's have parted. Databases and log are
//! renamed; nothing is deleted.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use halite_log::{LogOptions, LogStore, OpenError};
use halite_pager::beside;
use serde_json::json;

use super::GlobalArgs;
use super::error::{CliError, Outcome};
use super::output::{print, print_json};

/// Keep what a stopped node's data directory holds under other names, so that the node can join anew.
///
/// Every database becomes `NAME.db.orphan-N`, an ordinary SQLite file that `sqlite3` opens, and the log `log.orphan-N`. Remove the node from
/// the cluster before (`halite member remove`); then start it with `cluster.join: true` and add it again.
#[derive(Debug, Args)]
pub(crate) struct SetAsideArgs {
    /// The data directory; its node must not run
    #[arg(value_name = "DATA_DIR")]
    data_dir: PathBuf,
}

/// What SQLite keeps beside a database, under its name.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

pub(crate) async fn run(args: SetAsideArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let log = args.data_dir.join("log");
    if !log.is_dir() {
        return Err(CliError::new(format!(
            "this is no data directory of a node, or a blank one: path={}",
            args.data_dir.display()
        )));
    }
    // Nobody else has the directory while this is open, and nobody opens it by itself between here and the renaming.
    match LogStore::open(&log, LogOptions::default()) {
        Ok(store) => {
            if let Err(error) = store.close().await {
                return Err(CliError::new(error.to_string()));
            }
        }
        Err(OpenError::InUse { .. }) => {
            return Err(CliError::new(format!(
                "a node runs on this data directory: stop it first, path={}",
                args.data_dir.display()
            )));
        }
        // It is kept as it is.
        Err(_) => {}
    }
    let moved = set_aside(&args.data_dir)
        .map_err(|error| CliError::io("the data directory was not set aside", &error))?;
    if global.json {
        let moved = moved.iter().map(|(from, to)| {
            json!({ "from": from.display().to_string(), "to": to.display().to_string() })
        });
        print_json(&json!({ "kept": moved.collect::<Vec<_>>() }))?;
    } else {
        for (from, to) in moved {
            print(&format!("{} is kept as {}\n", from.display(), to.display()))?;
        }
        print(
            "the node can join anew: remove it from the cluster, start it with `cluster.join: true`, add it again\n",
        )?;
    }
    Ok(Outcome::Good)
}

/// Databases first: as long as the log is there, the directory is not blank, and this can be repeated.
fn set_aside(data_dir: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut moved = Vec::new();
    let databases = crate::cluster::opener::databases_dir(data_dir);
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&databases) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "db"));
    files.sort();
    for file in files {
        let to = free_name(&file);
        for suffix in BESIDE {
            let companion = beside(&file, suffix);
            if companion.symlink_metadata().is_ok() {
                std::fs::rename(&companion, beside(&to, suffix))?;
            }
        }
        std::fs::rename(&file, &to)?;
        moved.push((file, to));
    }
    let log = data_dir.join("log");
    let to = free_name(&log);
    std::fs::rename(&log, &to)?;
    moved.push((log, to));
    Ok(moved)
}

fn free_name(path: &Path) -> PathBuf {
    (1_u32..)
        .map(|number| beside(path, &format!(".orphan-{number}")))
        .find(|to| to.symlink_metadata().is_err())
        .unwrap_or_else(|| beside(path, ".orphan"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_kept_under_names_that_sqlite_finds() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("db")).expect("created");
        for name in ["db/app.db", "db/app.db-wal", "db/app.db.orphan-1", "log"] {
            std::fs::write(at(name), name).expect("written");
        }
        let moved = set_aside(dir.path()).expect("renamed");
        assert_eq!(
            moved,
            [
                (at("db/app.db"), at("db/app.db.orphan-2")),
                (at("log"), at("log.orphan-1")),
            ]
        );
        let text = |name| std::fs::read_to_string(at(name)).expect("there");
        assert_eq!(text("db/app.db.orphan-2-wal"), "db/app.db-wal");
        assert_eq!(text("db/app.db.orphan-1"), "db/app.db.orphan-1");
        assert!(!at("db/app.db").exists() && !at("log").exists());
    }
}
