//! [`RaftProposer`]: puts what a lane commits before the quorum.
//!
//! Owns the way from a lane into Raft, and what comes back of what Raft turns away. Called on the threads of lanes, inside of commits.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use halite_log::{OnComplete, TypeConfig};
use halite_proto::v1;
use openraft::Raft;
use openraft::raft::ClientWriteResult as WriteResult;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::debug;

use super::command;
use super::feature_level::Level;
use super::read_index::ReadIndex;
use super::state_machine::{Shared, StateMachine};
use crate::database::{Host, Leadership, NotProposed, OnConfirmed, Permit, Proposer};

/// See the module.
pub(crate) struct RaftProposer {
    runtime: Handle,
    /// See [`Host::lockstep`].
    lockstep: bool,
    raft: OnceLock<Raft<TypeConfig, StateMachine>>,
    read_index: OnceLock<ReadIndex>,
    shared: OnceLock<Weak<Shared>>,
    takes_in_until: Mutex<Instant>,
}

impl RaftProposer {
    pub(crate) fn new(runtime: Handle, host: &dyn Host) -> Self {
        Self {
            runtime,
            lockstep: host.lockstep(),
            raft: OnceLock::new(),
            read_index: OnceLock::new(),
            shared: OnceLock::new(),
            takes_in_until: Mutex::new(host.now()),
        }
    }

    /// Called once, before the first lane opens.
    pub(crate) fn connect(
        &self,
        raft: Raft<TypeConfig, StateMachine>,
        read_index: ReadIndex,
        shared: &Arc<Shared>,
    ) {
        assert!(self.raft.set(raft).is_ok(), "connected once");
        assert!(self.read_index.set(read_index).is_ok(), "connected once");
        self.shared
            .set(Arc::downgrade(shared))
            .expect("connected once");
    }
}

impl RaftProposer {
    /// A quorum answered so long ago, if it did, at `now` of the host's clock: openraft turns entries away after `lease` without it.
    ///
    /// A little less is counted on, for what passes until it looks.
    pub(crate) fn note_quorum(&self, silent_for: Option<Duration>, now: Instant, lease: Duration) {
        let left = silent_for.map(|silent| (lease * 7 / 8).saturating_sub(silent));
        *self.takes_in_until.lock() = now + left.unwrap_or_default();
    }

    /// Raft runs.
    pub(crate) fn is_connected(&self) -> bool {
        self.shared.get().is_some()
    }

    /// What the state machine shares, once it is connected and as long as there is one.
    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.get()?.upgrade()
    }
}

impl Proposer for RaftProposer {
    fn propose(
        &self,
        leadership: Leadership,
        command: v1::Command,
        room: Permit,
    ) -> Result<(), NotProposed> {
        let stopped = |reason: &str| NotProposed {
            reason: reason.to_owned(),
        };
        let raft = self
            .raft
            .get()
            .ok_or_else(|| stopped("the node is starting"))?;
        let part_of = match &command.kind {
            Some(v1::command::Kind::Ltx(ltx)) => Some((ltx.database_id, ltx.proposal_id)),
            Some(v1::command::Kind::Chunk(chunk)) => Some((chunk.database_id, chunk.proposal_id)),
            _ => None,
        };
        let shared = self.shared.get().cloned().unwrap_or_default();
        let level = shared
            .upgrade()
            .map_or(Level::FIRST, |shared| shared.identity.level.cluster());
        let kind = command.kind.ok_or_else(|| stopped("an empty command"))?;
        let payload = command::encode(level, kind).map_err(|e| stopped(&e.to_string()))?;
        // An entry that was taken in is decided by the ordered apply. One that Raft turned away (leadership was lost or is being
        // handed over) never reaches the log: the gate must not wait for it, nor go on proposing the rest of the same transaction.
        let room = room.given_back_by(self.runtime.clone());
        let responder = OnComplete::new(move |written: WriteResult<TypeConfig>| {
            // Applied, or turned away. Where Raft stops before, the responder is dropped, and the room with it.
            drop(room);
            let (Err(refused), Some((database_id, proposal_id))) = (written, part_of) else {
                return;
            };
            debug!(database_id, proposal_id, %refused, "proposal turned away");
            if let Some(database) = shared.upgrade().and_then(|s| s.database_by_id(database_id)) {
                database.refuse(proposal_id);
            }
        });
        let write = raft
            .write(payload)
            .with_leader(leadership.term)
            .responder(responder);
        let write = async { write.await };
        // Blocks the lane until Raft has taken the entry in, so that chunks keep their order.
        let taken_in = match self.lockstep {
            false => self.runtime.block_on(write),
            // Nothing goes on until the lane waits for something else: a Raft that does not take it in now is being stopped.
            true => write
                .now_or_never()
                .ok_or_else(|| stopped("raft is stopping"))?,
        };
        taken_in.map_err(|e| stopped(&e.to_string()))?;
        Ok(())
    }

    fn takes_in(&self, now: Instant) -> bool {
        now < *self.takes_in_until.lock()
    }

    fn confirm(&self, leadership: Leadership, waiter: OnConfirmed) {
        // Before it is connected no lane is open; a waiter that is dropped is told so.
        if let Some(read_index) = self.read_index.get() {
            read_index.confirm(leadership, waiter);
        }
    }
}
