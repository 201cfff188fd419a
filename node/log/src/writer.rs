//! The one place that changes the disk: takes what has queued up, writes it as one batch with one fsync, then tells everyone.
//!
//! Runs on a thread of its own in production and as a task in the simulation; both drive the same three steps
//! (`prepare`, write, `finish`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use openraft::storage::IOFlushed;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::backend::{Change, Durability, Family};
use crate::entry_record::{encode, key};
use crate::error::{LogError, OpenError};
use crate::raft_types::{Entry, LogId, TypeConfig, Vote};
use crate::store::shared::{self, Shared};
use crate::stored_value::{encode_log_id, encode_vote, seal};

/// Operations in one batch.
const GROUP_OPS_MAX: usize = 1024;
/// Bytes in one batch, give or take one operation. Beyond this the fsync's fixed cost no longer matters, its length does: what comes
/// behind it, a vote for example, waits for it.
const GROUP_BYTES_MAX: usize = 2 << 20;

pub(crate) type Done<E = LogError> = oneshot::Sender<Result<(), E>>;

/// Something to write, and whom to tell.
pub(crate) enum Op {
    Append {
        entries: Vec<Entry>,
        bytes: usize,
        room: OwnedSemaphorePermit,
        done: IOFlushed<TypeConfig>,
    },
    Truncate {
        after: Option<LogId>,
        done: Done,
    },
    Purge {
        upto: LogId,
        /// Bytes of the entries that it took.
        purged_bytes: u64,
        /// Nothing of the log is left.
        past_end: bool,
        done: Done,
    },
    Vote {
        vote: Vote,
        done: Done,
    },
    Committed {
        committed: Option<LogId>,
    },
    Meta {
        changes: Vec<(String, Option<Bytes>)>,
        sync: bool,
        done: Done,
    },
    /// Writes nothing; done when all before it is.
    Barrier {
        done: Done,
    },
    Recover {
        done: Done<OpenError>,
    },
    Close {
        done: Done,
    },
}

/// A batch in the making.
pub(crate) struct Group {
    ops: Vec<Op>,
    changes: Vec<Change>,
    durability: Durability,
    /// Set when the batch makes a purge pointer durable: the last index whose files may go.
    reclaim_last: Option<u64>,
}

/// The writer's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Op>,
    /// Bytes purged since files were last given back.
    reclaimable_bytes: u64,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, queue: mpsc::Receiver<Op>) -> Self {
        Self {
            shared,
            queue,
            reclaimable_bytes: 0,
        }
    }

    /// Writes until the store is closed or dropped. For a thread of its own.
    pub(crate) fn run_on_thread(mut self) {
        while let Some(op) = self.queue.blocking_recv() {
            let (ops, then) = self.take_group(op);
            self.shared.counters.begin_batch();
            let group = self.prepare(ops, Durability::Now);
            let result = match &group {
                Ok(group) if group.changes.is_empty() => Ok(()),
                Ok(group) => self.shared.backend.write(&group.changes, group.durability),
                Err(_) => Ok(()),
            };
            self.complete(group, result);
            self.shared.counters.end_batch();
            if self.exclusive(then) {
                return;
            }
        }
        self.shut();
    }

    /// The same as a task, which sleeps where a simulated disk is slow.
    pub(crate) async fn run_as_task(mut self) {
        while let Some(op) = self.queue.recv().await {
            let (ops, then) = self.take_group(op);
            self.shared.counters.begin_batch();
            let group = self.prepare(ops, Durability::AtNextSync);
            let result = match &group {
                Ok(group) if group.changes.is_empty() => Ok(()),
                Ok(group) => self.write_slowly(group).await,
                Err(_) => Ok(()),
            };
            self.complete(group, result);
            self.shared.counters.end_batch();
            if self.exclusive(then) {
                return;
            }
        }
        self.shut();
    }

    async fn write_slowly(&self, group: &Group) -> io::Result<()> {
        self.shared
            .backend
            .write(&group.changes, group.durability)?;
        if group.durability == Durability::Lazy {
            return Ok(());
        }
        let delay = self.shared.backend.sync_delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Some(mut hanging) = self.shared.backend.hanging() {
            // A disk that is gone hangs nobody.
            let _ = hanging.wait_for(|hanging| !hanging).await;
        }
        self.shared.backend.sync()
    }

    /// Collects what is waiting, up to an operation that must run alone.
    fn take_group(&mut self, first: Op) -> (Vec<Op>, Option<Op>) {
        let mut ops = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(op) = next {
            if matches!(op, Op::Recover { .. } | Op::Close { .. }) {
                return (ops, Some(op));
            }
            if let Op::Append { bytes: own, .. } = &op {
                bytes += own;
            }
            ops.push(op);
            if ops.len() >= GROUP_OPS_MAX || bytes >= GROUP_BYTES_MAX {
                break;
            }
            next = self.queue.try_recv().ok();
        }
        (ops, None)
    }

    /// Turns operations into one batch, or gives them back with the reason why they cannot be written.
    fn prepare(&mut self, ops: Vec<Op>, synced: Durability) -> Result<Group, (Vec<Op>, LogError)> {
        if let Some(cause) = self.shared.tail.lock().failed.clone() {
            return Err((ops, LogError::Failed { cause }));
        }
        let mut group = Group {
            ops: Vec::new(),
            changes: Vec::new(),
            durability: Durability::Lazy,
            reclaim_last: None,
        };
        for op in &ops {
            match self.add(op, &mut group) {
                Ok(true) => group.durability = synced,
                Ok(false) => {}
                Err(error) => return Err((ops, error)),
            }
        }
        group.ops = ops;
        Ok(group)
    }

    /// Adds the changes of one operation; answers whether it has to be synced.
    fn add(&mut self, op: &Op, group: &mut Group) -> Result<bool, LogError> {
        let changes = &mut group.changes;
        match op {
            Op::Append { entries, .. } => {
                for entry in entries {
                    let (head, body) = encode(entry)?;
                    let key = key(entry.log_id.index).to_vec();
                    changes.push(Change::Put {
                        family: Family::Log,
                        key,
                        head: head.to_vec(),
                        body,
                    });
                }
                #[cfg(feature = "planted-bugs")]
                if halite_planted::on(halite_planted::Bug::LogAppendUnsynced) {
                    return Ok(false);
                }
                Ok(!entries.is_empty())
            }
            Op::Truncate { after, .. } => {
                #[cfg(feature = "planted-bugs")]
                if halite_planted::on(halite_planted::Bug::LogTruncateForgotten) {
                    return Ok(false);
                }
                let from = key(after.map_or(0, |id| id.index + 1)).to_vec();
                changes.push(Change::DeleteRange {
                    family: Family::Log,
                    from,
                    to: vec![0xff; 9],
                });
                Ok(true)
            }
            Op::Purge {
                upto,
                purged_bytes,
                past_end,
                ..
            } => {
                changes.push(put(Family::Meta, shared::KEY_PURGED, &encode_log_id(upto)));
                Ok(self.plan_purge(*upto, *purged_bytes, group) || *past_end)
            }
            Op::Vote { vote, .. } => {
                #[cfg(feature = "planted-bugs")]
                if halite_planted::on(halite_planted::Bug::VoteInMemory) {
                    return Ok(false);
                }
                changes.push(put(Family::Vote, shared::KEY_VOTE, &encode_vote(vote)));
                #[cfg(feature = "planted-bugs")]
                if halite_planted::on(halite_planted::Bug::VoteUnsynced) {
                    return Ok(false);
                }
                Ok(true)
            }
            Op::Committed { committed } => {
                changes.push(match committed {
                    Some(id) => put(Family::Meta, shared::KEY_COMMITTED, &encode_log_id(id)),
                    None => delete(Family::Meta, shared::KEY_COMMITTED),
                });
                Ok(false)
            }
            Op::Meta {
                changes: pairs,
                sync,
                ..
            } => {
                changes.extend(
                    pairs
                        .iter()
                        .map(|(key, value)| meta_change(key, value.as_ref())),
                );
                Ok(*sync)
            }
            Op::Barrier { .. } | Op::Recover { .. } | Op::Close { .. } => Ok(false),
        }
    }

    /// A purge is synced when it jumps over the log's end (a snapshot was installed: the flushed index moves with it), or when
    /// enough has gathered to give files back, which only a durable purge pointer allows.
    fn plan_purge(&mut self, upto: LogId, purged_bytes: u64, group: &mut Group) -> bool {
        self.reclaimable_bytes += purged_bytes;
        if self.reclaimable_bytes >= self.shared.backend.reclaim_step_bytes() {
            group.reclaim_last = Some(upto.index.max(group.reclaim_last.unwrap_or(0)));
        }
        group.reclaim_last.is_some()
    }

    fn complete(&mut self, group: Result<Group, (Vec<Op>, LogError)>, result: io::Result<()>) {
        match (group, result) {
            (Ok(group), Ok(())) => self.finish(group),
            (Ok(group), Err(error)) => {
                tracing::error!(%error, operations = group.ops.len(), "log write failed, the store stops");
                self.shared.fail(&error);
                fail_all(group.ops, &LogError::Io(error));
            }
            (Err((ops, error)), _) => {
                if !matches!(error, LogError::Failed { .. }) {
                    self.shared.fail(&io::Error::other(error.to_string()));
                }
                fail_all(ops, &error);
            }
        }
    }

    /// The batch is on disk: changes the in-memory image, then tells everyone.
    fn finish(&mut self, group: Group) {
        let synced = group.durability != Durability::Lazy;
        #[cfg(feature = "planted-bugs")]
        let synced = synced || halite_planted::on(halite_planted::Bug::LogAppendUnsynced);
        let flushed = {
            let mut tail = self.shared.tail.lock();
            for op in &group.ops {
                match op {
                    Op::Append { entries, .. } => {
                        if let Some(last) = entries.last() {
                            tail.mark_written(last.log_id.index + 1);
                        }
                    }
                    Op::Truncate { after, .. } => tail.truncate(*after),
                    Op::Purge { upto, .. } => tail.purge(*upto),
                    Op::Vote { vote, .. } => tail.vote = Some(*vote),
                    Op::Committed { committed } => tail.committed = *committed,
                    _ => {}
                }
            }
            tail.written_last()
        };
        if synced {
            self.shared.publish_flushed(flushed);
        }
        self.shared
            .counters
            .groups
            .fetch_add(u64::from(!group.changes.is_empty()), Ordering::Relaxed);
        self.shared
            .counters
            .syncs
            .fetch_add(u64::from(synced), Ordering::Relaxed);
        for op in group.ops {
            self.tell(op);
        }
        if let Some(last) = group.reclaim_last {
            self.reclaimable_bytes = 0;
            if let Err(error) = self.shared.backend.reclaim(&key(last)) {
                // Costs space, not safety; the next purge tries again.
                tracing::warn!(%error, last, "purged log files could not be given back");
            }
        }
    }

    fn tell(&self, op: Op) {
        match op {
            Op::Append {
                entries,
                room,
                done,
                ..
            } => {
                self.shared.counters.appends.fetch_add(1, Ordering::Relaxed);
                self.shared
                    .counters
                    .entries
                    .fetch_add(entries.len() as u64, Ordering::Relaxed);
                drop(room);
                done.io_completed(Ok(()));
            }
            Op::Truncate { done, .. }
            | Op::Purge { done, .. }
            | Op::Vote { done, .. }
            | Op::Meta { done, .. }
            | Op::Barrier { done } => {
                // Nobody waits any more if the caller was cancelled.
                let _ = done.send(Ok(()));
            }
            Op::Committed { .. } | Op::Recover { .. } | Op::Close { .. } => {}
        }
    }

    /// Runs an operation that shares no batch; answers whether it was the last one.
    fn exclusive(&mut self, op: Option<Op>) -> bool {
        match op {
            Some(Op::Recover { done }) => {
                let _ = done.send(self.shared.reload());
                false
            }
            Some(Op::Close { done }) => {
                self.shut();
                self.shared.backend.close();
                let _ = done.send(Ok(()));
                true
            }
            _ => false,
        }
    }

    /// Syncs what was written lazily.
    fn shut(&mut self) {
        if self.shared.tail.lock().failed.is_none()
            && let Err(error) = self.shared.backend.sync()
        {
            tracing::warn!(%error, "last sync of the log failed");
        }
    }
}

/// A change of one of the node's values.
pub(crate) fn meta_change(key: &str, value: Option<&Bytes>) -> Change {
    match value {
        Some(value) => put(Family::Meta, key, value),
        None => delete(Family::Meta, key),
    }
}

fn put(family: Family, key: &str, value: &[u8]) -> Change {
    Change::Put {
        family,
        key: key.as_bytes().to_vec(),
        head: seal(key, value),
        body: Bytes::new(),
    }
}

fn delete(family: Family, key: &str) -> Change {
    Change::Delete {
        family,
        key: key.as_bytes().to_vec(),
    }
}

fn fail_all(ops: Vec<Op>, error: &LogError) {
    for op in ops {
        match op {
            Op::Append { done, .. } => done.io_completed(Err(again(error).into())),
            Op::Truncate { done, .. }
            | Op::Purge { done, .. }
            | Op::Vote { done, .. }
            | Op::Meta { done, .. }
            | Op::Barrier { done } => {
                let _ = done.send(Err(again(error)));
            }
            Op::Committed { .. } | Op::Recover { .. } | Op::Close { .. } => {}
        }
    }
}

/// The same failure for one more of the batch's operations.
fn again(error: &LogError) -> LogError {
    match error {
        LogError::Io(source) => LogError::Io(io::Error::new(source.kind(), source.to_string())),
        LogError::Failed { cause } => LogError::Failed {
            cause: cause.clone(),
        },
        other => LogError::Io(io::Error::other(other.to_string())),
    }
}
