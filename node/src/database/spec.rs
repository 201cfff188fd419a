//! What a database is opened with: its name and place ([`DatabaseSpec`]), what the log still holds for it ([`Redo`]) and the settings
//! of the node ([`DatabaseOptions`]).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use halite_ltx::{Checksum, PageSize};
use halite_pager::Disk;
use halite_proto::v1;

use super::{CommittedLog, Host, Mark, SystemHost, Transactions, Window};

/// Number of a database in the catalog: never used twice in one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseId(u64);

impl DatabaseId {
    /// Wraps the catalog's number.
    pub const fn new(value: u64) -> Self {
        DatabaseId(value)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which database, and where its file is.
#[derive(Clone, Debug)]
pub struct DatabaseSpec {
    /// Number in the catalog.
    pub id: DatabaseId,
    /// Name in the catalog: for logs and messages.
    pub name: String,
    /// The SQLite file. Its `-wal` and `-shm` stand beside it.
    pub path: PathBuf,
    /// Page size that the catalog knows; fixed for the life of the database.
    pub page_size: PageSize,
}

/// What the node knows about the database at start (architecture: redo).
pub struct Redo {
    /// C: what the last finished checkpoint made durable in the file; `None` for a database that was never checkpointed here.
    pub checkpoint: Option<v1::DatabaseCheckpoint>,
    /// The committed entries of this database in (C, M], in log order.
    pub entries: Transactions,
    /// TXID of K, the checkpoint begun last: the database had reached it. A page diff leads there without the log.
    pub reached: u64,
    /// Checksum at K: the file may hold that, whatever the log leads to.
    pub target: Option<Checksum>,
    /// The newest transaction up to M that is known to be committed: the redo has to lead there.
    pub committed: Option<Mark>,
    /// M itself.
    pub to: u64,
    /// Where entries are read again that could not be taken when they came. `None`: nowhere.
    pub log: Option<Arc<dyn CommittedLog>>,
}

impl Redo {
    /// A database of which neither the log nor a checkpoint knows anything.
    pub fn nothing() -> Self {
        Redo {
            checkpoint: None,
            entries: Box::new(std::iter::empty()),
            reached: 0,
            target: None,
            committed: None,
            to: 0,
            log: None,
        }
    }
}

/// Settings shared by the databases of a node.
#[derive(Clone)]
pub struct DatabaseOptions {
    /// A checkpoint is due when the WAL is larger than this, in bytes.
    pub checkpoint_wal_bytes: u64,
    /// A checkpoint is due when nothing happened for this long and the WAL is not empty.
    pub checkpoint_idle: Duration,
    /// A batch that has worked for this long takes no further job, so that the first ones need not wait for a long queue of slow ones.
    pub batch_work_max: Duration,
    /// Within this time each page of the file is compared with what was committed. Zero: never.
    pub scrub_interval: Duration,
    /// After a batch the lane waits for the callers it has just answered, at most this long and never longer than half of what the batch
    /// took. Without it they come back too late for the next batch, and closed-loop callers fall into two halves that wait for each
    /// other's quorum round. A lone caller never waits. Zero: never; for drivers whose clock stands still.
    pub gather_max: Duration,
    /// An entry of the log carries at most this many bytes of LTX; a larger transaction comes in chunks of this size. At least 1.
    pub entry_bytes_max: usize,
    /// What large transactions have on their way at most; shared by all databases of a node.
    pub window: Window,
    /// Write jobs that may wait for the lane; more are refused as unavailable.
    pub queued_jobs_max: usize,
    /// Time, randomness and threads.
    pub host: Arc<dyn Host>,
    /// A disk that can lose power, below the databases: for the simulation.
    pub disk: Option<Arc<dyn Disk>>,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        DatabaseOptions {
            checkpoint_wal_bytes: 16 << 20,
            checkpoint_idle: Duration::from_secs(5),
            batch_work_max: Duration::from_millis(20),
            scrub_interval: Duration::from_secs(24 * 3600),
            gather_max: Duration::from_millis(1),
            entry_bytes_max: 1 << 20,
            window: Window::default(),
            queued_jobs_max: 65_536,
            host: SystemHost::shared(),
            disk: None,
        }
    }
}

impl fmt::Debug for DatabaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseOptions")
            .field("checkpoint_wal_bytes", &self.checkpoint_wal_bytes)
            .field("checkpoint_idle", &self.checkpoint_idle)
            .field("batch_work_max", &self.batch_work_max)
            .field("scrub_interval", &self.scrub_interval)
            .field("gather_max", &self.gather_max)
            .field("entry_bytes_max", &self.entry_bytes_max)
            .field("queued_jobs_max", &self.queued_jobs_max)
            .finish_non_exhaustive()
    }
}
