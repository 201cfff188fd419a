//! Opens the databases of this node: where their files are, what a lane proposes through, where checkpoints are noted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use halite_log::{LogStore, MetaKey};
use halite_ltx::{Checksum, PageSize};
use halite_pager::beside;
use halite_proto::v1;
use prost::Message as _;
use tracing::warn;

use super::catalog::CatalogDatabase;
use super::ltx_log;
use super::page_diff;
use super::raft_proposer::RaftProposer;
use crate::database::recovery::{self, EntryId};
use crate::database::{
    CheckpointStore, CommittedLog, Database, DatabaseId, DatabaseOptions, DatabaseSpec, Mark,
    OpenError, Redo, Transactions, blocking,
};
use crate::staging_file::staging_dir;

/// Why a database of this node cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenerError {
    /// The catalog names a page size that there is not.
    #[error(transparent)]
    PageSize(halite_ltx::InvalidPageSize),
    /// The directory or the log cannot be used.
    #[error("storage: {0}")]
    Storage(io::Error),
    /// The file itself.
    #[error(transparent)]
    Database(OpenError),
}

/// What every database of this node is opened with.
pub(crate) struct Opener {
    pub(crate) data_dir: PathBuf,
    pub(crate) log: LogStore,
    pub(crate) proposer: Arc<RaftProposer>,
    pub(crate) options: DatabaseOptions,
}

impl Opener {
    /// Where the file of a database is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        databases_dir(&self.data_dir).join(format!("{name}.db"))
    }

    /// Opens a database of the catalog and brings it to the state at `to`, an index up to which all is committed and in the log, unless the
    /// log has lost it or it never was there: then the database is known to need repair if it does not reach `owed`.
    ///
    /// The first time, whatever lies at its path is left over, or not ours, and is moved aside. A file that is no database any more is moved aside
    /// as well; what is opened in its place needs repair, unless the log holds everything.
    pub(crate) async fn open(
        &self,
        database: &CatalogDatabase,
        to: u64,
        owed: u64,
    ) -> Result<Arc<Database>, OpenerError> {
        if !self.is_made(database.id).map_err(OpenerError::Storage)? {
            self.make_room(database)
                .await
                .map_err(OpenerError::Storage)?;
        }
        let redo = self.redo(database, to, owed)?;
        match self.open_with(database, redo).await {
            Err(OpenerError::Database(error)) if error.is_damage() => {
                self.set_aside(&database.name, &error.to_string())
                    .await
                    .map_err(OpenerError::Storage)?;
                let redo = self.redo(database, to, owed)?;
                self.open_with(database, redo).await
            }
            other => other,
        }
    }

    /// What lies at the path of a database is of this database: it was made here, or is being made.
    pub(crate) fn is_made(&self, id: u64) -> io::Result<bool> {
        for field in [MADE, TARGET, DONE] {
            let noted = self.log.meta_get(&key(id, field));
            if noted.map_err(io::Error::other)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// From here on, what lies at the path of a database is its own.
    async fn make_room(&self, database: &CatalogDatabase) -> io::Result<()> {
        self.set_aside(&database.name, "the database is new")
            .await?;
        self.note_made([database]).await
    }

    pub(crate) async fn note_made(
        &self,
        databases: impl IntoIterator<Item = &CatalogDatabase>,
    ) -> io::Result<()> {
        let made = |name: &str| Some(Bytes::from(format!("{MADE_NAMED}{name}")));
        let changes = databases
            .into_iter()
            .map(|database| (key(database.id, MADE), made(&database.name)));
        let noted = self.log.meta_put(changes.collect(), true).await;
        noted.map_err(io::Error::other)
    }

    /// Ids and names of the databases whose files were made here, but for those that a version made which noted no names.
    pub(crate) fn made(&self) -> io::Result<Vec<(u64, String)>> {
        let meta = self.log.meta_of_databases().map_err(io::Error::other)?;
        let named = meta.into_iter().filter_map(|(key, value)| {
            let ["db", id, MADE] = key.parts()[..] else {
                return None;
            };
            let name = std::str::from_utf8(&value).ok()?;
            Some((id.parse().ok()?, name.strip_prefix(MADE_NAMED)?.to_owned()))
        });
        Ok(named.collect())
    }

    /// What is known of a database beyond its file.
    fn redo(&self, database: &CatalogDatabase, to: u64, owed: u64) -> Result<Redo, OpenerError> {
        let noted = |field| {
            self.checkpoint(database.id, field)
                .map_err(OpenerError::Storage)
        };
        let checkpoint = noted(DONE)?.unwrap_or_else(|| v1::DatabaseCheckpoint {
            raft_index: database.id,
            ..v1::DatabaseCheckpoint::default()
        });
        let noted_target = noted(TARGET)?;
        let target = noted_target.as_ref().map(|k| (entry_id(k), k.txid));
        let plan = recovery::of_database(
            to,
            self.log.indexes().start,
            checkpoint.raft_index,
            target,
            |index| ltx_log::term_at(&self.log, index),
        );
        let last = plan.last.min(self.log.indexes().end.saturating_sub(1));
        let entries = ltx_log::transactions(&self.log, database.id, plan.first, last);
        Ok(Redo {
            checkpoint: Some(checkpoint),
            entries: Box::new(entries),
            reached: plan.reached.max(owed),
            target: noted_target.map(|k| Checksum::new(k.checksum)),
            committed: self.newest_up_to(database, to),
            to,
            log: Some(self.committed_log(database.id)),
        })
    }

    /// The newest transaction that the redo has to lead to. While the node runs, more may be committed than up to `to`: whoever opens the
    /// database hands it over afterwards.
    fn newest_up_to(&self, database: &CatalogDatabase, to: u64) -> Option<Mark> {
        match self.proposer.is_connected() {
            false => database.newest,
            true => {
                let newest = self.committed_log(database.id).newest();
                newest.filter(|newest| newest.index <= to)
            }
        }
    }

    fn committed_log(&self, database_id: u64) -> Arc<dyn CommittedLog> {
        Arc::new(LogOfDatabase {
            database_id,
            log: self.log.clone(),
            proposer: self.proposer.clone(),
        })
    }

    /// Moves what lies at the path of a database out of the way: nothing is thrown away silently.
    async fn set_aside(&self, name: &str, why: &str) -> io::Result<()> {
        let path = self.path(name);
        let moved = blocking(&self.options.host, move || set_aside(&path)).await??;
        for (from, to) in moved {
            warn!(from = %from.display(), to = %to.display(), why, "moved a file aside");
        }
        Ok(())
    }

    /// Before any database is opened. What cannot be removed takes room, and is in nobody's way.
    pub(crate) fn remove_left_over_imports(&self) {
        if let Err(error) = halite_pager::remove_left_over_copies(&databases_dir(&self.data_dir)) {
            tracing::warn!(%error, "what imports have left behind cannot be removed");
        }
    }

    async fn open_with(
        &self,
        database: &CatalogDatabase,
        redo: Redo,
    ) -> Result<Arc<Database>, OpenerError> {
        let spec = DatabaseSpec {
            id: DatabaseId::new(database.id),
            name: database.name.clone(),
            path: self.path(&database.name),
            page_size: PageSize::try_from(database.page_size).map_err(OpenerError::PageSize)?,
        };
        let proposer = self.proposer.clone();
        let checkpoints = Arc::new(MetaCheckpoints {
            log: self.log.clone(),
        });
        let options = self.options.clone();
        let dir = databases_dir(&self.data_dir);
        let open = move || {
            std::fs::create_dir_all(&dir).map_err(OpenerError::Storage)?;
            Database::open(spec, redo, proposer, checkpoints, options)
                .map_err(OpenerError::Database)
        };
        blocking(&self.options.host, open)
            .await
            .map_err(OpenerError::Storage)?
    }

    /// Removes the files of a closed database, if they are its own, and what is noted of it.
    pub(crate) async fn delete(&self, database: &CatalogDatabase) -> io::Result<()> {
        if self.is_made(database.id)? {
            let path = self.path(&database.name);
            blocking(&self.options.host, move || remove_files(&path)).await??;
        }
        let (staging, id) = (staging_dir(&self.data_dir), database.id);
        blocking(&self.options.host, move || {
            page_diff::remove_of(&staging, id)
        })
        .await??;
        self.forget(database.id).await
    }

    /// Forgets what is noted of a database.
    pub(crate) async fn forget(&self, id: u64) -> io::Result<()> {
        let changes = [MADE, DONE, TARGET].map(|field| (key(id, field), None));
        let forgotten = self.log.meta_put(changes.to_vec(), false).await;
        forgotten.map_err(io::Error::other)
    }

    /// The checkpoint noted as done (C) or aimed at (K).
    pub(crate) fn checkpoint(
        &self,
        id: u64,
        field: &str,
    ) -> io::Result<Option<v1::DatabaseCheckpoint>> {
        let noted = self.log.meta_get(&key(id, field));
        noted.map_err(io::Error::other)?.map(decode).transpose()
    }
}

/// The logs go first: a database without its WAL is an older state, a WAL without its database is a trap.
fn remove_files(path: &Path) -> io::Result<()> {
    for suffix in SUFFIXES.iter().rev() {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Renames a database and the files that SQLite keeps beside it; the old and new names of those that were there.
fn set_aside(path: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut moved = Vec::new();
    for suffix in SUFFIXES {
        let from = beside(path, suffix);
        if from.symlink_metadata().is_err() {
            continue;
        }
        let free = (1_u32..)
            .map(|number| beside(&from, &format!(".orphan-{number}")))
            .find(|to| to.symlink_metadata().is_err());
        if let Some(to) = free {
            std::fs::rename(&from, &to)?;
            moved.push((from, to));
        }
    }
    Ok(moved)
}

/// A database, and what SQLite keeps beside it.
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

pub(crate) const DONE: &str = "checkpoint";
pub(crate) const TARGET: &str = "checkpoint-target";
/// What lies at the path of the database is its own.
const MADE: &str = "made";
/// What stands there before the name of the database. Without a name: of an older version.
const MADE_NAMED: &str = "1:";

pub(crate) fn databases_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("db")
}

/// The entry that a checkpoint ends with.
pub(crate) fn entry_id(checkpoint: &v1::DatabaseCheckpoint) -> EntryId {
    EntryId {
        term: checkpoint.raft_term,
        index: checkpoint.raft_index,
    }
}

/// Up to where the checkpoints lead that were begun last, one for each database.
pub(crate) fn targets(log: &LogStore) -> io::Result<Vec<v1::DatabaseCheckpoint>> {
    let meta = log.meta_of_databases().map_err(io::Error::other)?;
    meta.into_iter()
        .filter(|(key, _)| key.parts().last() == Some(&TARGET))
        .map(|(_, bytes)| decode(bytes))
        .collect()
}

/// What is noted under [`DONE`] or [`TARGET`].
fn decode(bytes: Bytes) -> io::Result<v1::DatabaseCheckpoint> {
    v1::DatabaseCheckpoint::decode(bytes).map_err(io::Error::other)
}

fn key(id: u64, field: &str) -> MetaKey {
    MetaKey::database(&id.to_string(), field).expect("a number and a constant make a key")
}

/// Checkpoint positions in the log's `meta`.
struct MetaCheckpoints {
    log: LogStore,
}

impl CheckpointStore for MetaCheckpoints {
    fn save_target(&self, db: DatabaseId, k: &v1::DatabaseCheckpoint) -> io::Result<()> {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::CheckpointTargetUnsaved) {
            return Ok(());
        }
        self.log
            .meta_put_blocking(
                vec![(key(db.get(), TARGET), Some(k.encode_to_vec().into()))],
                true,
            )
            .map_err(io::Error::other)
    }

    fn save_done(
        &self,
        db: DatabaseId,
        c: &v1::DatabaseCheckpoint,
        durable: bool,
    ) -> io::Result<()> {
        self.log
            .meta_put_blocking(
                vec![(key(db.get(), DONE), Some(c.encode_to_vec().into()))],
                durable,
            )
            .map_err(io::Error::other)
    }
}

/// The committed transactions of one database, as catalog and log know them.
struct LogOfDatabase {
    database_id: u64,
    log: LogStore,
    proposer: Arc<RaftProposer>,
}

impl CommittedLog for LogOfDatabase {
    fn newest(&self) -> Option<Mark> {
        let shared = self.proposer.shared()?;
        let catalog = shared.catalog.lock();
        catalog.database(self.database_id)?.newest
    }

    fn transactions(&self, first: u64, last: u64) -> Transactions {
        let held = self.log.indexes();
        let (first, last) = (first.max(held.start), last.min(held.end.saturating_sub(1)));
        Box::new(ltx_log::transactions(
            &self.log,
            self.database_id,
            first,
            last,
        ))
    }
}
