//! One database at one destination.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use halite_archive::{
    BatchError, DestinationError, Destinations, FileInfo, LevelZeroBatch, MergeError, SnapshotSpec,
    UrlError, list_all, put_snapshot,
};
use halite_ltx::{PageNo, Txid};
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{info, warn};

use super::archive::Means;
use super::files::Files;
use super::history;
use super::place::{self, Place};
use super::progress::Progress;
use super::upkeep::{Done, Upkeep, wall_clock};
use crate::cluster::role::Role;
use crate::cluster::{Cluster, ClusterError, ltx_log};
use crate::database::{Applied, Database, blocking};

/// LTX bytes merged into one level-0 file at most; what is left follows in the next.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// What there is at the destination is looked at whenever something is written, but in no more than this part of the time.
const LOOKING_PART: u32 = 50;
/// And this often where nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest pause after a sync that failed.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Whether files are to be merged or deleted is looked at so often, or four times in the interval of the first level.
const UPKEEP_EVERY: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{0}")]
    Merge(#[from] MergeError),
    #[error("nothing is deleted while the archive cannot be restored: {0}")]
    Hole(String),
    #[error("log not readable: {0}")]
    Log(#[from] std::io::Error),
    #[error("the database cannot be read: {0}")]
    Database(String),
    #[error(
        "the destination holds transactions that this cluster never committed: destination txid={found}, cluster txid={ours}: \
         archive to an empty place"
    )]
    Ahead { found: u64, ours: u64 },
    #[error(
        "the destination holds another history than this cluster, as if all of its nodes had been put back to older disks: transaction \
         {found} was committed at {at} there, and at {ours} here: archive to an empty place"
    )]
    Forked {
        found: u64,
        at: Timestamp,
        ours: Timestamp,
    },
    #[error(
        "the destination holds an archive that is not of this database, but of another cluster or of an earlier database of the same \
         name: destination txid={found}: move it away, or archive to an empty place"
    )]
    Taken { found: u64 },
    #[error(
        "the destination does not answer: a request to it has moved nothing for {seconds} s: see whether it can be reached, and is fast enough"
    )]
    Hangs { seconds: u64 },
    #[error("this node is no longer primary")]
    NotPrimary,
}

impl SyncError {
    /// It may be over by itself.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(
            self,
            Self::Url(_)
                | Self::Ahead { .. }
                | Self::Forked { .. }
                | Self::Taken { .. }
                | Self::Hangs { .. }
        )
    }
}

/// What is known of one destination during one term.
pub(super) struct DatabaseArchive {
    destinations: Arc<dyn Destinations>,
    /// Where databases of this name are archived.
    url: String,
    /// Counts the requests of syncs.
    progress: Arc<Progress>,
    /// Where this one is, once that has been looked at: there, or beside it, if an earlier one of its name has the place.
    place: Option<Place>,
    term: u64,
    /// What the destination itself says it holds: asked once a term, since the old primary may have written a file and died before it
    /// recorded it, after a request that failed, since it may have taken effect, and again and again, since others may change it.
    listed: bool,
    /// Something was written since.
    unseen: bool,
    /// When it may be asked again where something is written, and when it is to be although nothing is.
    look_after: Instant,
    look_latest: Instant,
    txid: u64,
    next_index: u64,
    sync_interval: Duration,
    due: Instant,
    /// Since one succeeded.
    failures: u32,
    /// What was there when it was asked, and what has been written since.
    files: Files,
    /// When it is to be seen whether files are to be merged or deleted.
    upkeep_due: Instant,
}

/// What is to be merged or deleted.
pub(super) enum Tending {
    /// It was not looked, or what is there is not known.
    NotNow,
    Nothing,
    Due(Upkeep),
}

/// What the log still has for the archive.
struct Merged {
    batch: LevelZeroBatch,
    last_index: u64,
    transactions: u64,
}

enum Collected {
    Batch(Merged),
    /// The log begins after the transaction wanted.
    Missing,
}

impl DatabaseArchive {
    pub(super) fn new(
        destinations: Arc<dyn Destinations>,
        url: String,
        sync_interval: Duration,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            destinations,
            url,
            progress,
            place: None,
            term: 0,
            listed: false,
            unseen: false,
            look_after: Instant::now(),
            look_latest: Instant::now(),
            txid: 0,
            next_index: 0,
            sync_interval,
            due: Instant::now(),
            failures: 0,
            files: Files::default(),
            upkeep_due: Instant::now(),
        }
    }

    /// The interval since the last sync began has passed.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// What failed is tried again after the interval, then after twice as long, and so on.
    pub(super) fn tried(&mut self, failed: bool) {
        if !failed {
            self.failures = 0;
            return;
        }
        let pause = self.sync_interval * (1 << self.failures.min(16));
        self.due = Instant::now() + pause.min(RETRY_PAUSE_MAX.max(self.sync_interval));
        self.failures += 1;
    }

    /// A sync begins; false if it would find nothing to do.
    pub(super) fn begin(&mut self, database: &Database, term: u64) -> bool {
        let now = Instant::now();
        self.due = now + self.sync_interval;
        self.is_behind(database) || !self.is_known(database, term, now)
    }

    fn is_behind(&self, database: &Database) -> bool {
        self.txid < database.status().applied.position.txid.get()
    }

    /// What is there is known, and not for so long that it has to be looked at again.
    fn is_known(&self, database: &Database, term: u64, now: Instant) -> bool {
        let may_look = (self.is_behind(database) || self.unseen) && now >= self.look_after;
        let is_old = may_look || now >= self.look_latest;
        self.listed && self.term == term && !is_old && self.place.is_some()
    }

    /// Writes what is new; how many transactions.
    pub(super) async fn sync(
        &mut self,
        cluster: &Arc<Cluster>,
        database: &Arc<Database>,
        term: u64,
    ) -> Result<u64, SyncError> {
        let id = database.spec().id.get();
        let applied = database.status().applied;
        let mut written = 0;
        let is_known = self.is_known(database, term, Instant::now());
        let place = match self.place.as_ref().filter(|_| is_known) {
            Some(place) => place.counted(self.progress.clone()),
            None => {
                let (place, hole) = self.look(cluster, id, &applied).await?;
                self.term = term;
                if let Some(hole) = hole {
                    still_primary(cluster, term)?;
                    written += self.heal(cluster, database, &place, &hole).await?;
                }
                place
            }
        };
        while self.txid < applied.position.txid.get() {
            // Not the node's applied index: it follows what its databases show.
            let (from, to) = (self.next_index, applied.raft_index);
            #[cfg(feature = "planted-bugs")]
            let to = match halite_planted::on(halite_planted::Bug::ArchiveUncommitted) {
                true => u64::MAX,
                false => to,
            };
            let (log, after) = (cluster.shared().log.clone(), self.txid);
            let collected = blocking(cluster.host(), move || collect(&log, id, after, from, to));
            let collected = collected.await??;
            let (info, index, count) = match collected {
                Collected::Missing => {
                    still_primary(cluster, term)?;
                    self.listed = false;
                    let (info, index) = snapshot_of(&place, database).await?;
                    (info, index, 1)
                }
                Collected::Batch(merged) => {
                    let (last_index, transactions) = (merged.last_index, merged.transactions);
                    let Some(upload) = merged.batch.finish()? else {
                        break;
                    };
                    // What came before may have taken long, and another node may be archiving by now.
                    still_primary(cluster, term)?;
                    // Unless the answer comes, only the destination itself can say what it holds.
                    self.listed = false;
                    let info = place.destination.put(upload).await?;
                    (info, last_index, transactions)
                }
            };
            self.wrote(info, index);
            written += count;
            self.unseen = true;
            // What cannot be recorded now is found at the destination, and recorded, next time, although nothing more may be written.
            self.record(cluster, &place, id, index).await?;
            self.listed = true;
        }
        Ok(written)
    }

    /// Where the database is archived: where the cluster has recorded it, else where nothing is.
    async fn choose(&self, cluster: &Cluster, id: u64) -> Result<Place, SyncError> {
        let open = |url: String| {
            let destination = self.destinations.open(&url)?;
            Ok::<_, SyncError>(Place { url, destination })
        };
        let counted = |place: &Place| place.counted(self.progress.clone());
        let beside = place::beside(&self.url, id);
        let is_recorded = |url: &str| {
            let catalog = cluster.shared().catalog.lock();
            catalog.archived(id, url).is_some()
        };
        if is_recorded(&beside) {
            return open(beside);
        }
        let first = open(self.url.clone())?;
        if is_recorded(&first.url) || list_all(&*counted(&first).destination).await?.is_empty() {
            return Ok(first);
        }
        open(beside)
    }

    /// A new beginning at a place that gives the database back no more: everything until now as one file.
    async fn heal(
        &mut self,
        cluster: &Cluster,
        database: &Arc<Database>,
        place: &Place,
        hole: &str,
    ) -> Result<u64, SyncError> {
        warn!(
            database = %database.spec().name,
            url = place.url,
            hole,
            "the archive has lost files, and gets the whole database anew; older states that needed them are gone"
        );
        metrics::counter!("halite_archive_holes_total").increment(1);
        self.listed = false;
        let (info, index) = snapshot_of(place, database).await?;
        self.wrote(info, index);
        self.record(cluster, place, database.spec().id.get(), index)
            .await?;
        self.listed = true;
        Ok(1)
    }

    fn wrote(&mut self, info: FileInfo, raft_index: u64) {
        (self.txid, self.next_index) = (info.key.max.get(), raft_index + 1);
        self.files.add(info);
    }

    /// Where to go on: at what the cluster has recorded, or further if the destination already holds more. The first time, the destination
    /// has to be empty: two histories in one place would restore to neither of them.
    ///
    /// Where that is, with requests that are counted, and what it lacks that was there.
    async fn look(
        &mut self,
        cluster: &Cluster,
        id: u64,
        applied: &Applied,
    ) -> Result<(Place, Option<String>), SyncError> {
        self.listed = false;
        let began = Instant::now();
        let place = self.choose(cluster, id).await?;
        let ours = applied.position.txid.get();
        let recorded = cluster.shared().catalog.lock().archived(id, &place.url);
        if self
            .place
            .as_ref()
            .is_none_or(|known| known.url != place.url)
        {
            self.files = Files::default();
        }
        let counted = place.counted(self.progress.clone());
        self.files = self.files.look(&*counted.destination).await?;
        let hole = self.files.hole(recorded.map_or(0, |at| at.txid));
        let held = self.files.newest();
        let recorded = match recorded {
            None if held > 0 => return Err(SyncError::Taken { found: held }),
            None => {
                // From now on whatever is found there is of this database.
                self.txid = 0;
                self.record(cluster, &place, id, id).await?;
                if place.url != self.url {
                    info!(
                        database_id = id,
                        url = place.url,
                        taken = self.url,
                        "archived beside another archive of this name: of an earlier database, or of another cluster"
                    );
                }
                0
            }
            Some(_) if held > ours => return Err(SyncError::Ahead { found: held, ours }),
            Some(recorded) if held > recorded.txid => {
                if let Some(at) = self.files.committed_at(held) {
                    let entries = recorded.raft_index + 1..=applied.raft_index;
                    history::is_ours(cluster, id, held, at, entries).await?;
                }
                self.txid = held;
                // Which entry committed it is known only of the newest; an earlier index costs some room in the log.
                let index = match held == ours {
                    true => applied.raft_index,
                    false => recorded.raft_index,
                };
                self.record(cluster, &place, id, index).await?;
                index
            }
            Some(recorded) => {
                self.txid = recorded.txid;
                recorded.raft_index
            }
        };
        self.next_index = recorded + 1;
        (self.listed, self.unseen) = (true, false);
        let now = Instant::now();
        (self.look_after, self.look_latest) =
            (now + (now - began) * LOOKING_PART, now + LOOK_EVERY);
        self.place = Some(place);
        Ok((counted, hole))
    }

    async fn record(
        &self,
        cluster: &Cluster,
        place: &Place,
        database_id: u64,
        raft_index: u64,
    ) -> Result<(), SyncError> {
        let progress = v1::ArchiveProgressCommand {
            database_id,
            destination: place.url.clone(),
            txid: self.txid,
            raft_index,
        };
        cluster.command(Kind::ArchiveProgress(progress)).await?;
        Ok(())
    }

    /// What is to be merged or deleted now, if anything is and the time has come to see.
    pub(super) fn upkeep(
        &mut self,
        means: &Means,
        database: &Arc<Database>,
        progress: Arc<Progress>,
        permits: &Arc<Semaphore>,
    ) -> Tending {
        let now = Instant::now();
        let Some(place) = self.place.clone().filter(|_| self.listed) else {
            return Tending::NotNow;
        };
        if now < self.upkeep_due {
            return Tending::NotNow;
        }
        let (cluster, schedule) = (&means.cluster, &means.schedule);
        let first = schedule.levels.first().copied();
        self.upkeep_due = now + first.map_or(UPKEEP_EVERY, |first| (first / 4).min(UPKEEP_EVERY));
        if !Upkeep::is_due(&self.files, schedule, wall_clock(cluster)) {
            return Tending::Nothing;
        }
        Tending::Due(Upkeep {
            cluster: cluster.clone(),
            database: database.clone(),
            place: place.counted(progress),
            schedule: schedule.clone(),
            term: self.term,
            files: self.files.clone(),
            permits: permits.clone(),
        })
    }

    /// Takes note of what was merged and deleted.
    pub(super) fn tended(&mut self, done: &Done) {
        for file in &done.added {
            self.files.add(*file);
        }
        for key in &done.removed {
            self.files.remove(*key);
        }
        if let Some(damaged) = done.damaged() {
            self.files.leave_out(damaged);
        }
        // It may not be what is thought to be there.
        self.listed &= done.error.is_none();
    }
}

/// Stores the whole database as one level-9 file: for one that the log no longer holds from the beginning. Gives the entry up to which that is, too.
pub(super) async fn snapshot_of(
    place: &Place,
    database: &Arc<Database>,
) -> Result<(FileInfo, u64), SyncError> {
    let snapshot = database
        .snapshot()
        .await
        .map_err(|e| SyncError::Database(e.to_string()))?;
    let snapshot = snapshot.map_err(|e| SyncError::Database(e.message))?;
    let state = snapshot.state();
    let raft_index = state.raft_index;
    let spec = SnapshotSpec {
        page_size: snapshot.page_size(),
        commit: state.page_count,
        txid: Txid::new(state.txid),
        timestamp_ms: snapshot.timestamp_ms(),
    };
    let mut buffer = Vec::new();
    let pages = move |pgno: PageNo, page: &mut [u8]| {
        snapshot.read_page(pgno, &mut buffer)?;
        page.copy_from_slice(&buffer);
        Ok(())
    };
    let info = put_snapshot(&*place.destination, spec, pages).await?;
    Ok((info, raft_index))
}

pub(super) fn still_primary(cluster: &Cluster, term: u64) -> Result<(), SyncError> {
    match cluster.role() {
        Role::Primary { term: now } if now == term => Ok(()),
        _ => Err(SyncError::NotPrimary),
    }
}

fn collect(
    log: &halite_log::LogStore,
    database_id: u64,
    after: u64,
    from: u64,
    to: u64,
) -> Result<Collected, SyncError> {
    let from = from.max(log.indexes().start);
    let batch = LevelZeroBatch::new(Txid::new(after), BATCH_BYTES_MAX);
    let mut merged = Merged {
        batch,
        last_index: from,
        transactions: 0,
    };
    for ltx in ltx_log::transactions(log, database_id, from, to) {
        let ltx = ltx?;
        if ltx.command.txid <= merged.batch.max().get() {
            continue;
        }
        if merged.transactions == 0 && ltx.command.txid != after + 1 {
            return Ok(Collected::Missing);
        }
        let mut bytes = Vec::new();
        ltx.reader().read_to_end(&mut bytes)?;
        match merged.batch.push(bytes.into()) {
            Ok(()) => {}
            Err(BatchError::Full { .. }) => break,
            Err(error) => return Err(error.into()),
        }
        (merged.last_index, merged.transactions) = (ltx.index, merged.transactions + 1);
    }
    if merged.transactions == 0 {
        return Ok(Collected::Missing);
    }
    Ok(Collected::Batch(merged))
}
