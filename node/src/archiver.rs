//! The archiver: on the primary, committed LTX becomes files at a destination.
//!
//! Each sync interval it merges what is new of each database into one level-0 file, then records the progress as a Raft command, so
//! that a new primary goes on where the old one stopped. Reads only the log: SQLite and its readers never wait for it. A database
//! whose first transactions are no longer in the log starts with a snapshot (level 9). Idle databases cost no request.

mod sync;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use halite_archive::{Blocking, DestinationUrl, ThreadPool, open_destination};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::cluster::Cluster;
use crate::cluster::role::Role;
use sync::DatabaseArchive;

/// Where databases are archived, and how often.
#[derive(Debug, Clone)]
pub struct ArchiverOptions {
    /// Destination of each database: by name, and one for all others (each in a directory of its own below it).
    pub destinations: HashMap<String, Vec<String>>,
    /// URL under which databases without one of their own are archived, as `<url>/<name>`.
    pub default_url: Option<String>,
    /// How often what is new is written.
    pub sync_interval: Duration,
}

impl ArchiverOptions {
    /// The URLs that a database is archived to.
    pub fn urls(&self, name: &str) -> Vec<String> {
        if let Some(urls) = self.destinations.get(name) {
            return urls.clone();
        }
        self.default_url
            .iter()
            .map(|url| format!("{}/{name}", url.trim_end_matches('/')))
            .collect()
    }

    /// Nothing is archived.
    pub fn is_empty(&self) -> bool {
        self.default_url.is_none() && self.destinations.values().all(Vec::is_empty)
    }
}

/// Runs until `stopping` turns true; syncs once more before it ends, if this node still leads.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    options: ArchiverOptions,
    mut stopping: watch::Receiver<bool>,
) {
    let mut archives: HashMap<(u64, String), DatabaseArchive> = HashMap::new();
    let mut tick = tokio::time::interval(options.sync_interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = tick.tick() => false,
            _ = stopping.wait_for(|stopping| *stopping) => true,
        };
        match cluster.role() {
            Role::Primary { term } => sync_all(&cluster, &options, &mut archives, term).await,
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
) {
    for database in cluster.shared().all_databases() {
        let spec = database.spec();
        for url in options.urls(&spec.name) {
            let archive = match archives.entry((spec.id.get(), url.clone())) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(new) => {
                    let blocking: Arc<dyn Blocking> = Arc::new(ThreadPool);
                    match DestinationUrl::parse(&url) {
                        Ok(parsed) => {
                            let destination = open_destination(&parsed, blocking);
                            new.insert(DatabaseArchive::new(url, destination, term))
                        }
                        Err(error) => {
                            warn!(database = %spec.name, %error, "destination not usable");
                            continue;
                        }
                    }
                }
            };
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
