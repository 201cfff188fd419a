//! [`LaneGate`]: takes a transaction to the quorum and waits for the ordered apply to decide over it.
//!
//! The pager calls it on the lane's thread, inside SQLite's commit. The lane arms it before anything that may commit; a commit that nobody armed
//! it for is refused. What was decided is fetched by the lane when SQLite has returned.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use halite_ltx::{EncodeError, Encoder, Header, Position, Txid};
use halite_pager::{CaptureError, CapturedTransaction, Gate, GateVerdict};
use halite_proto::v1;
use parking_lot::Mutex;

use super::inbox::Inbox;
use super::message::{Ordered, PendingApply};
use super::shared::Shared;
use crate::database::guard::Guard;
use crate::database::window::Waiter;
use crate::database::{DatabaseId, Leadership, Permit, Proposer, Window, failure};

/// A transaction of which a part was turned away, as by a leader that its quorum could not answer for a moment, is proposed anew: this often.
const PROPOSED_AT_MOST: u32 = 5;

/// What the next commit is to be proposed with.
pub(super) struct Armed {
    pub(super) leadership: Leadership,
    /// Where the database is now.
    pub(super) position: Position,
    /// The file need not be there: the transaction has every page, so it leads to its end from anywhere.
    pub(super) from_anywhere: bool,
    pub(super) outcomes: Vec<v1::SessionOutcomes>,
    pub(super) timestamp_ms: i64,
}

/// What became of the commit that the gate was armed for.
pub(super) enum Decision {
    /// No commit with changes came to the gate.
    NotReached,
    /// Refused, and the entry surely never enters the log. With what callers are told.
    NotProposed(v1::Error),
    /// Refused; the entry may still be committed, and comes back as an ordinary one then.
    Unknown,
    /// The quorum has it: this is the entry, to be answered when it is visible.
    Open(PendingApply),
}

struct State {
    armed: Option<Armed>,
    decision: Decision,
    next_proposal_id: u64,
    /// Raft turned away a part of the last proposal.
    part_turned_away: bool,
}

/// See the module.
pub(super) struct LaneGate {
    database: DatabaseId,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    proposer: Arc<dyn Proposer>,
    window: Window,
    entry_bytes_max: usize,
    state: Mutex<State>,
}

impl LaneGate {
    /// `first_proposal_id` is random: proposals are told apart across restarts and nodes.
    pub(super) fn new(
        database: DatabaseId,
        inbox: Arc<Inbox>,
        shared: Arc<Shared>,
        proposer: Arc<dyn Proposer>,
        window: Window,
        entry_bytes_max: usize,
        first_proposal_id: u64,
    ) -> Self {
        LaneGate {
            database,
            inbox,
            shared,
            proposer,
            window,
            entry_bytes_max,
            state: Mutex::new(State {
                armed: None,
                decision: Decision::NotReached,
                next_proposal_id: first_proposal_id,
                part_turned_away: false,
            }),
        }
    }

    /// The guard of the writer's connection, to be disarmed once the quorum has a transaction.
    pub(super) fn set_guard(&self, guard: Guard) {
        *self.shared.guard.lock() = Some(guard);
    }

    pub(super) fn arm(&self, armed: Armed) {
        let mut state = self.state.lock();
        state.armed = Some(armed);
        state.decision = Decision::NotReached;
    }

    /// What was decided since [`arm`](Self::arm); the gate is no longer armed afterwards.
    pub(super) fn take_decision(&self) -> Decision {
        let mut state = self.state.lock();
        state.armed = None;
        std::mem::replace(&mut state.decision, Decision::NotReached)
    }

    fn next_proposal_id(&self) -> u64 {
        let mut state = self.state.lock();
        let proposal_id = state.next_proposal_id;
        state.next_proposal_id = proposal_id.wrapping_add(1);
        proposal_id
    }

    fn decide(&self, transaction: &CapturedTransaction<'_>) -> Decision {
        let Some(armed) = self.state.lock().armed.take() else {
            return Decision::NotProposed(failure::internal(
                "a commit came to the gate that nobody asked for",
            ));
        };
        if armed.from_anywhere && !has_every_page(transaction) {
            return Decision::NotProposed(failure::internal(
                "a transaction that replaces everything does not have every page",
            ));
        }
        if !armed.from_anywhere && transaction.pre_checksum() != armed.position.checksum {
            let message = format!(
                "the file is not at its position expected_checksum={} checksum={}",
                armed.position.checksum,
                transaction.pre_checksum()
            );
            return Decision::NotProposed(failure::internal(message));
        }
        if self.inbox.ordered_waiting() {
            return Decision::NotProposed(self.closed_error());
        }
        for _ in 1..PROPOSED_AT_MOST {
            let proposal_id = self.next_proposal_id();
            let decision = self.propose_once(transaction, &armed, proposal_id);
            if !self.may_be_proposed_anew(proposal_id) {
                return decision;
            }
            tracing::debug!(database = %self.database, "a part of a transaction was turned away: all of it is proposed anew");
        }
        self.propose_once(transaction, &armed, self.next_proposal_id())
    }

    /// A part of this proposal was turned away, so that it surely never counts, and the lane still leads: nothing but refusals has come.
    fn may_be_proposed_anew(&self, proposal_id: u64) -> bool {
        let turned_away = std::mem::take(&mut self.state.lock().part_turned_away);
        let leads = || {
            self.inbox.wait_ordered(|ordered| {
                take_refusals(ordered, proposal_id);
                Some(ordered.is_empty())
            })
        };
        turned_away && leads() == Some(true)
    }

    fn propose_once(
        &self,
        transaction: &CapturedTransaction<'_>,
        armed: &Armed,
        proposal_id: u64,
    ) -> Decision {
        let txid = armed.position.txid.next();
        let parts = match self.propose(transaction, armed, txid, proposal_id) {
            Ok(parts) => parts,
            Err(error) => return Decision::NotProposed(error),
        };
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::GateOpenAtProposal) {
            let command = v1::LtxCommand {
                txid: txid.get(),
                post_checksum: transaction.post_checksum().get(),
                commit_pages: transaction.page_count(),
                outcomes: armed.outcomes.clone(),
                ..v1::LtxCommand::default()
            };
            let ltx = crate::database::CommittedLtx {
                index: 0,
                term: 0,
                command,
                chunks: None,
            };
            return Decision::Open(PendingApply {
                ltx,
                reply: tokio::sync::oneshot::channel().0,
            });
        }
        self.wait(txid, proposal_id, parts)
    }

    fn wait(&self, txid: Txid, proposal_id: u64, parts: u32) -> Decision {
        let mut turned_away = false;
        let decision = self.inbox.wait_ordered(|ordered| {
            loop {
                if take_refusals(ordered, proposal_id) {
                    turned_away = true;
                    return Some(Decision::NotProposed(failure::unavailable(
                        "leadership is moving: the transaction was not taken in",
                        Duration::from_millis(20),
                    )));
                }
                let Some(Ordered::Apply(next)) = ordered.front() else {
                    // Closed, or something else that only comes to a lane that is: not ours to take.
                    return (!ordered.is_empty()).then_some(Decision::Unknown);
                };
                let command = &next.ltx.command;
                #[cfg(feature = "planted-bugs")]
                let proposal_id = match halite_planted::on(halite_planted::Bug::GateTakesAnyEntry) {
                    true => command.proposal_id,
                    false => proposal_id,
                };
                if command.txid == txid.get() && command.proposal_id != proposal_id
                    || command.txid > txid.get()
                {
                    return Some(Decision::Unknown);
                }
                let Some(Ordered::Apply(next)) = ordered.pop_front() else {
                    return None;
                };
                if next.ltx.command.txid == txid.get() {
                    return Some(Decision::Open(next));
                }
                // Below our TXID: applied long ago. Nobody listening is the listener's business.
                let _ = next.reply.send(Ok(()));
            }
        });
        self.state.lock().part_turned_away = turned_away && parts > 0;
        let decision = decision.unwrap_or(Decision::Unknown);
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::UnknownToldAsRefused)
            && matches!(decision, Decision::Unknown)
        {
            return Decision::NotProposed(self.closed_error());
        }
        decision
    }

    fn propose(
        &self,
        transaction: &CapturedTransaction<'_>,
        armed: &Armed,
        txid: Txid,
        proposal_id: u64,
    ) -> Result<u32, v1::Error> {
        let header = Header::new(
            transaction.page_size(),
            transaction.page_count(),
            txid,
            txid,
            armed.timestamp_ms,
        );
        let writer = EntryWriter {
            gate: self,
            leadership: armed.leadership,
            proposal_id,
            buffer: Vec::new(),
            chunks: 0,
        };
        let mut encoder =
            Encoder::new(writer, header).map_err(|error| failure::internal(error.to_string()))?;
        let encoded = transaction
            .for_each_page(|pgno, page| Ok::<_, ProposeError>(encoder.encode_page(pgno, page)?));
        if let Err(error) = encoded {
            // A refusal by Raft comes wrapped into an I/O error.
            return Err(match error {
                ProposeError::Encode(EncodeError::Io(_)) => self.closed_error(),
                other => failure::internal(format!("transaction cannot be encoded: {other}")),
            });
        }
        let (mut writer, _trailer) = encoder.finish(None).map_err(|error| match error {
            EncodeError::Io(_) => self.closed_error(),
            other => failure::internal(format!("transaction cannot be encoded: {other}")),
        })?;
        writer.close(v1::LtxCommand {
            database_id: self.database.get(),
            txid: txid.get(),
            pre_checksum: armed.position.checksum.get(),
            post_checksum: transaction.post_checksum().get(),
            proposal_id,
            outcomes: armed.outcomes.clone(),
            timestamp_ms: armed.timestamp_ms,
            commit_pages: transaction.page_count(),
            ..v1::LtxCommand::default()
        })
    }

    /// Room for a chunk; `None` when one before it was turned away, leadership is lost before there is any, or the database closes.
    fn wait_for_room(&self, proposal_id: u64, bytes: usize) -> Option<Permit> {
        let waiter: Arc<dyn Waiter> = self.inbox.clone();
        let mut turned_away = false;
        let room = self.inbox.wait_ordered(|ordered| {
            turned_away = take_refusals(ordered, proposal_id);
            if turned_away || !ordered.is_empty() {
                return Some(None);
            }
            // Whether it does is looked at again before long.
            if !self.proposer.takes_in(self.inbox.now()) {
                return None;
            }
            self.window
                .try_take(self.database, bytes, &waiter)
                .map(Some)
        });
        self.state.lock().part_turned_away = turned_away;
        let room = room.flatten();
        if room.is_none() {
            self.window.leave(self.database);
        }
        room
    }

    fn closed_error(&self) -> v1::Error {
        self.inbox.closed().unwrap_or_else(|| {
            failure::unavailable(
                "the write could not be proposed",
                Duration::from_millis(100),
            )
        })
    }
}

/// Takes the refusals that come first; whether one is of this proposal. Those of others are of transactions that are over.
fn take_refusals(ordered: &mut VecDeque<Ordered>, proposal_id: u64) -> bool {
    let mut ours = false;
    while let Some(Ordered::Refuse {
        proposal_id: refused,
    }) = ordered.front()
    {
        ours |= *refused == proposal_id;
        ordered.pop_front();
    }
    ours
}

fn has_every_page(transaction: &CapturedTransaction<'_>) -> bool {
    let pages = transaction.page_count();
    let lock_page = u32::from(pages >= transaction.page_size().lock_page().get());
    transaction.len() == (pages - lock_page) as usize
}

impl Gate for LaneGate {
    fn commit(&self, transaction: &CapturedTransaction<'_>) -> GateVerdict {
        let guard = self.shared.guard.lock().clone();
        if let Some(guard) = &guard {
            guard.waits_at_gate(true);
        }
        let decision = self.decide(transaction);
        if let Some(guard) = &guard {
            guard.waits_at_gate(false);
        }
        let verdict = match &decision {
            Decision::Open(entry) => {
                if let Some(guard) = &guard {
                    guard.disarm();
                    guard.forget_disk_refusal();
                }
                self.shared.will_show(entry.ltx.index);
                GateVerdict::Open
            }
            _ => GateVerdict::Refuse,
        };
        self.state.lock().decision = decision;
        verdict
    }
}

#[derive(Debug, thiserror::Error)]
enum ProposeError {
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Cuts the LTX bytes into chunk entries as they come; what fits into one entry stays here until the end.
struct EntryWriter<'a> {
    gate: &'a LaneGate,
    leadership: Leadership,
    proposal_id: u64,
    buffer: Vec<u8>,
    chunks: u32,
}

impl EntryWriter<'_> {
    fn propose(&mut self, kind: v1::command::Kind, room: Permit) -> Result<(), String> {
        self.gate
            .proposer
            .propose(
                self.leadership,
                v1::Command {
                    kind: Some(kind),
                    ..v1::Command::default()
                },
                room,
            )
            .map_err(|not_proposed| not_proposed.reason)
    }

    fn propose_chunk(&mut self) -> io::Result<()> {
        let room = self
            .gate
            .wait_for_room(self.proposal_id, self.buffer.len())
            .ok_or_else(|| io::Error::other("leadership is lost"))?;
        let data = Bytes::from(std::mem::take(&mut self.buffer));
        let chunk = v1::LtxChunk {
            database_id: self.gate.database.get(),
            proposal_id: self.proposal_id,
            number: self.chunks,
            data,
        };
        self.chunks += 1;
        self.propose(v1::command::Kind::Chunk(chunk), room)
            .map_err(io::Error::other)
    }

    /// Proposes the entry itself; how many parts came before it.
    fn close(&mut self, command: v1::LtxCommand) -> Result<u32, v1::Error> {
        let mut command = command;
        if self.chunks > 0 {
            self.propose_chunk().map_err(|_| self.gate.closed_error())?;
            command.chunks = self.chunks;
        } else {
            command.data = Bytes::from(std::mem::take(&mut self.buffer));
        }
        self.propose(v1::command::Kind::Ltx(command), Permit::none()).map_err(|reason| {
            tracing::debug!(database = %self.gate.database, %reason, "transaction was not proposed");
            self.gate.closed_error()
        })?;
        Ok(self.chunks)
    }
}

impl Write for EntryWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let entry_bytes_max = self.gate.entry_bytes_max;
        if self.buffer.len() >= entry_bytes_max {
            self.propose_chunk()?;
        }
        let len = bytes.len().min(entry_bytes_max - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
