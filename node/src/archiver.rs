//! The archiver: on the primary, committed LTX becomes files at a destination.
//!
//! Each sync interval it merges what is new of each database into one level-0 file, then records the progress as a Raft command, so
//! that a new primary goes on where the old one stopped. Reads only the log: SQLite and its readers never wait for it. A database
//! whose first transactions are no longer in the log starts with a snapshot (level 9), and so does a place that has lost files. Idle databases
//! cost no request. Beside that, it merges files into higher levels and deletes what is out of date, a few databases at a time. Each database has a place of its own: one that is created anew under a name goes beside what is there.
//!
//! Nothing here waits for a destination but the tasks of that one archive, so that a store that is slow or hangs delays only itself.

mod archive;
mod files;
mod history;
pub mod place;
mod progress;
mod sync;
mod troubles;
mod upkeep;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use halite_archive::{Destinations, Schedule};
use tokio::sync::watch;
use tracing::warn;

use crate::cluster::Cluster;
use crate::cluster::role::Role;
use archive::{Archive, Means, Turns};
pub(crate) use troubles::Troubles;

/// How long a node that stops waits for its last writes. What they lack is written by the next primary.
const LAST_WRITES_WAIT: Duration = Duration::from_secs(5);

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

    /// The same, each with the address that is configured for it: the default one stands for all databases that go there.
    fn targets_by_store(&self, name: &str) -> Vec<(String, ArchiveTarget)> {
        let default = self
            .default
            .as_ref()
            .filter(|_| !self.own.contains_key(name));
        let store = |target: &ArchiveTarget| default.unwrap_or(target).url.clone();
        let targets = self.targets(name).into_iter();
        targets.map(|target| (store(&target), target)).collect()
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
    options: ArchiverOptions,
    means: Means,
    /// By the target's address.
    turns: HashMap<String, Turns>,
    /// By database id and address.
    archives: HashMap<(u64, String), Archive>,
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
        means: Means {
            cluster,
            destinations: options.destinations.clone(),
            schedule: Arc::new(options.schedule.clone()),
        },
        options,
        turns: HashMap::new(),
        archives: HashMap::new(),
    };
    loop {
        let last = tokio::select! {
            _ = tick.tick() => false,
            _ = stopping.wait_for(|stopping| *stopping) => true,
        };
        match archiver.means.cluster.role() {
            Role::Primary { term } if last => return archiver.write_last(term).await,
            Role::Primary { term } => archiver.tend_all(term),
            // What is known of the destinations may be wrong by the next time this node leads.
            _ => {
                archiver.end_all().await;
                archiver.means.cluster.archive_troubles().forget_all();
            }
        }
        if last {
            return;
        }
    }
}

impl Archiver {
    /// Takes note of what has been done, and begins what is due.
    fn tend_all(&mut self, term: u64) {
        let databases = self.means.cluster.shared().all_databases();
        let ids: HashSet<u64> = databases.iter().map(|d| d.spec().id.get()).collect();
        self.archives.retain(|(id, _), _| ids.contains(id));
        for database in databases {
            let spec = database.spec();
            for (store, target) in self.options.targets_by_store(&spec.name) {
                let archive = self
                    .archives
                    .entry((spec.id.get(), target.url.clone()))
                    .or_insert_with(|| {
                        let turns = self.turns.entry(store).or_insert_with(Turns::new);
                        Archive::new(&self.means, database.clone(), target, turns.clone())
                    });
                archive.tend(&self.means, term);
            }
        }
    }

    /// Writes what is new to all archives, as far as that takes not too long.
    async fn write_last(mut self, term: u64) {
        // Also of databases that are new.
        self.tend_all(term);
        let means = &self.means;
        let archives = self.archives.values_mut();
        let all = archives.map(|archive| archive.write_last(means, term));
        let all = futures::future::join_all(all);
        if tokio::time::timeout(LAST_WRITES_WAIT, all).await.is_err() {
            warn!(
                "not everything is archived after {} s, and this node stops: the next primary goes on from there",
                LAST_WRITES_WAIT.as_secs()
            );
        }
        self.end_all().await;
    }

    async fn end_all(&mut self) {
        for archive in self.archives.values_mut() {
            archive.end().await;
        }
        self.archives.clear();
    }
}
