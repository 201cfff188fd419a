//! [`Troubles`]: what keeps databases from being archived, for whoever asks for the status, and for the log, once.
//!
//! Owns what is told and how often. Written by the archiver of the primary; a node that does not lead has none.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::sync::SyncError;

/// A failure that may pass is told in the status after this: a store that refuses one request is no news.
const TOLD_AFTER: Duration = Duration::from_secs(10);
/// One that goes on is logged again this often.
const LOGGED_EVERY: Duration = Duration::from_secs(600);

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// To write what is new.
    Sync,
    /// To merge and delete files.
    Upkeep,
}

/// See the module. By database id, address and task.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<(u64, String, Task), Trouble>>);

#[derive(Debug)]
struct Trouble {
    since: Instant,
    logged: Instant,
    what: String,
    passes: bool,
}

impl Troubles {
    /// What became of a task.
    pub(super) fn note(
        &self,
        id: u64,
        name: &str,
        url: &str,
        task: Task,
        failed: Option<&SyncError>,
    ) {
        let mut troubles = self.0.lock();
        let key = (id, url.to_owned(), task);
        let Some(error) = failed else {
            if troubles.remove(&key).is_some() {
                match task {
                    Task::Sync => info!(database = name, url, "archived again"),
                    Task::Upkeep => {
                        info!(database = name, url, "files are merged and deleted again")
                    }
                }
            }
            return;
        };
        let now = Instant::now();
        let what = match task {
            Task::Sync => error.to_string(),
            Task::Upkeep => format!("files are not merged: {error}"),
        };
        let known = troubles.get(&key);
        let is_news = known.is_none_or(|t| t.what != what || now - t.logged >= LOGGED_EVERY);
        if is_news {
            match task {
                Task::Sync => warn!(database = name, url, %error, "not archived, trying again"),
                Task::Upkeep => {
                    warn!(database = name, url, %error, "files are not merged and deleted, trying again");
                }
            }
        }
        let trouble = Trouble {
            since: known.map_or(now, |known| known.since),
            logged: known.filter(|_| !is_news).map_or(now, |known| known.logged),
            what,
            passes: error.may_pass(),
        };
        troubles.insert(key, trouble);
    }

    /// Nothing is known any more: somebody else archives.
    pub(super) fn forget_all(&self) {
        self.0.lock().clear();
    }

    /// What is to be told of a database; empty when nothing is.
    pub(crate) fn told(&self, id: u64) -> String {
        let troubles = self.0.lock();
        let of_it = troubles.iter().filter(|((of, ..), _)| *of == id);
        let told = of_it.filter(|(_, t)| !t.passes || t.since.elapsed() >= TOLD_AFTER);
        let told: Vec<&str> = told.map(|(_, trouble)| &*trouble.what).collect();
        told.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_told_when_it_has_lasted_and_all_else_at_once() {
        let troubles = Troubles::default();
        let (lasting, passing) = (
            SyncError::Taken { found: 3 },
            SyncError::Log(std::io::Error::other("gone")),
        );
        troubles.note(1, "app", "file:///a", Task::Sync, Some(&lasting));
        troubles.note(2, "other", "file:///a", Task::Sync, Some(&passing));
        assert!(troubles.told(1).contains("not of this database"));
        assert_eq!(troubles.told(2), "");
        tokio::time::advance(TOLD_AFTER).await;
        troubles.note(2, "other", "file:///a", Task::Sync, Some(&passing));
        assert!(troubles.told(2).contains("gone"));
        troubles.note(2, "other", "file:///a", Task::Sync, None);
        assert_eq!(troubles.told(2), "");
    }
}
