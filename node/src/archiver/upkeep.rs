//! [`Upkeep`]: merges the files of one archive into higher levels, and deletes what nobody can ask for any more.
//!
//! Decides nothing itself: [`next_work`] says what to merge, [`expired`] what to delete. One run does all that is due and ends. What it knows of the
//! archive is the archiver's own listing; only before it deletes it asks the destination what is there at that moment.

use std::sync::Arc;

use halite_archive::{
    FileInfo, FileKey, Merge, MergeError, Schedule, Work, expired, merged_upload, next_work,
};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tracing::debug;

use super::files::Files;
use super::place::Place;
use super::sync::{SyncError, snapshot_of, still_primary};
use crate::cluster::Cluster;
use crate::database::{Database, HostThreads};

/// Files deleted between two looks whether this node still leads.
const DELETED_AT_ONCE: usize = 64;

/// One run.
pub(super) struct Upkeep {
    pub(super) cluster: Arc<Cluster>,
    pub(super) database: Arc<Database>,
    pub(super) place: Place,
    pub(super) schedule: Arc<Schedule>,
    pub(super) term: u64,
    pub(super) files: Files,
    /// So many run at once on a node.
    pub(super) permits: Arc<Semaphore>,
}

/// What a run has changed, whether it came to its end or not.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) added: Vec<FileInfo>,
    pub(super) removed: Vec<FileKey>,
    pub(super) error: Option<SyncError>,
}

impl Upkeep {
    /// Whether there is anything to do.
    pub(super) fn is_due(files: &Files, schedule: &Schedule, now: Timestamp) -> bool {
        let files = files.listing();
        next_work(&files, schedule, now).is_some() || !expired(&files, schedule, now).is_empty()
    }

    pub(super) async fn run(mut self) -> Done {
        let mut done = Done::default();
        let permits = self.permits.clone();
        // It is never closed.
        let Ok(_permit) = permits.acquire().await else {
            return done;
        };
        let merged = self.merge_all(&mut done).await;
        let tended = match merged {
            Ok(()) => self.delete_expired(&mut done).await,
            Err(error) => Err(error),
        };
        done.error = tended.err();
        let (merged, deleted) = (done.added.len(), done.removed.len());
        metrics::counter!("halite_archive_merges_total").increment(merged as u64);
        metrics::counter!("halite_archive_deleted_total").increment(deleted as u64);
        if merged + deleted > 0 {
            let database = &self.database.spec().name;
            debug!(%database, url = self.place.url, merged, deleted, "archive tended");
        }
        done
    }

    fn now(&self) -> Timestamp {
        wall_clock(&self.cluster)
    }

    async fn merge_all(&mut self, done: &mut Done) -> Result<(), SyncError> {
        while let Some(work) = next_work(&self.files.listing(), &self.schedule, self.now()) {
            let stored = match work {
                Work::Merge(merge) => self.merge(&merge).await?,
                Work::Snapshot => {
                    still_primary(&self.cluster, self.term)?;
                    let (snapshot, _) = snapshot_of(&self.place, &self.database).await?;
                    snapshot
                }
            };
            self.files.add(stored);
            done.added.push(stored);
        }
        Ok(())
    }

    async fn merge(&self, merge: &Merge) -> Result<FileInfo, SyncError> {
        let blocking = HostThreads(self.cluster.host().clone());
        let upload = merged_upload(&*self.place.destination, merge, &blocking).await?;
        // To open the files may have taken long, and another node may be archiving by now.
        still_primary(&self.cluster, self.term)?;
        let stored = self.place.destination.put(upload).await;
        Ok(stored.map_err(MergeError::from)?)
    }

    async fn delete_expired(&mut self, done: &mut Done) -> Result<(), SyncError> {
        if expired(&self.files.listing(), &self.schedule, self.now()).is_empty() {
            return Ok(());
        }
        // What is to take the place of a file may be gone itself.
        self.files = self.files.look(&*self.place.destination).await?;
        if let Some(hole) = self.files.hole(0) {
            return Err(SyncError::Hole(hole));
        }
        let keys = expired(&self.files.listing(), &self.schedule, self.now());
        for keys in keys.chunks(DELETED_AT_ONCE) {
            still_primary(&self.cluster, self.term)?;
            self.place.destination.delete(keys.to_vec()).await?;
            done.removed.extend(keys);
        }
        Ok(())
    }
}

impl Done {
    /// The source that is not what it should be, if that ended the run.
    pub(super) fn damaged(&self) -> Option<FileKey> {
        match &self.error {
            Some(SyncError::Merge(error)) => error.damaged(),
            _ => None,
        }
    }
}

/// The time that files are stamped with.
pub(super) fn wall_clock(cluster: &Cluster) -> Timestamp {
    Timestamp::from_millisecond(cluster.host().unix_ms()).unwrap_or(Timestamp::MAX)
}
