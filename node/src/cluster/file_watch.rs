//! Notices that the files of a database were removed, or replaced by others, under the running node.
//!
//! What the node has open it goes on to use: nothing of it is lost, and nothing changes for callers. But a program on this machine that opens
//! the path reads another file or none, and one that finds no `-shm` can even write. So it is said, in the log and in `halite status`, until the
//! node is started again and repairs its files.
//!
//! What was put beside the databases is looked for on the way: see [`orphans`].
//!
//! The kernel knows of each open file whether it still has a name; elsewhere than on Linux nobody is asked. The task is [`run`], which
//! [`Cluster::shutdown`] joins.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{debug, error};

use super::opener::databases_dir;
use super::{Cluster, orphans};

/// How often it looks: once over all open files.
const LOOK: Duration = Duration::from_secs(2);
/// Where the kernel lists the open files of this process.
const OPEN_FILES: &str = "/proc/self/fd";
/// How it marks one that has no name any more.
const REMOVED: &str = " (deleted)";
/// The files of a database are its name with one of these.
const ENDINGS: &[&str] = &[".db", ".db-wal", ".db-shm"];

/// Files without a name, by database.
pub(super) type Removed = BTreeMap<String, BTreeSet<String>>;

pub(super) async fn run(cluster: Arc<Cluster>) {
    let dir = databases_dir(&cluster.data_dir);
    let mut stopping = cluster.stopping.subscribe();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Removed::new();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = tick.tick() => {}
        }
        let dir = dir.clone();
        let looked = tokio::task::spawn_blocking(move || {
            look(&dir).map(|removed| (removed, orphans::look(&dir)))
        })
        .await;
        let now = match looked {
            Ok(Ok((removed, orphans))) => {
                *cluster.orphans.lock() = orphans;
                removed
            }
            // There is no database yet, or no such list.
            Ok(Err(error)) => {
                debug!(%error, "open files cannot be looked at");
                continue;
            }
            // The process ends.
            Err(_) => return,
        };
        note(&cluster, &before, &now);
        before = now;
    }
}

/// What was seen twice in a row counts: a database that is being closed or dropped has such files for a moment.
fn note(cluster: &Cluster, before: &Removed, now: &Removed) {
    let running: BTreeSet<String> = cluster
        .shared()
        .databases
        .running()
        .iter()
        .map(|database| database.spec().name.clone())
        .collect();
    let lasting: Removed = now
        .iter()
        .filter(|(name, _)| running.contains(*name))
        .filter_map(|(name, files)| {
            let both: BTreeSet<_> = files.intersection(before.get(name)?).cloned().collect();
            (!both.is_empty()).then(|| (name.clone(), both))
        })
        .collect();
    let mut said = cluster.removed_files.lock();
    for (name, files) in &lasting {
        if said.get(name) != Some(files) {
            error!(database = %name, "{}", explain(files));
        }
    }
    *said = lasting;
}

impl Cluster {
    /// What is wrong with the files of a database, seen from outside.
    pub(crate) fn removed_files(&self, database: &str) -> Option<String> {
        self.removed_files.lock().get(database).map(explain)
    }
}

fn explain(files: &BTreeSet<String>) -> String {
    let files = Vec::from_iter(files.iter().map(String::as_str)).join(", ");
    format!(
        "{files} was removed or replaced under this running node: programs that open the file do not read this database; start the node again (if \
         there is no other one, `halite export` first)"
    )
}

fn look(dir: &Path) -> io::Result<Removed> {
    // As the kernel spells it.
    let dir = dir.canonicalize()?;
    let mut removed = Removed::new();
    for open in std::fs::read_dir(OPEN_FILES)? {
        // It may be closed by now.
        let Ok(path) = open.and_then(|open| std::fs::read_link(open.path())) else {
            continue;
        };
        if let Some((database, file)) = removed_file(&dir, &path) {
            removed.entry(database).or_default().insert(file);
        }
    }
    Ok(removed)
}

/// The database and the name of a file of it that was removed, as the kernel shows the path.
fn removed_file(dir: &Path, path: &Path) -> Option<(String, String)> {
    let file = path.strip_prefix(dir).ok()?.to_str()?;
    let file = file.strip_suffix(REMOVED)?;
    let ending = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending));
    Some((ending?.to_owned(), file.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_removed_files_of_databases_count() {
        let dir = Path::new("/data/db");
        let of = |path: &str| removed_file(dir, Path::new(path));
        let found = |name: &str, file: &str| Some((name.to_owned(), file.to_owned()));
        assert_eq!(of("/data/db/app.db (deleted)"), found("app", "app.db"));
        let wal = of("/data/db/a.b.db-wal (deleted)");
        assert_eq!(wal, found("a.b", "a.b.db-wal"));
        for other in [
            "/data/db/app.db",
            "/data/db/app.db-journal (deleted)",
            "/data/other/app.db (deleted)",
            "/tmp/etilqs_1 (deleted)",
            "socket:[12]",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_open_file_that_is_removed_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db-shm");
        let held = std::fs::File::create(&path).unwrap();
        assert_eq!(look(dir.path()).unwrap(), Removed::new());
        std::fs::remove_file(&path).unwrap();
        let removed = look(dir.path()).unwrap();
        assert_eq!(
            explain(&removed["app"]).split(' ').next(),
            Some("app.db-shm")
        );
        drop(held);
        assert_eq!(look(dir.path()).unwrap(), Removed::new());
    }
}
