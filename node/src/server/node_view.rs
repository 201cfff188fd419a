//! [`NodeView`]: a running node seen from within its process.
//!
//! For programs that embed a node and for the simulation, whose checks look at every node after every step. Only looks: what changes
//! something goes through the client protocol.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::sync::{Arc, Weak};

use halite_log::{EntryPayload, LogId};
use halite_proto::v1;
use halite_proto::v1::command::Kind;

use crate::api::grpc;
use crate::cluster::role::Role;
use crate::cluster::{Cluster, Levels, command, ltx_log, opener};
use crate::database::Health;

/// See the module. Does not keep the node alive.
#[derive(Clone)]
pub struct NodeView {
    cluster: Weak<Cluster>,
}

/// An entry of a node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntryView {
    /// Raft index.
    pub index: u64,
    /// Term in which it was proposed.
    pub term: u64,
    /// Of what it carries: two entries of one digest carry the same.
    pub digest: u64,
    /// The transaction that it closes.
    pub transaction: Option<TransactionView>,
    /// The database of whose transaction it is a part, which a later entry closes.
    pub chunk_of: Option<u64>,
    /// Which proposal of that transaction it belongs to, closing it or being a part of it; 0 for all other entries.
    pub proposal_id: u64,
}

/// A transaction as its entry in the log describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionView {
    /// Of its database.
    pub database_id: u64,
    /// Its number in the database.
    pub txid: u64,
    /// Checksum of the database after it.
    pub checksum: u64,
    /// Entries before it that are parts of it; without all of them it is applied by no node.
    pub chunks: u32,
}

/// The ends of a node's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogView {
    /// Index of the first entry; what was before is purged.
    pub first: u64,
    /// Index after the last entry.
    pub end: u64,
    /// Last index that is purged.
    pub purged: u64,
    /// Last index that is known to be on the disk.
    pub flushed: u64,
    /// Last index that a snapshot covers.
    pub snapshot: u64,
    /// Last index that a checkpoint leads to, begun or finished: beyond the log it is of a page diff, in a snapshot that is not finished.
    pub checkpoint: u64,
    /// The vote that is on the disk: term, whom it is for, and whether a quorum has granted it.
    pub vote: (u64, u64, bool),
    /// The store has stopped after a failure of its disk: the node is about to start anew.
    pub failed: bool,
}

/// A database as its node knows it, beyond what the node tells everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseView {
    /// Number in the catalog.
    pub id: u64,
    /// Name in the catalog.
    pub name: String,
    /// Raft index of the newest transaction that readers see; of the file alone, if the database is not open.
    pub applied: u64,
    /// Why it does not follow its log.
    pub trouble: Option<TroubleView>,
    /// Raft index that the newest checkpoint leads to, begun or finished.
    pub checkpoint_target: u64,
    /// Raft index that the newest finished checkpoint led to.
    pub checkpoint_done: u64,
}

/// What page diffs have brought to a node since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageDiffsView {
    /// Bytes received, also of attempts that broke off.
    pub bytes: u64,
    /// Attempts that broke off when something had come.
    pub broken_off: u64,
    /// Diffs that were installed with pages of an attempt that had broken off.
    pub resumed: u64,
}

/// Why a database does not follow its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleView {
    /// It is not open: it is about to be, or cannot be.
    NotOpen,
    /// Its disk refuses what was committed.
    Behind,
    /// Its content is not what the log says.
    NeedsRepair,
}

impl NodeView {
    pub(super) fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: Arc::downgrade(cluster),
        }
    }

    /// What `halite status` asks for; `None` once the node is gone.
    pub fn status(&self) -> Option<v1::StatusResponse> {
        let cluster = self.cluster.upgrade()?;
        Some(grpc::status(&cluster))
    }

    /// The term under which the node takes writes, if it does.
    pub fn primary_term(&self) -> Option<u64> {
        match self.cluster.upgrade()?.role() {
            Role::Primary { term } => Some(term),
            _ => None,
        }
    }

    /// Entries `from..=to` of the node's log that it still has; `None` once the node is gone. Blocks on the log's disk.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn entries(&self, from: u64, to: u64) -> Option<io::Result<Vec<LogEntryView>>> {
        let cluster = self.cluster.upgrade()?;
        let log = &cluster.shared().log;
        let entries = ltx_log::entries(log, from.max(log.indexes().start), to);
        let ours = cluster.identity().level.ours();
        Some(entries.map(|entry| Ok(view(entry?, ours))).collect())
    }

    /// Where the node's log begins and ends; `None` once the node is gone.
    pub fn log(&self) -> Option<LogView> {
        let cluster = self.cluster.upgrade()?;
        let log = &cluster.shared().log;
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index());
        let indexes = log.indexes();
        // A disk that cannot be read shows elsewhere.
        let targets = opener::targets(log).unwrap_or_default();
        let checkpoints = targets.iter().map(|target| target.raft_index);
        Some(LogView {
            first: indexes.start,
            end: indexes.end,
            purged: index(log.purged_log_id()),
            flushed: log.flushed().borrow().unwrap_or(0),
            snapshot: index(cluster.metrics().snapshot),
            checkpoint: checkpoints.max().unwrap_or(0),
            vote: log.vote().map_or((0, 0, false), |vote| {
                (
                    vote.leader_id.term,
                    vote.leader_id.voted_for,
                    vote.committed,
                )
            }),
            failed: log.failure().is_some(),
        })
    }

    /// What page diffs have brought; nothing once the node is gone.
    pub fn page_diffs(&self) -> PageDiffsView {
        let Some(cluster) = self.cluster.upgrade() else {
            return PageDiffsView::default();
        };
        let counts = cluster.pulls().counts();
        PageDiffsView {
            bytes: counts.bytes,
            broken_off: counts.broken_off,
            resumed: counts.resumed,
        }
    }

    /// Databases of the node, by their number; empty once the node is gone.
    pub fn databases(&self) -> Vec<DatabaseView> {
        let Some(cluster) = self.cluster.upgrade() else {
            return Vec::new();
        };
        let shared = cluster.shared();
        let index = |id: u64, field: &str| {
            // A disk that cannot be read shows elsewhere.
            let noted = shared.opener.checkpoint(id, field).ok().flatten();
            noted.map_or(0, |checkpoint| checkpoint.raft_index)
        };
        let catalog = shared.catalog.lock();
        let names = catalog.databases().map(|d| (d.id, d.name.clone()));
        let names: BTreeMap<u64, String> = names.collect();
        drop(catalog);
        let view = |(id, name)| {
            let done = index(id, opener::DONE);
            let status = shared.database_by_id(id).map(|database| database.status());
            let trouble = match status.as_ref().map(|status| &status.health) {
                None => Some(TroubleView::NotOpen),
                Some(Health::Fine) => None,
                Some(Health::Behind { .. }) => Some(TroubleView::Behind),
                Some(Health::NeedsRepair { .. } | Health::Parked { .. }) => {
                    Some(TroubleView::NeedsRepair)
                }
            };
            DatabaseView {
                id,
                name,
                applied: status.map_or(done, |status| status.applied.raft_index),
                trouble,
                checkpoint_target: index(id, opener::TARGET),
                checkpoint_done: done,
            }
        };
        names.into_iter().map(view).collect()
    }

    /// Ends the lanes without an answer to anybody: what the death of the process would do, for a simulated one.
    pub fn abandon(&self) {
        if let Some(cluster) = self.cluster.upgrade() {
            for database in cluster.shared().databases.running() {
                database.abandon();
            }
        }
    }

    /// Makes the lanes look at their deadlines: for a host whose clock is not the real one.
    pub fn tick(&self) {
        if let Some(cluster) = self.cluster.upgrade() {
            for database in cluster.shared().databases.running() {
                database.tick();
            }
        }
    }
}

fn view(entry: halite_log::Entry, ours: Levels) -> LogEntryView {
    let mut digest = DefaultHasher::new();
    let (mut transaction, mut chunk_of, mut proposal_id) = (None, None, 0);
    match entry.payload {
        EntryPayload::Normal(payload) => {
            digest.write(&payload.0);
            match command::decode(payload, ours) {
                Ok(Kind::Ltx(ltx)) => {
                    transaction = Some(TransactionView {
                        database_id: ltx.database_id,
                        txid: ltx.txid,
                        checksum: ltx.post_checksum,
                        chunks: ltx.chunks,
                    });
                    proposal_id = ltx.proposal_id;
                }
                Ok(Kind::Chunk(chunk)) => {
                    chunk_of = Some(chunk.database_id);
                    proposal_id = chunk.proposal_id;
                }
                _ => {}
            }
        }
        other => digest.write(other.to_string().as_bytes()),
    }
    LogEntryView {
        index: entry.log_id.index(),
        term: entry.log_id.committed_leader_id().term,
        digest: digest.finish(),
        transaction,
        chunk_of,
        proposal_id,
    }
}
