//! [`NodeView`]: a running node seen from within its process.
//!
//! For programs that embed a node and for the simulation, whose checks look at every node after every step. Only looks: what changes
//! something goes through the client protocol.

use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::sync::{Arc, Weak};

use halite_log::EntryPayload;
use halite_proto::v1;

use crate::api::grpc;
use crate::cluster::role::Role;
use crate::cluster::{Cluster, ltx_log};

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
        Some(entries.map(|entry| entry.map(view)).collect())
    }

    /// Ends the lanes without an answer to anybody: what the death of the process would do, for a simulated one.
    pub fn abandon(&self) {
        if let Some(cluster) = self.cluster.upgrade() {
            for database in cluster.shared().all_databases() {
                database.abandon();
            }
        }
    }

    /// Makes the lanes look at their deadlines: for a host whose clock is not the real one.
    pub fn tick(&self) {
        if let Some(cluster) = self.cluster.upgrade() {
            for database in cluster.shared().all_databases() {
                database.tick();
            }
        }
    }
}

fn view(entry: halite_log::Entry) -> LogEntryView {
    let mut digest = DefaultHasher::new();
    match entry.payload {
        EntryPayload::Normal(payload) => digest.write(&payload.0),
        other => digest.write(other.to_string().as_bytes()),
    }
    LogEntryView {
        index: entry.log_id.index(),
        term: entry.log_id.committed_leader_id().term,
        digest: digest.finish(),
    }
}
