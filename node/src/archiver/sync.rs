//! One database at one destination.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use halite_archive::{
    BatchError, Destination, DestinationError, LevelZeroBatch, SnapshotSpec, list_all, put_snapshot,
};
use halite_ltx::{PageNo, Txid};
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use tokio::time::Instant;

use crate::cluster::role::Role;
use crate::cluster::{Cluster, ClusterError, ltx_log};
use crate::database::{Applied, Database, blocking};

/// LTX bytes merged into one level-0 file at most; what is left follows in the next.
const BATCH_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
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
        "the destination holds an archive that is not of this database, but of another cluster or of an earlier database of the same \
         name: destination txid={found}: move it away, or archive to an empty place"
    )]
    Taken { found: u64 },
    #[error("this node is no longer primary")]
    NotPrimary,
}

/// What is known of one destination during one term.
pub(super) struct DatabaseArchive {
    url: String,
    destination: Arc<dyn Destination>,
    term: u64,
    /// What the destination itself says it holds: asked once a term, since the old primary may have written a file and died before it
    /// recorded it, and after a request that failed, since it may have taken effect.
    listed: bool,
    txid: u64,
    next_index: u64,
    sync_interval: Duration,
    due: Instant,
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
        url: String,
        destination: Arc<dyn Destination>,
        sync_interval: Duration,
    ) -> Self {
        Self {
            url,
            destination,
            term: 0,
            listed: false,
            txid: 0,
            next_index: 0,
            sync_interval,
            due: Instant::now(),
        }
    }

    /// The interval since the last sync began has passed.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Writes what is new; how many transactions.
    pub(super) async fn sync(
        &mut self,
        cluster: &Arc<Cluster>,
        database: &Arc<Database>,
        term: u64,
    ) -> Result<u64, SyncError> {
        self.due = Instant::now() + self.sync_interval;
        let id = database.spec().id.get();
        let applied = database.status().applied;
        if !self.listed || self.term != term {
            self.look(cluster, id, &applied).await?;
            self.term = term;
        }
        let mut written = 0;
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
            let (txid, index, count) = match collected {
                Collected::Missing => {
                    still_primary(cluster, term)?;
                    self.listed = false;
                    let snapshot = self.snapshot(database).await?;
                    self.listed = true;
                    snapshot
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
                    let info = self.destination.put(upload).await?;
                    self.listed = true;
                    (info.key.max.get(), last_index, transactions)
                }
            };
            (self.txid, self.next_index) = (txid, index + 1);
            written += count;
            self.record(cluster, id, index).await?;
        }
        Ok(written)
    }

    /// Where to go on: at what the cluster has recorded, or further if the destination already holds more. The first time, the destination
    /// has to be empty: two histories in one place would restore to neither of them.
    async fn look(
        &mut self,
        cluster: &Cluster,
        id: u64,
        applied: &Applied,
    ) -> Result<(), SyncError> {
        let ours = applied.position.txid.get();
        let recorded = cluster.shared().catalog.lock().archived(id, &self.url);
        let files = list_all(&*self.destination).await?;
        let held = files.iter().map(|f| f.key.max.get()).max().unwrap_or(0);
        let recorded = match recorded {
            None if held > 0 => return Err(SyncError::Taken { found: held }),
            None => {
                // From now on whatever is found there is of this database.
                self.txid = 0;
                self.record(cluster, id, id).await?;
                0
            }
            Some(_) if held > ours => return Err(SyncError::Ahead { found: held, ours }),
            Some(recorded) if held > recorded.txid => {
                self.txid = held;
                // Which entry committed it is known only of the newest; an earlier index costs some room in the log.
                let index = match held == ours {
                    true => applied.raft_index,
                    false => recorded.raft_index,
                };
                self.record(cluster, id, index).await?;
                index
            }
            Some(recorded) => {
                self.txid = recorded.txid;
                recorded.raft_index
            }
        };
        self.next_index = recorded + 1;
        self.listed = true;
        Ok(())
    }

    async fn record(
        &self,
        cluster: &Cluster,
        database_id: u64,
        raft_index: u64,
    ) -> Result<(), SyncError> {
        let progress = v1::ArchiveProgressCommand {
            database_id,
            destination: self.url.clone(),
            txid: self.txid,
            raft_index,
        };
        cluster.command(Kind::ArchiveProgress(progress)).await?;
        Ok(())
    }

    /// The whole database as one level-9 file: for a database that the log no longer holds from the beginning.
    async fn snapshot(&self, database: &Arc<Database>) -> Result<(u64, u64, u64), SyncError> {
        let snapshot = database
            .snapshot()
            .await
            .map_err(|e| SyncError::Database(e.to_string()))?;
        let snapshot = snapshot.map_err(|e| SyncError::Database(e.message))?;
        let state = snapshot.state();
        let (txid, raft_index) = (state.txid, state.raft_index);
        let spec = SnapshotSpec {
            page_size: snapshot.page_size(),
            commit: state.page_count,
            txid: Txid::new(txid),
            timestamp_ms: snapshot.timestamp_ms(),
        };
        let mut buffer = Vec::new();
        let pages = move |pgno: PageNo, page: &mut [u8]| {
            snapshot.read_page(pgno, &mut buffer)?;
            page.copy_from_slice(&buffer);
            Ok(())
        };
        put_snapshot(&*self.destination, spec, pages).await?;
        Ok((txid, raft_index, 1))
    }
}

fn still_primary(cluster: &Cluster, term: u64) -> Result<(), SyncError> {
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
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::ArchiveSkipsTransaction)
            && merged.transactions == 1
        {
            continue;
        }
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
