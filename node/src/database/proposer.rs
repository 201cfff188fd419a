//! [`Proposer`], [`CheckpointStore`] and [`CommittedLog`]: what a database needs from the cluster and its log. Owns the traits only; `cluster`
//! implements them.

use std::io;
use std::time::Instant;

use halite_proto::v1;

use super::{CommittedLtx, DatabaseId, Mark, OnConfirmed, Permit};

/// Under which leadership the lane was opened; handed back with every proposal, never interpreted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leadership {
    /// Raft term.
    pub term: u64,
    /// Node that leads in it.
    pub leader_id: u64,
}

/// The entry was surely not handed to Raft and can never be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not proposed: {reason}")]
pub struct NotProposed {
    /// Why, in lower case.
    pub reason: String,
}

/// Takes entries to Raft, and asks a quorum who leads.
pub trait Proposer: Send + Sync {
    /// Hands one entry to Raft, under `leadership` only: in any other term it must not enter the log.
    ///
    /// Called on the lane thread, inside SQLite's commit; must not block for long. `room` is what the entry takes of the
    /// [`Window`](super::Window): kept until the entry is applied, or surely never will be.
    ///
    /// # Errors
    /// [`NotProposed`] if the entry surely never enters the log. When in doubt the answer is `Ok`.
    fn propose(
        &self,
        leadership: Leadership,
        command: v1::Command,
        room: Permit,
    ) -> Result<(), NotProposed>;

    /// Raft takes entries in at `now`, by the clock of the [`Host`](super::Host), as far as is known: a leader whose quorum has been silent for
    /// some time turns them away, and takes them in again when it is heard, in the same term. Never blocks.
    fn takes_in(&self, now: Instant) -> bool;

    /// Asks a quorum, after this call and never before, whether `leadership` is still the newest, and tells `waiter` within a bounded time:
    /// `Ok` if no other node can have been elected before this call. Never blocks. The waiter may be told on any thread.
    fn confirm(&self, leadership: Leadership, waiter: OnConfirmed);
}

/// Keeps the records of checkpoints beside the log.
pub trait CheckpointStore: Send + Sync {
    /// Notes the target of a checkpoint that is about to begin: durable before it returns.
    ///
    /// # Errors
    /// The store's; no checkpoint is made then.
    fn save_target(&self, database: DatabaseId, target: &v1::DatabaseCheckpoint) -> io::Result<()>;

    /// Notes that the file holds this state durably. Is durable itself before it returns only if `durable` is set: where the log leads to
    /// this state, an older note is as good.
    ///
    /// # Errors
    /// The store's; the next checkpoint tries again.
    fn save_done(
        &self,
        database: DatabaseId,
        done: &v1::DatabaseCheckpoint,
        durable: bool,
    ) -> io::Result<()>;
}

/// The committed transactions of a database, read once more by whoever could not take them when they were handed over.
pub trait CommittedLog: Send + Sync {
    /// The newest one that this node has seen committed; `None` if nothing is known.
    fn newest(&self) -> Option<Mark>;

    /// Those of the entries `first..=last` that the log still holds, in its order. Blocks on the disk.
    fn transactions(&self, first: u64, last: u64) -> Transactions;
}

/// Transactions in the order of the log.
pub type Transactions = Box<dyn Iterator<Item = io::Result<CommittedLtx>> + Send>;
