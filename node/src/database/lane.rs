//! The lane: the one thread that owns a database's writer and applier.

use std::sync::Arc;

use super::{CheckpointStore, Database, DatabaseOptions, DatabaseSpec, OpenError, Proposer, Redo};

pub(super) mod inbox;

/// Opens the file and starts the lane's thread.
pub(super) fn open(
    spec: DatabaseSpec,
    redo: Redo,
    proposer: Arc<dyn Proposer>,
    checkpoints: Arc<dyn CheckpointStore>,
    options: DatabaseOptions,
) -> Result<Arc<Database>, OpenError> {
    let _ = (redo, proposer, checkpoints, options);
    Err(OpenError::CheckpointRecord(format!(
        "the lane comes with the pager database={}",
        spec.name
    )))
}
