//! [`Unsynced`]: how much a follower takes in before what came before is on its disk.
//!
//! Raft's core never waits for the log's disk, or it would answer no heartbeat meanwhile; so somebody before it must. Entries are left in
//! the network while as many bytes of them as there is [`Room`] for wait for the disk, and the primary stops sending.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use halite_log::{EntryPayload, TypeConfig};
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Default of [`ClusterOptions::unsynced_bytes_max`](super::ClusterOptions::unsynced_bytes_max).
pub(crate) const BYTES_MAX: usize = 8 << 20;

/// What an entry takes beside its payload, so that small ones are bounded, too.
const ENTRY_BYTES: usize = 256;

/// Room of one node for the entries that are handed to Raft and not synced yet, of all streams together. Clones are the same.
#[derive(Clone)]
pub(super) struct Room {
    bytes_max: usize,
    left: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self {
            bytes_max,
            left: Arc::new(Semaphore::new(bytes_max)),
        }
    }

    /// Room for a request. One that is larger than there ever is takes all.
    async fn take(
        self,
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> Option<OwnedSemaphorePermit> {
        let bytes = bytes_of(request).min(self.bytes_max);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.left.acquire_many_owned(bytes).await.ok()
    }
}

/// The room that the requests of one append stream have taken. Clones are the same.
///
/// Ends with the answers: Raft hands requests over from a task of its own, which does not see that nobody waits for an answer any more while it
/// waits for the next request. If that one waited for the room of those before it, it would for ever, and no other stream would get any.
#[derive(Clone)]
pub(super) struct Unsynced(Arc<State>);

struct State {
    /// One permit for each request that is not answered yet; `None` once the answers have ended.
    taken: Mutex<Option<VecDeque<OwnedSemaphorePermit>>>,
    ended: watch::Sender<bool>,
}

impl Unsynced {
    /// Lets requests through as there is room for them.
    pub(super) fn admit(
        requests: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
        room: Room,
    ) -> (
        impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
        Self,
    ) {
        let unsynced = Self(Arc::new(State {
            taken: Mutex::new(Some(VecDeque::new())),
            ended: watch::Sender::new(false),
        }));
        let taken = unsynced.clone();
        let admitted = requests
            .then(move |request| {
                let (room, taken) = (room.clone(), taken.clone());
                async move { taken.take(room, &request).await.then_some(request) }
            })
            .take_while(|request| ready(request.is_some()))
            .filter_map(ready);
        (admitted, unsynced)
    }

    /// Waits for room; false if the answers have ended.
    async fn take(&self, room: Room, request: &AppendEntriesRequest<TypeConfig>) -> bool {
        let mut ended = self.0.ended.subscribe();
        let permit = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => return false,
            permit = room.take(request) => permit,
        };
        let mut taken = self.0.taken.lock();
        match (permit, taken.as_mut()) {
            (Some(permit), Some(taken)) => {
                taken.push_back(permit);
                true
            }
            _ => false,
        }
    }

    /// Gives the room back as the answers come, which are in the order of the requests, and all of it when they end.
    pub(super) fn follow<T: Send>(
        self,
        answers: impl Stream<Item = T> + Send,
    ) -> impl Stream<Item = T> + Send {
        let end = Answers(self);
        answers.inspect(move |_| {
            let mut taken = end.0.0.taken.lock();
            drop(taken.as_mut().and_then(VecDeque::pop_front));
        })
    }
}

/// The answers of a stream, as long as somebody waits for them.
struct Answers(Unsynced);

impl Drop for Answers {
    fn drop(&mut self) {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::DeadStreamsKeepRoom) {
            return;
        }
        drop(self.0.0.taken.lock().take());
        self.0.0.ended.send_replace(true);
    }
}

fn bytes_of(request: &AppendEntriesRequest<TypeConfig>) -> usize {
    let of_entry = |payload: &EntryPayload| match payload {
        EntryPayload::Normal(payload) => payload.0.len() + ENTRY_BYTES,
        _ => ENTRY_BYTES,
    };
    request.entries.iter().map(|e| of_entry(&e.payload)).sum()
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, stream};
    use halite_log::{Entry, LogId, Payload, Vote};

    use super::*;

    fn request(index: u64, bytes: usize) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: vec![Entry {
                log_id: LogId::new_term_index(1, index),
                payload: EntryPayload::Normal(Payload(vec![0; bytes].into())),
            }],
            leader_commit: None,
        }
    }

    #[test]
    fn requests_wait_until_those_before_them_are_synced() {
        let room = Room::new(BYTES_MAX);
        // Two of them are more than there is room for.
        let requests = stream::iter((0..3).map(|index| request(index, BYTES_MAX / 2)));
        let (admitted, unsynced) = Unsynced::admit(requests, room.clone());
        let mut admitted = admitted.boxed();
        assert!(admitted.next().now_or_never().flatten().is_some());
        assert!(admitted.next().now_or_never().is_none(), "no room");
        let mut answers = unsynced.follow(stream::iter([(), ()])).boxed();
        answers.next().now_or_never();
        assert!(admitted.next().now_or_never().flatten().is_some());
        drop((admitted, answers));
        assert_eq!(
            room.left.available_permits(),
            BYTES_MAX,
            "given back at the end"
        );
    }

    #[test]
    fn a_request_that_waits_for_those_before_it_does_not_outlive_their_answers() {
        let room = Room::new(BYTES_MAX);
        let requests = stream::iter((0..3).map(|index| request(index, BYTES_MAX / 2)));
        let (admitted, unsynced) = Unsynced::admit(requests, room.clone());
        let mut admitted = admitted.boxed();
        assert!(admitted.next().now_or_never().flatten().is_some());
        let answers = unsynced.follow(stream::pending::<()>()).boxed();
        assert!(admitted.next().now_or_never().is_none(), "no room");
        // The stream ended, for instance because another node leads now. Who hands the requests over still holds them.
        drop(answers);
        assert!(matches!(admitted.next().now_or_never(), Some(None)));
        assert_eq!(
            room.left.available_permits(),
            BYTES_MAX,
            "for the next stream"
        );
    }
}
