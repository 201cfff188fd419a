//! [`ReplySink`] and its ready-made form [`replies`]: how the results of many calls travel from the database threads to one connection.
//!
//! A sink gathers: what one batch decides for the calls of one connection arrives as one hand-over, and its reader takes what fits into one
//! message with one wake-up. What waits is bounded in bytes: reads pause while there is no room. Called by lanes and the reader pool; knows
//! nothing of SQL.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use halite_proto::v1;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

mod cut;

/// Replies are cut, row by row, so that each part holds about this many bytes at most, unless a single row is larger. What is received at a time
/// is no more than that either, so it bounds the messages of a stream.
const PART_BYTES: usize = 1 << 20;
/// Reads pause while this much waits for its receiver, as it is in memory: one that stalls holds no more, and one message beside it.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// Most bytes of a whole answer that is joined: less than a message between nodes may hold.
const JOINED_BYTES_MAX: usize = 48 << 20;

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

    /// Nobody waits for the answer to this call any more.
    fn is_gone(&self, token: u64) -> bool;

    /// Resolves when nobody waits for any answer any more.
    fn gone(self: Arc<Self>) -> BoxFuture<'static, ()>;

    /// The same number for all sinks that lead to one receiver: reads of one receiver wait for each other.
    fn receiver(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether the next piece of a large result may be delivered. After [`Room::None`], `waiter` is woken once when that may have changed.
    fn room(&self, waiter: &Arc<dyn RoomWaiter>) -> Room {
        let _ = waiter;
        Room::Some
    }
}

/// Whether a sink takes more of a large result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It does.
    Some,
    /// Not before its receiver has taken something.
    None,
    /// Nobody listens any more.
    Gone,
}

/// Wants to know when a sink has room again.
pub trait RoomWaiter: Send + Sync {
    /// There may be room. Called by receivers, on any thread: must not block.
    fn wake(&self);
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
            slot: Mutex::new(Some(Joining {
                sender,
                whole: CallResults::default(),
                bytes: 0,
            })),
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
    places: HashMap<usize, usize>,
    waiting: Vec<(Arc<dyn ReplySink>, Vec<CallReply>)>,
    len: usize,
}

impl Deliveries {
    pub(super) fn push(
        &mut self,
        to: &ReplyTo,
        outcome: Result<CallResults, v1::Error>,
        more: bool,
    ) {
        let sink = Arc::as_ptr(&to.sink).addr();
        let place = *self.places.entry(sink).or_insert_with(|| {
            self.waiting.push((to.sink.clone(), Vec::new()));
            self.waiting.len() - 1
        });
        self.waiting[place].1.push(CallReply {
            token: to.token,
            outcome,
            more,
        });
        self.len += 1;
    }

    /// Answers that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Hands over all there is.
    pub(super) fn send(&mut self) {
        if self.len == 0 {
            return;
        }
        self.len = 0;
        self.places.clear();
        for (sink, replies) in self.waiting.drain(..) {
            sink.deliver(replies);
        }
    }
}

/// An answer whose pieces are being joined.
struct Joining {
    sender: oneshot::Sender<Result<CallResults, v1::Error>>,
    whole: CallResults,
    bytes: usize,
}

/// Joins the pieces and hands the whole answer to a oneshot channel.
struct OneshotSink {
    slot: Mutex<Option<Joining>>,
}

impl ReplySink for OneshotSink {
    fn deliver(&self, replies: Vec<CallReply>) {
        let mut slot = self.slot.lock();
        for reply in replies {
            let Some(mut joining) = slot.take() else {
                return;
            };
            let outcome = match reply.outcome {
                Err(error) => Err(error),
                Ok(piece) => {
                    joining.bytes += cut::bytes(&piece);
                    if joining.bytes > JOINED_BYTES_MAX {
                        Err(too_large(joining.bytes))
                    } else {
                        joining.whole.append(piece);
                        if reply.more {
                            *slot = Some(joining);
                            continue;
                        }
                        Ok(joining.whole)
                    }
                }
            };
            // A caller that has gone does not need it.
            let _ = joining.sender.send(outcome);
        }
    }

    fn is_gone(&self, _token: u64) -> bool {
        let slot = self.slot.lock();
        slot.as_ref()
            .is_none_or(|joining| joining.sender.is_closed())
    }

    fn gone(self: Arc<Self>) -> BoxFuture<'static, ()> {
        let closed = move |cx: &mut Context<'_>| match &mut *self.slot.lock() {
            Some(joining) => joining.sender.poll_closed(cx),
            None => Poll::Ready(()),
        };
        poll_fn(closed).boxed()
    }

    fn room(&self, _waiter: &Arc<dyn RoomWaiter>) -> Room {
        match &*self.slot.lock() {
            Some(joining) if !joining.sender.is_closed() => Room::Some,
            _ => Room::Gone,
        }
    }
}

/// Only reads come here: what writes give back is limited before they are committed.
fn too_large(bytes: usize) -> v1::Error {
    super::failure::invalid(format!(
        "the result is too large for one answer, read it as a stream of rows: bytes={bytes} bytes_max={JOINED_BYTES_MAX}"
    ))
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

/// A sink and its async receiving end. Reads pause while `pieces_max` pieces of large results, or some MiB, wait to be received.
pub fn replies(pieces_max: usize) -> (Arc<dyn ReplySink>, ReplyReceiver) {
    let queue = Arc::new(Queue {
        pieces_max,
        state: Mutex::new(QueueState::default()),
        arrived: Notify::new(),
        gone: CancellationToken::new(),
    });
    (queue.clone(), ReplyReceiver { queue })
}

struct Queue {
    pieces_max: usize,
    state: Mutex<QueueState>,
    arrived: Notify,
    /// The receiver is gone.
    gone: CancellationToken,
}

#[derive(Default)]
struct QueueState {
    /// With the bytes of each.
    waiting: VecDeque<(CallReply, usize)>,
    bytes: usize,
    /// Those that more of their call follows.
    pieces: usize,
    closed: bool,
    waiter: Option<Weak<dyn RoomWaiter>>,
}

impl ReplySink for Queue {
    fn deliver(&self, replies: Vec<CallReply>) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        for reply in replies {
            cut::cut(reply, PART_BYTES, |part, bytes| {
                state.bytes += bytes;
                state.pieces += usize::from(part.more);
                state.waiting.push_back((part, bytes));
            });
        }
        drop(state);
        self.arrived.notify_one();
    }

    fn is_gone(&self, _token: u64) -> bool {
        self.gone.is_cancelled()
    }

    fn gone(self: Arc<Self>) -> BoxFuture<'static, ()> {
        self.gone.clone().cancelled_owned().boxed()
    }

    fn room(&self, waiter: &Arc<dyn RoomWaiter>) -> Room {
        let mut state = self.state.lock();
        if state.closed {
            return Room::Gone;
        }
        if state.pieces < self.pieces_max && state.bytes < WAITING_BYTES_MAX {
            return Room::Some;
        }
        state.waiter = Some(Arc::downgrade(waiter));
        Room::None
    }
}

/// The receiving end of [`replies`]. Dropping it stops streaming calls and discards further answers.
pub struct ReplyReceiver {
    queue: Arc<Queue>,
}

impl ReplyReceiver {
    /// What has arrived and fits into one message, at least one reply. Cancel-safe.
    pub async fn recv(&mut self) -> Vec<CallReply> {
        loop {
            // A permit of an earlier arrival makes this return at once; then there is one more look for nothing.
            if let Some(replies) = self.try_recv() {
                return replies;
            }
            self.queue.arrived.notified().await;
        }
    }

    /// What has arrived and fits into one message; `None` if nothing has.
    pub fn try_recv(&mut self) -> Option<Vec<CallReply>> {
        let mut state = self.queue.state.lock();
        let mut taken = Vec::new();
        let mut taken_bytes = 0;
        while let Some((_, bytes)) = state.waiting.front()
            && (taken.is_empty() || taken_bytes + bytes <= PART_BYTES)
        {
            let (reply, bytes) = state.waiting.pop_front()?;
            taken_bytes += bytes;
            state.pieces -= usize::from(reply.more);
            taken.push(reply);
        }
        if taken.is_empty() {
            return None;
        }
        state.bytes -= taken_bytes;
        wake(state.waiter.take(), state);
        Some(taken)
    }
}

/// Outside the lock: whoever is woken looks at the sink.
fn wake(waiter: Option<Weak<dyn RoomWaiter>>, state: MutexGuard<'_, QueueState>) {
    drop(state);
    if let Some(waiter) = waiter.and_then(|waiter| waiter.upgrade()) {
        waiter.wake();
    }
}

impl Drop for ReplyReceiver {
    fn drop(&mut self) {
        self.queue.gone.cancel();
        let mut state = self.queue.state.lock();
        state.closed = true;
        state.waiting.clear();
        (state.bytes, state.pieces) = (0, 0);
        wake(state.waiter.take(), state);
    }
}
