//! The archiver: on the primary, committed LTX becomes files at a destination.
//!
//! Each sync interval it merges what is new of each database into one level-0 file, then records the progress as a Raft command, so
//! that a new primary goes on where the old one stopped. Reads only the log: SQLite and its readers never wait for it. A database
//! whose first transactions are no longer in the log starts with a snapshot (level 9), and so does a place that has lost files. Idle databases
//! cost no request. Beside that, it merges files into higher levels and deletes what is out of date, a few databases at a time. Each database has a place of its own: one that is created anew under a name goes beside what is there.

mod files;
mod history;
pub mod place;
mod sync;
mod troubles;
mod upkeep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use halite_archive::{Destinations, Schedule};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, error};

use crate::cluster::Cluster;
use crate::cluster::role::Role;
use crate::database::Database;
use sync::{DatabaseArchive, Tending};
use troubles::Task;
pub(crate) use troubles::Troubles;
use upkeep::Done;

/// Archives whose files are merged at once: each has some dozen files open, and a buffer for each.
const UPKEEPS_AT_ONCE: usize = 4;

/// One place that a database is archived to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveTarget {
    /// Where.
    pub url: String,
    /// How often what is new is written.
    pub sync_interval: Duration,
}

/// Where databases are archived, and how often.
#[derive(Debug, Clone)]
pub struct ArchiverOptions {
    /// Opens the targets' URLs; the simulation brings its own.
    pub destinations: Arc<dyn Destinations>,
    /// Targets of the databases that name their own; an empty list: nowhere.
    pub own: HashMap<String, Vec<ArchiveTarget>>,
    /// Where all others go, each into a directory of its own below it.
    pub default: Option<ArchiveTarget>,
    /// How files are merged, and how long they are kept.
    pub schedule: Schedule,
}

impl ArchiverOptions {
    /// The targets of a database.
    pub fn targets(&self, name: &str) -> Vec<ArchiveTarget> {
        if let Some(own) = self.own.get(name) {
            return own.clone();
        }
        let below = |target: &ArchiveTarget| ArchiveTarget {
            url: format!("{}/{name}", target.url.trim_end_matches('/')),
            sync_interval: target.sync_interval,
        };
        self.default.iter().map(below).collect()
    }

    /// Nothing is archived.
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.own.values().all(Vec::is_empty)
    }

    /// The shortest interval of all targets, and no longer than a new database may wait for its place.
    fn tick(&self) -> Duration {
        let own = self.own.values().flatten();
        let all = own.chain(&self.default).map(|target| target.sync_interval);
        all.fold(NEW_WAITS_AT_MOST, Duration::min)
    }
}

/// How long a new database waits for its place in the archive: until then `halite status` knows of none.
const NEW_WAITS_AT_MOST: Duration = Duration::from_secs(1);

/// The archives of this node while it leads.
struct Archiver {
    cluster: Arc<Cluster>,
    options: ArchiverOptions,
    schedule: Arc<Schedule>,
    permits: Arc<Semaphore>,
    /// By database id and address.
    archives: HashMap<(u64, String), Archive>,
}

struct Archive {
    sync: DatabaseArchive,
    /// One task at most; it ends with this.
    upkeep: JoinSet<Done>,
}

/// Runs until `stopping` turns true; syncs once more before it ends, if this node still leads.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    options: ArchiverOptions,
    mut stopping: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(options.tick());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut archiver = Archiver {
        schedule: Arc::new(options.schedule.clone()),
        cluster,
        options,
        permits: Arc::new(Semaphore::new(UPKEEPS_AT_ONCE)),
        archives: HashMap::new(),
    };
    loop {
        let last = tokio::select! {
            _ = tick.tick() => false,
            _ = stopping.wait_for(|stopping| *stopping) => true,
        };
        match archiver.cluster.role() {
            Role::Primary { term } => archiver.tend_all(term, last).await,
            // What is known of the destinations may be wrong by the next time this node leads.
            _ => {
                archiver.end_upkeep().await;
                archiver.archives.clear();
                archiver.cluster.archive_troubles().forget_all();
            }
        }
        if last {
            archiver.end_upkeep().await;
            return;
        }
    }
}

impl Archiver {
    async fn tend_all(&mut self, term: u64, last: bool) {
        let cluster = self.cluster.clone();
        for database in cluster.shared().all_databases() {
            let spec = database.spec();
            for ArchiveTarget { url, sync_interval } in self.options.targets(&spec.name) {
                let key = (spec.id.get(), url);
                let archive = self.archives.entry(key.clone()).or_insert_with(|| {
                    let destinations = self.options.destinations.clone();
                    Archive {
                        sync: DatabaseArchive::new(destinations, key.1.clone(), sync_interval),
                        upkeep: JoinSet::new(),
                    }
                });
                if last || archive.sync.is_due() {
                    archive.write_new(&cluster, &database, &key.1, term).await;
                }
                if !last {
                    self.merge_and_delete(&database, &key);
                }
            }
        }
    }

    /// Starts what is due, and takes note of what has been done.
    fn merge_and_delete(&mut self, database: &Arc<Database>, key: &(u64, String)) {
        let Some(archive) = self.archives.get_mut(key) else {
            return;
        };
        if let Some(done) = archive.upkeep.try_join_next() {
            match done {
                Ok(done) => {
                    archive.sync.tended(&done);
                    let troubles = self.cluster.archive_troubles();
                    let (failed, name) = (done.error.as_ref(), &database.spec().name);
                    troubles.note(key.0, name, &key.1, Task::Upkeep, failed);
                }
                Err(error) => error!(%error, url = key.1, "a task of the archive has ended"),
            }
        }
        if archive.upkeep.is_empty() {
            let (schedule, permits) = (&self.schedule, &self.permits);
            let due = archive
                .sync
                .upkeep(&self.cluster, database, schedule, permits);
            match due {
                Tending::Due(upkeep) => {
                    archive.upkeep.spawn(upkeep.run());
                }
                // What failed before is not there any more, or was done by others.
                Tending::Nothing => {
                    let troubles = self.cluster.archive_troubles();
                    troubles.note(key.0, &database.spec().name, &key.1, Task::Upkeep, None);
                }
                Tending::NotNow => {}
            }
        }
    }

    async fn end_upkeep(&mut self) {
        for archive in self.archives.values_mut() {
            archive.upkeep.shutdown().await;
        }
    }
}

impl Archive {
    async fn write_new(
        &mut self,
        cluster: &Arc<Cluster>,
        database: &Arc<Database>,
        url: &str,
        term: u64,
    ) {
        let spec = database.spec();
        let synced = self.sync.sync(cluster, database, term).await;
        let troubles = cluster.archive_troubles();
        let failed = synced.as_ref().err();
        troubles.note(spec.id.get(), &spec.name, url, Task::Sync, failed);
        match synced {
            Ok(0) => {}
            Ok(transactions) => debug!(database = %spec.name, transactions, "archived"),
            Err(_) => metrics::counter!("halite_archive_errors_total").increment(1),
        }
    }
}
