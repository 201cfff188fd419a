//! [`Archive`]: one database at one destination, and the tasks that write, merge and delete there.
//!
//! Owns when something is begun and what is told of it; what is done is [`DatabaseArchive`]'s and [`Upkeep`](super::upkeep::Upkeep)'s. At most one
//! task of each kind runs, and ends with this. Called by the archiver's loop, which it never holds up.

use std::sync::Arc;
use std::time::Duration;

use halite_archive::{Destinations, Schedule};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, error};

use super::ArchiveTarget;
use super::progress::Standstill;
use super::sync::{DatabaseArchive, SyncError, Tending};
use super::troubles::Task;
use super::upkeep::Done;
use crate::cluster::Cluster;
use crate::database::Database;

/// Archives of a target that are written to at once: each holds what it writes in memory.
const WRITES_AT_ONCE: usize = 4;
/// Archives of a target whose files are merged at once: each has some dozen files open, and a buffer for each.
const UPKEEPS_AT_ONCE: usize = 4;
/// A request that has moved nothing for so long is told. To bring a large snapshot onto a slow disk may take long at the end of it.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// What all archives of a node work with.
pub(super) struct Means {
    pub(super) cluster: Arc<Cluster>,
    pub(super) destinations: Arc<dyn Destinations>,
    pub(super) schedule: Arc<Schedule>,
}

/// So many archives of one target are worked on at once; the others wait for their turn.
#[derive(Clone)]
pub(super) struct Turns {
    writes: Arc<Semaphore>,
    upkeeps: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            writes: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
            upkeeps: Arc::new(Semaphore::new(UPKEEPS_AT_ONCE)),
        }
    }
}

type Written = (Box<DatabaseArchive>, Result<u64, SyncError>);

/// See the module.
pub(super) struct Archive {
    database: Arc<Database>,
    target: ArchiveTarget,
    turns: Turns,
    /// Away while something is written.
    sync: Option<Box<DatabaseArchive>>,
    writing: JoinSet<Written>,
    upkeep: JoinSet<Done>,
    writing_stands: Standstill,
    upkeep_stands: Standstill,
}

impl Archive {
    pub(super) fn new(
        means: &Means,
        database: Arc<Database>,
        target: ArchiveTarget,
        turns: Turns,
    ) -> Self {
        let mut archive = Self {
            database,
            target,
            turns,
            sync: None,
            writing: JoinSet::new(),
            upkeep: JoinSet::new(),
            writing_stands: Standstill::default(),
            upkeep_stands: Standstill::default(),
        };
        archive.sync = Some(archive.unknown(means));
        archive
    }

    /// Nothing is known of the destination.
    fn unknown(&self, means: &Means) -> Box<DatabaseArchive> {
        Box::new(DatabaseArchive::new(
            means.destinations.clone(),
            self.target.url.clone(),
            self.target.sync_interval,
            self.writing_stands.progress(),
        ))
    }

    /// Takes note of what has been done, and begins what is due.
    pub(super) fn tend(&mut self, means: &Means, term: u64) {
        if let Some(written) = self.writing.try_join_next() {
            self.take_back(means, written);
        }
        // Before the next write begins: under load there always is one.
        self.merge_and_delete(means);
        if self.sync.as_ref().is_some_and(|sync| sync.is_due()) {
            self.begin_to_write(means, term);
        }
        let hangs = SyncError::Hangs {
            seconds: HANGS_AFTER.as_secs(),
        };
        if self.writing_stands.lasts() >= HANGS_AFTER {
            self.note(means, Task::Sync, Some(&hangs));
        }
        if self.upkeep_stands.lasts() >= HANGS_AFTER {
            self.note(means, Task::Upkeep, Some(&hangs));
        }
    }

    fn note(&self, means: &Means, task: Task, failed: Option<&SyncError>) {
        let (spec, url) = (self.database.spec(), &self.target.url);
        let troubles = means.cluster.archive_troubles();
        troubles.note(spec.id.get(), &spec.name, url, task, failed);
    }

    fn begin_to_write(&mut self, means: &Means, term: u64) {
        let Some(mut sync) = self.sync.take() else {
            return;
        };
        if !sync.begin(&self.database, term) {
            self.sync = Some(sync);
            self.note(means, Task::Sync, None);
            return;
        }
        let (cluster, database) = (means.cluster.clone(), self.database.clone());
        let writes = self.turns.writes.clone();
        self.writing.spawn(async move {
            let turn = writes.acquire_owned().await;
            let synced = sync.sync(&cluster, &database, term).await;
            drop(turn);
            (sync, synced)
        });
    }

    fn take_back(&mut self, means: &Means, written: Result<Written, tokio::task::JoinError>) {
        let name = &self.database.spec().name;
        match written {
            Ok((mut sync, synced)) => {
                sync.tried(synced.is_err());
                self.sync = Some(sync);
                self.note(means, Task::Sync, synced.as_ref().err());
                match synced {
                    Ok(0) => {}
                    Ok(transactions) => debug!(database = %name, transactions, "archived"),
                    Err(_) => metrics::counter!("halite_archive_errors_total").increment(1),
                }
            }
            Err(error) => {
                error!(%error, database = %name, url = self.target.url, "a task of the archive has ended");
                self.sync = Some(self.unknown(means));
            }
        }
    }

    /// Starts what is due, and takes note of what has been done.
    fn merge_and_delete(&mut self, means: &Means) {
        // What is merged is noted where it is known what there is.
        let Some(sync) = &mut self.sync else {
            return;
        };
        let done = self.upkeep.try_join_next();
        let mut failed = None;
        match done {
            Some(Ok(done)) => {
                sync.tended(&done);
                failed = Some(done.error);
            }
            Some(Err(error)) => {
                error!(%error, url = self.target.url, "a task of the archive has ended");
            }
            None => {}
        }
        if self.upkeep.is_empty() {
            let progress = self.upkeep_stands.progress();
            let permits = &self.turns.upkeeps;
            match sync.upkeep(means, &self.database, progress, permits) {
                Tending::Due(upkeep) => {
                    self.upkeep.spawn(upkeep.run());
                }
                // What failed before is not there any more, or was done by others.
                Tending::Nothing => failed = Some(None),
                Tending::NotNow => {}
            }
        }
        if let Some(failed) = failed {
            self.note(means, Task::Upkeep, failed.as_ref());
        }
    }

    /// Writes what is new, after what is being written.
    pub(super) async fn write_last(&mut self, means: &Means, term: u64) {
        self.upkeep.shutdown().await;
        if let Some(written) = self.writing.join_next().await {
            self.take_back(means, written);
        }
        self.begin_to_write(means, term);
        if let Some(written) = self.writing.join_next().await {
            self.take_back(means, written);
        }
    }

    /// Ends what runs, wherever it is.
    pub(super) async fn end(&mut self) {
        self.writing.shutdown().await;
        self.upkeep.shutdown().await;
    }
}
