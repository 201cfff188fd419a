//! Checkpoints: when they are due, and the order of records around them (architecture: redo).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use halite_pager::CheckpointMode;
use halite_proto::v1;

use super::Lane;
use crate::database::failure::describe;
use crate::database::{Health, failure};

/// A WAL file this many times larger than the size that calls for a checkpoint is cut instead of being used again.
const WAL_FILE_FACTOR: u64 = 4;
/// A failure that goes on is told again this often.
const TOLD_EVERY: Duration = Duration::from_secs(60);

impl Lane {
    /// Makes a checkpoint if the WAL has grown enough, and sees when an idle one is due.
    pub(super) fn checkpoint_if_large(&mut self) {
        let pending = self.wal_pending_bytes();
        self.idle_at = (pending > 0).then(|| self.host.now() + self.options.checkpoint_idle);
        if pending > self.options.checkpoint_wal_bytes {
            self.checkpoint_and_log();
        }
    }

    /// Makes a checkpoint because nothing else is going on.
    pub(super) fn checkpoint_idle(&mut self) {
        if self.wal_pending_bytes() > 0 {
            self.checkpoint_and_log();
        }
        // If a reader kept it from finishing, once more after the same pause.
        let again: Option<Instant> =
            (self.wal_pending_bytes() > 0).then(|| self.host.now() + self.options.checkpoint_idle);
        self.idle_at = again;
    }

    fn checkpoint_and_log(&mut self) {
        match self.checkpoint() {
            Ok(_) => {
                if self.checkpoint_failed_at.take().is_some() {
                    tracing::info!(database = %self.spec.name, "checkpoints are made again");
                }
            }
            Err(error) => {
                // A disk that is full is tried again with each write.
                let now = self.host.now();
                let is_told = |at: Instant| now.saturating_duration_since(at) < TOLD_EVERY;
                if !self.checkpoint_failed_at.is_some_and(is_told) {
                    self.checkpoint_failed_at = Some(now);
                    tracing::warn!(database = %self.spec.name, error = error.message, "checkpoint failed");
                }
            }
        }
    }

    /// Brings everything applied into the file: `Ok(false)` if readers kept a part from it.
    pub(super) fn checkpoint(&mut self) -> Result<bool, v1::Error> {
        match self.follow.health() {
            Health::NeedsRepair { why, .. } => Err(failure::corrupt(format!(
                "no checkpoint of a database that needs repair: {why}"
            ))),
            // The file may be half of what it was: what is to be redone comes first.
            _ if self.unfinished.is_some() => Err(failure::unavailable(
                "no checkpoint before the redo is done",
                Duration::from_secs(1),
            )),
            _ => self.checkpoint_whatever(),
        }
    }

    /// The same, whatever the health is: the content is known to be right.
    pub(super) fn checkpoint_whatever(&mut self) -> Result<bool, v1::Error> {
        let record = v1::DatabaseCheckpoint {
            raft_index: self.applied.raft_index,
            raft_term: self.applied.raft_term,
            txid: self.applied.position.txid.get(),
            checksum: self.applied.position.checksum.get(),
            page_count: self.applied.page_count,
            sessions: Some(self.sessions.to_proto()),
        };
        #[cfg(feature = "planted-bugs")]
        let record = match halite_planted::on(halite_planted::Bug::CheckpointWithoutSessions) {
            true => v1::DatabaseCheckpoint {
                sessions: None,
                ..record
            },
            false => record,
        };
        self.checkpoints
            .save_target(self.spec.id, &record)
            .map_err(|error| {
                failure::internal(format!("checkpoint target cannot be recorded: {error}"))
            })?;
        let file_bytes = self.pager.wal_size_bytes();
        let mode = if file_bytes
            > self
                .options
                .checkpoint_wal_bytes
                .saturating_mul(WAL_FILE_FACTOR)
        {
            CheckpointMode::Truncate
        } else {
            CheckpointMode::Restart
        };
        let outcome = self.pager.checkpoint(mode).map_err(|error| {
            failure::internal(format!("checkpoint failed: {}", describe(&error)))
        })?;
        if outcome.complete {
            self.checkpoints
                .save_done(self.spec.id, &record, self.diff_unsaved)
                .map_err(|error| {
                    failure::internal(format!("checkpoint cannot be recorded: {error}"))
                })?;
        }
        self.diff_unsaved &= !outcome.complete;
        self.wal_pending_bytes();
        Ok(outcome.complete)
    }

    /// Bytes of the WAL that the file does not have yet.
    fn wal_pending_bytes(&self) -> u64 {
        let frame_bytes = u64::from(self.spec.page_size.get()) + 24;
        let pending = self.pager.wal().map_or(0, |wal| {
            u64::from(wal.frames.saturating_sub(wal.copied_frames)) * frame_bytes
        });
        self.shared.wal_bytes.store(pending, Ordering::Relaxed);
        pending
    }
}
