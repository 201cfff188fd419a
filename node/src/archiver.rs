//! The archiver: on the primary, committed LTX becomes files at a destination.
//!
//! Each sync interval it merges what is new of each database into one level-0 file, then records the progress as a Raft command, so
//! that a new primary goes on where the old one stopped. Reads only the log: SQLite and its readers never wait for it. A database
//! whose first transactions are no longer in the log starts with a snapshot (level 9). Idle databases cost no request.

mod sync;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use halite_archive::Destinations;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::cluster::Cluster;
use crate::cluster::role::Role;
use sync::DatabaseArchive;

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

    /// The shortest interval of all targets.
    fn tick(&self) -> Duration {
        let own = self.own.values().flatten();
        let all = own.chain(&self.default).map(|target| target.sync_interval);
        all.min().unwrap_or(Duration::from_secs(1))
    }
}

/// Runs until `stopping` turns true; syncs once more before it ends, if this node still leads.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    options: ArchiverOptions,
    mut stopping: watch::Receiver<bool>,
) {
    let mut archives: HashMap<(u64, String), DatabaseArchive> = HashMap::new();
    let mut tick = tokio::time::interval(options.tick());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = tick.tick() => false,
            _ = stopping.wait_for(|stopping| *stopping) => true,
        };
        match cluster.role() {
            Role::Primary { term } => sync_all(&cluster, &options, &mut archives, term, last).await,
            // What is known of the destinations may be wrong by the next time this node leads.
            _ => archives.clear(),
        }
        if last {
            return;
        }
    }
}

async fn sync_all(
    cluster: &Arc<Cluster>,
    options: &ArchiverOptions,
    archives: &mut HashMap<(u64, String), DatabaseArchive>,
    term: u64,
    now: bool,
) {
    for database in cluster.shared().all_databases() {
        let spec = database.spec();
        for ArchiveTarget { url, sync_interval } in options.targets(&spec.name) {
            let archive = match archives.entry((spec.id.get(), url.clone())) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(new) => {
                    match options.destinations.open(&url) {
                        Ok(destination) => {
                            new.insert(DatabaseArchive::new(url, destination, sync_interval))
                        }
                        Err(error) => {
                            warn!(database = %spec.name, %error, "destination not usable");
                            continue;
                        }
                    }
                }
            };
            if !now && !archive.is_due() {
                continue;
            }
            match archive.sync(cluster, &database, term).await {
                Ok(0) => {}
                Ok(transactions) => debug!(database = %spec.name, transactions, "archived"),
                Err(error) => {
                    metrics::counter!("halite_archive_errors_total").increment(1);
                    warn!(database = %spec.name, %error, "not archived, trying again");
                }
            }
        }
    }
}
