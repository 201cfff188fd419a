//! [`ReplySink`] and its ready-made form [`replies`]: how the results of many calls travel from the database threads to one connection.
//!
//! A sink gathers: what one batch decides for the calls of one connection arrives as one hand-over, and its reader takes all there is with one
//! wake-up. Called by lanes and the reader pool; knows nothing of SQL.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use halite_proto::v1;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

/// A call's answer, or a piece of a large one.
#[derive(Clone, Debug, PartialEq)]
pub struct CallReply {
    /// What the caller gave with the call, to tell its calls apart.
    pub token: u64,
    /// Results or the error that ended the call.
    pub outcome: Result<CallResults, v1::Error>,
    /// More replies to this call follow.
    pub more: bool,
}

/// The results of some statements of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallResults {
    /// Index of the statement that `results[0]` belongs to.
    pub first_statement: u32,
    /// In order of the statements.
    pub results: Vec<v1::StatementResult>,
    /// Raft index that covers all that the call wrote and saw: the new session token.
    pub raft_index: u64,
}

/// Receives the answers of many calls.
pub trait ReplySink: Send + Sync {
    /// Takes answers. Called on database threads: must not block.
    fn deliver(&self, replies: Vec<CallReply>);

    /// Waits until the next piece of a large result may be delivered; false when nobody listens any more or `deadline` has passed. Called on
    /// reader threads only, between pieces.
    fn wait_for_room(&self, deadline: Instant) -> bool {
        let _ = deadline;
        true
    }
}

/// Where one call's answer goes.
#[derive(Clone)]
pub struct ReplyTo {
    /// Who takes it.
    pub sink: Arc<dyn ReplySink>,
    /// Comes back with it.
    pub token: u64,
}

impl ReplyTo {
    /// A place for a single answer.
    pub fn oneshot() -> (ReplyTo, oneshot::Receiver<Result<CallResults, v1::Error>>) {
        let (sender, receiver) = oneshot::channel();
        let sink = Arc::new(OneshotSink {
            slot: Mutex::new(Some((sender, CallResults::default()))),
        });
        (ReplyTo { sink, token: 0 }, receiver)
    }

    pub(super) fn send(&self, outcome: Result<CallResults, v1::Error>) {
        self.sink.deliver(vec![CallReply {
            token: self.token,
            outcome,
            more: false,
        }]);
    }
}

/// Answers on their way, gathered by sink: one hand-over for each, in the order in which the sinks came up.
#[derive(Default)]
pub(super) struct Deliveries {
    places: HashMap<*const (), usize>,
    waiting: Vec<(Arc<dyn ReplySink>, Vec<CallReply>)>,
}

impl Deliveries {
    pub(super) fn push(
        &mut self,
        to: &ReplyTo,
        outcome: Result<CallResults, v1::Error>,
        more: bool,
    ) {
        let sink = Arc::as_ptr(&to.sink).cast::<()>();
        let place = *self.places.entry(sink).or_insert_with(|| {
            self.waiting.push((to.sink.clone(), Vec::new()));
            self.waiting.len() - 1
        });
        self.waiting[place].1.push(CallReply {
            token: to.token,
            outcome,
            more,
        });
    }

    /// Hands over all there is.
    pub(super) fn send(&mut self) {
        self.places.clear();
        for (sink, replies) in self.waiting.drain(..) {
            sink.deliver(replies);
        }
    }
}

type OneshotSender = oneshot::Sender<Result<CallResults, v1::Error>>;

/// Joins the pieces and hands the whole answer to a oneshot channel.
struct OneshotSink {
    slot: Mutex<Option<(OneshotSender, CallResults)>>,
}

impl ReplySink for OneshotSink {
    fn deliver(&self, replies: Vec<CallReply>) {
        let mut slot = self.slot.lock();
        for reply in replies {
            let Some((sender, mut whole)) = slot.take() else {
                return;
            };
            match reply.outcome {
                Err(error) => {
                    // Nobody listening is the listener's business.
                    let _ = sender.send(Err(error));
                }
                Ok(piece) => {
                    whole.append(piece);
                    if reply.more {
                        *slot = Some((sender, whole));
                    } else {
                        let _ = sender.send(Ok(whole));
                    }
                }
            }
        }
    }

    fn wait_for_room(&self, _deadline: Instant) -> bool {
        self.slot
            .lock()
            .as_ref()
            .is_some_and(|(sender, _)| !sender.is_closed())
    }
}

impl CallResults {
    /// Joins a later piece of the same call.
    pub fn append(&mut self, piece: CallResults) {
        self.raft_index = self.raft_index.max(piece.raft_index);
        for (at, result) in piece.results.into_iter().enumerate() {
            let index = (piece.first_statement - self.first_statement) as usize + at;
            match self.results.get_mut(index) {
                Some(existing) => {
                    existing.rows.extend(result.rows);
                    existing.rows_affected = result.rows_affected;
                    existing.last_insert_rowid = result.last_insert_rowid;
                }
                None => self.results.push(result),
            }
        }
    }
}

/// A sink and its async receiving end. Streaming calls pause while more than `pieces_max` replies wait to be received.
pub fn replies(pieces_max: usize) -> (Arc<dyn ReplySink>, ReplyReceiver) {
    let queue = Arc::new(Queue {
        pieces_max,
        state: Mutex::new(QueueState {
            waiting: VecDeque::new(),
            closed: false,
        }),
        room: Condvar::new(),
        arrived: Notify::new(),
    });
    (queue.clone(), ReplyReceiver { queue })
}

struct Queue {
    pieces_max: usize,
    state: Mutex<QueueState>,
    room: Condvar,
    arrived: Notify,
}

struct QueueState {
    waiting: VecDeque<CallReply>,
    closed: bool,
}

impl ReplySink for Queue {
    fn deliver(&self, replies: Vec<CallReply>) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.waiting.extend(replies);
        drop(state);
        self.arrived.notify_one();
    }

    fn wait_for_room(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.closed && state.waiting.len() >= self.pieces_max {
            if self.room.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        !state.closed
    }
}

/// The receiving end of [`replies`]. Dropping it stops streaming calls and discards further answers.
pub struct ReplyReceiver {
    queue: Arc<Queue>,
}

impl ReplyReceiver {
    /// Everything that has arrived, at least one reply. Cancel-safe.
    pub async fn recv(&mut self) -> Vec<CallReply> {
        loop {
            // A permit of an earlier arrival makes this return at once; then there is one more look for nothing.
            if let Some(replies) = self.try_recv() {
                return replies;
            }
            self.queue.arrived.notified().await;
        }
    }

    /// Everything that has arrived; `None` if nothing has.
    pub fn try_recv(&mut self) -> Option<Vec<CallReply>> {
        let mut state = self.queue.state.lock();
        if state.waiting.is_empty() {
            return None;
        }
        let taken = std::mem::take(&mut state.waiting);
        drop(state);
        self.queue.room.notify_all();
        Some(taken.into())
    }
}

impl Drop for ReplyReceiver {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.queue.room.notify_all();
    }
}
