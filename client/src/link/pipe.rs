//! The queue of encoded calls and the callers that wait, under one short lock.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;
use halite_proto::v1 as wire;
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Lost, Outcome};
use crate::call_ledger::CallId;

/// A message is closed to further calls beyond this size.
const MESSAGE_BYTES: usize = 256 << 10;
/// Calls are refused (and tried again later) while this much waits for HTTP/2's flow control.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Deadlines are swept no more often than this.
const SWEEP_PACE: Duration = Duration::from_millis(5);
/// A try that was given up holds its id this much longer if the node never answers it.
const TOMBSTONE: Duration = Duration::from_secs(10);

/// Field number of `SessionRequest.calls`.
const CALLS_FIELD: u32 = 2;
/// Field number of `SessionRequest.given_up`.
const GIVEN_UP_FIELD: u32 = 5;

pub(crate) struct Pipe {
    open: bool,
    queue: VecDeque<BytesMut>,
    queued_bytes: usize,
    /// Calls queued since the stream began, and how many of them were handed to HTTP/2.
    pushed: u64,
    drained: u64,
    calls_per_message: VecDeque<u64>,
    writer: Option<Waker>,
    waiters: HashMap<u64, Waiter, BuildHasherDefault<IdHasher>>,
    /// Waiters with a caller; the others are tombstones.
    callers: usize,
    sweep_at: Option<Instant>,
}

/// Spreads ids that ascend one by one. Not random: callers must be given back in the same order in every run of a simulation.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0 ^ id)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
}

struct Waiter {
    /// `None` once the caller has given up: the id stays taken until the node answers.
    caller: Option<oneshot::Sender<Outcome>>,
    parts: Option<wire::Reply>,
    parts_bytes: usize,
    deadline: Instant,
    /// Position of the call in the stream.
    seq: u64,
    write: bool,
    /// Held, never read: closes the id when the last try has ended.
    _id: Arc<CallId>,
}

pub(crate) struct Pushed {
    pub(crate) wake: Option<Waker>,
    pub(crate) earlier_deadline: bool,
}

pub(crate) struct Abandoned {
    pub(crate) wake: Option<Waker>,
}

/// A waiter that is done with. Dropped outside the lock, because it may close an id.
pub(crate) struct Completed {
    pub(crate) caller: Option<(oneshot::Sender<Outcome>, Outcome)>,
    _waiter: Option<Waiter>,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        Self {
            open: true,
            queue: VecDeque::new(),
            queued_bytes: 0,
            pushed: 0,
            drained: 0,
            calls_per_message: VecDeque::new(),
            writer: None,
            waiters: HashMap::default(),
            callers: 0,
            sweep_at: None,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn queue_is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// More callers than the one whose call waits to be sent.
    pub(crate) fn has_company(&self) -> bool {
        self.callers > 1
    }

    pub(crate) fn park(&mut self, waker: &Waker) {
        self.writer = Some(waker.clone());
    }

    pub(crate) fn sweep_at(&self) -> Option<Instant> {
        self.sweep_at
    }

    pub(crate) fn push(
        &mut self,
        id: &Arc<CallId>,
        call: &wire::Call,
        caller: oneshot::Sender<Outcome>,
        write: bool,
        deadline: Instant,
    ) -> Result<Pushed, Lost> {
        let refused = |why: &str| Lost {
            why: why.into(),
            maybe_sent: false,
        };
        if !self.open {
            return Err(refused("connection was lost"));
        }
        if self.queued_bytes > QUEUE_BYTES_MAX {
            return Err(refused("too much waits to be sent"));
        }
        match self.waiters.entry(id.get()) {
            Entry::Occupied(mut entry) => {
                // An earlier try of the call is still unanswered on this very stream: the same answer serves both.
                let waiter = entry.get_mut();
                if waiter.caller.replace(caller).is_none() {
                    self.callers += 1;
                }
                waiter.deadline = deadline;
                return Ok(Pushed {
                    wake: None,
                    earlier_deadline: self.note_deadline(deadline),
                });
            }
            Entry::Vacant(entry) => {
                entry.insert(Waiter {
                    caller: Some(caller),
                    parts: None,
                    parts_bytes: 0,
                    deadline,
                    seq: self.pushed,
                    write,
                    _id: Arc::clone(id),
                });
                self.callers += 1;
            }
        }
        self.pushed += 1;
        self.enqueue(call);
        Ok(Pushed {
            wake: self.writer.take(),
            earlier_deadline: self.note_deadline(deadline),
        })
    }

    fn enqueue(&mut self, call: &wire::Call) {
        let last = self.message(call.encoded_len() + 16);
        let before = last.len();
        prost::encoding::message::encode(CALLS_FIELD, call, last);
        self.queued_bytes += last.len() - before;
        *self
            .calls_per_message
            .back_mut()
            .expect("one count per message") += 1;
    }

    /// The last message of the queue, with room for so much more.
    fn message(&mut self, bytes: usize) -> &mut BytesMut {
        match self.queue.back() {
            Some(last) if last.len() + bytes <= MESSAGE_BYTES => {}
            _ => {
                self.queue
                    .push_back(BytesMut::with_capacity(bytes.max(1024)));
                self.calls_per_message.push_back(0);
            }
        }
        self.queue.back_mut().expect("a message was just queued")
    }

    fn note_deadline(&mut self, deadline: Instant) -> bool {
        let earlier = self.sweep_at.is_none_or(|at| deadline < at);
        if earlier {
            self.sweep_at = Some(deadline);
        }
        earlier
    }

    /// The next message without its `answered_below`, and how many calls it has.
    pub(crate) fn drain(&mut self) -> (BytesMut, u64) {
        let message = self.queue.pop_front().unwrap_or_default();
        let calls = self.calls_per_message.pop_front().unwrap_or(0);
        self.queued_bytes -= message.len();
        self.drained += calls;
        (message, calls)
    }

    /// Takes one reply; a call that it ends comes back.
    pub(crate) fn reply(
        &mut self,
        reply: wire::Reply,
        result_bytes_max: usize,
    ) -> Option<Completed> {
        let Entry::Occupied(mut entry) = self.waiters.entry(reply.id) else {
            return None;
        };
        let waiter = entry.get_mut();
        if !reply.more && waiter.parts.is_none() {
            let waiter = entry.remove();
            return Some(self.complete(waiter, Ok(reply)));
        }
        let more = reply.more;
        if waiter.caller.is_some() && reply.error.is_none() {
            waiter.parts_bytes += reply.encoded_len();
            if waiter.parts_bytes > result_bytes_max {
                waiter.parts = Some(too_large(reply.id, result_bytes_max));
            } else {
                merge(waiter.parts.get_or_insert_default(), reply);
            }
        } else {
            waiter.parts = Some(reply);
        }
        if more {
            return None;
        }
        let mut waiter = entry.remove();
        let whole = waiter.parts.take().expect("a part was just stored");
        Some(self.complete(waiter, Ok(whole)))
    }

    fn complete(&mut self, mut waiter: Waiter, outcome: Outcome) -> Completed {
        let caller = waiter.caller.take().map(|caller| (caller, outcome));
        if caller.is_some() {
            self.callers -= 1;
        }
        Completed {
            caller,
            _waiter: Some(waiter),
        }
    }

    /// The caller of `id` has gone, and no try of it will follow: the node hears of it. The id stays taken until the node answers. `None` if it
    /// had been answered.
    pub(crate) fn abandon(&mut self, id: u64) -> Option<Abandoned> {
        let waiter = self.waiters.get_mut(&id)?;
        waiter.caller.take()?;
        // What was gathered for it is of no use to anyone.
        waiter.parts = None;
        waiter.deadline += TOMBSTONE;
        self.callers -= 1;
        let last = self.message(16);
        let before = last.len();
        prost::encoding::uint64::encode(GIVEN_UP_FIELD, &id, last);
        self.queued_bytes += last.len() - before;
        Some(Abandoned {
            wake: self.writer.take(),
        })
    }

    pub(crate) fn sweep(&mut self, now: Instant) -> Vec<Completed> {
        let drained = self.drained;
        let mut swept = Vec::new();
        let mut gone = Vec::new();
        let mut next: Option<Instant> = None;
        for (id, waiter) in &mut self.waiters {
            if waiter.deadline <= now {
                match waiter.caller.take() {
                    Some(caller) => {
                        self.callers -= 1;
                        waiter.deadline = now + TOMBSTONE;
                        waiter.parts = None;
                        swept.push(given_up(
                            caller,
                            "node did not answer in time".into(),
                            waiter.seq < drained,
                        ));
                    }
                    None => {
                        gone.push(*id);
                        continue;
                    }
                }
            }
            next = Some(next.map_or(waiter.deadline, |at| at.min(waiter.deadline)));
        }
        for id in gone {
            swept.push(Completed {
                caller: None,
                _waiter: self.waiters.remove(&id),
            });
        }
        self.sweep_at = next.map(|at| at.max(now + SWEEP_PACE));
        swept
    }

    pub(crate) fn release_writes(&mut self, why: &Arc<str>) -> Vec<Completed> {
        let drained = self.drained;
        let mut released = Vec::new();
        for waiter in self.waiters.values_mut().filter(|waiter| waiter.write) {
            if let Some(caller) = waiter.caller.take() {
                self.callers -= 1;
                waiter.deadline += TOMBSTONE;
                waiter.parts = None;
                released.push(given_up(caller, Arc::clone(why), waiter.seq < drained));
            }
        }
        released
    }

    pub(crate) fn close(&mut self, why: &Arc<str>) -> (Vec<Completed>, Option<Waker>) {
        self.open = false;
        self.queue.clear();
        self.calls_per_message.clear();
        self.queued_bytes = 0;
        self.callers = 0;
        self.sweep_at = None;
        let drained = self.drained;
        let released = std::mem::take(&mut self.waiters)
            .into_values()
            .map(|mut waiter| match waiter.caller.take() {
                Some(caller) => {
                    let mut completed = given_up(caller, Arc::clone(why), waiter.seq < drained);
                    completed._waiter = Some(waiter);
                    completed
                }
                None => Completed {
                    caller: None,
                    _waiter: Some(waiter),
                },
            })
            .collect();
        (released, self.writer.take())
    }
}

fn given_up(caller: oneshot::Sender<Outcome>, why: Arc<str>, maybe_sent: bool) -> Completed {
    Completed {
        caller: Some((caller, Err(Lost { why, maybe_sent }))),
        _waiter: None,
    }
}

fn too_large(id: u64, result_bytes_max: usize) -> wire::Reply {
    wire::Reply {
        id,
        error: Some(wire::Error {
            code: wire::ErrorCode::Invalid.into(),
            message: format!(
                "call was carried out, but its result is too large to buffer: bytes_max={result_bytes_max}"
            ),
            ..wire::Error::default()
        }),
        ..wire::Reply::default()
    }
}

/// Appends a later part to what has come so far.
fn merge(whole: &mut wire::Reply, part: wire::Reply) {
    if whole.error.is_some() {
        return;
    }
    let first = part.first_statement as usize;
    if first > whole.results.len() {
        whole.error = Some(wire::Error {
            code: wire::ErrorCode::Internal.into(),
            message: format!(
                "node left out the result of a statement: expected={} found={first}",
                whole.results.len()
            ),
            ..wire::Error::default()
        });
        return;
    }
    for (offset, result) in part.results.into_iter().enumerate() {
        match whole.results.get_mut(first + offset) {
            Some(known) => {
                if known.columns.is_empty() {
                    known.columns = result.columns;
                }
                known.rows.extend(result.rows);
                known.rows_affected = known.rows_affected.max(result.rows_affected);
                if result.last_insert_rowid != 0 {
                    known.last_insert_rowid = result.last_insert_rowid;
                }
            }
            None => whole.results.push(result),
        }
    }
    whole.id = part.id;
    whole.session_index = whole.session_index.max(part.session_index);
}

#[cfg(test)]
mod tests;
