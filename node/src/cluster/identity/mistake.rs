//! [`MistakenIdentity`]: why a call between nodes is refused.

use halite_log::LogId;
use tonic::Status;
use tonic::metadata::MetadataValue;

use super::{Acknowledged, Held, log_id_to_text};
use crate::cluster::feature_level::{LevelMismatch, TOO_OLD_KEY};

/// Set on the refusal of a node that was removed, so that it knows: the entry by which the refusing node knows.
pub(super) const REMOVED_KEY: &str = "halite-removed";
/// Set on the refusal of a process on a copy of a node's data directory.
pub(super) const COPY_KEY: &str = "halite-copy";
/// Set on the refusal of a candidate that held less when it called: what it had acknowledged.
pub(super) const ACKNOWLEDGED_KEY: &str = "halite-you-acknowledged";

/// A call that is not meant for this node, or does not come from whom it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MistakenIdentity {
    #[error("this node belongs to cluster {ours:?}, the caller to {theirs:?}")]
    ClusterName { ours: String, theirs: String },
    #[error("this node belongs to another cluster of the same name: ours={ours} theirs={theirs}")]
    ClusterId { ours: String, theirs: String },
    #[error("the call is meant for node {meant}, this is node {node_id}")]
    NodeId { meant: u64, node_id: u64 },
    #[error(
        "the data directory of node {node_id} is not the one the cluster knows (expected instance {expected}, found {found}): \
         remove the node from the cluster and add it again"
    )]
    Instance {
        node_id: u64,
        expected: String,
        found: String,
    },
    #[error("node {node_id} was removed from the cluster")]
    Removed { node_id: u64, at: Option<LogId> },
    #[error(
        "node {node_id} has another process than before: asking at its address which one it is"
    )]
    NewProcess { node_id: u64 },
    #[error("another process than this one answers at the address of node {node_id}")]
    Copy { node_id: u64 },
    #[error(
        "the disk of node {node_id} was put back to an old copy: it holds entries up to {} of term {}, and had acknowledged {} in term {}. \
         Never roll a node back: remove it from the cluster and add it again with an empty data directory",
        held.index, held.term, said.index, said.term
    )]
    RolledBack {
        node_id: u64,
        said: Acknowledged,
        held: Held,
    },
    #[error(
        "node {node_id} calls with entries up to {} of term {}, and had acknowledged {} in term {}",
        held.index, held.term, said.index, said.term
    )]
    ForgetfulCandidate {
        node_id: u64,
        said: Acknowledged,
        held: Held,
    },
    #[error("node {node_id} takes no part: {why}")]
    Stopped { node_id: u64, why: String },
    #[error("the call does not say who makes it: missing or malformed metadata key={key}")]
    Missing { key: &'static str },
    #[error(transparent)]
    Level(#[from] LevelMismatch),
}

impl MistakenIdentity {
    /// The refusal that the caller gets.
    pub(crate) fn to_status(&self) -> Status {
        let mut status = match self {
            // Known in a moment.
            Self::NewProcess { .. } => Status::unavailable(self.to_string()),
            _ => Status::permission_denied(self.to_string()),
        };
        match self {
            Self::Removed { at, .. } => {
                if let Ok(at) = MetadataValue::try_from(log_id_to_text(*at)) {
                    status.metadata_mut().insert(REMOVED_KEY, at);
                }
            }
            Self::Copy { .. } => {
                let yes = MetadataValue::from_static("1");
                status.metadata_mut().insert(COPY_KEY, yes);
            }
            Self::ForgetfulCandidate { said, .. } => {
                if let Ok(said) = MetadataValue::try_from(said.to_string()) {
                    status.metadata_mut().insert(ACKNOWLEDGED_KEY, said);
                }
            }
            Self::Level(LevelMismatch::Caller { level, .. }) => {
                let level = MetadataValue::from(level.get());
                status.metadata_mut().insert(TOO_OLD_KEY, level);
            }
            _ => {}
        }
        status
    }
}
