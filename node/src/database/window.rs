//! [`Window`]: how many bytes of large transactions the lanes of a node have on their way at once.
//!
//! Chunks of one transaction come without a pause. Taken in as fast as they come, they would stand before everything else in Raft's queue,
//! in the logs of all nodes and in memory. So a lane takes a [`Permit`] for each chunk before it proposes it, and gives it back when the chunk is
//! applied, or surely never will be. Entries that are whole transactions need no room: a lane has one of them on its way at most, and they
//! overtake chunks that wait for room.
//!
//! Knows no Raft and no SQLite. Asked by the gate on the lane's thread, under the inbox's lock; must never call back there.

use std::collections::{BTreeMap, VecDeque};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::DatabaseId;

/// Bytes of chunks on their way on one node: what another database's write waits for at most, in a log that is written in order.
const NODE_BYTES_MAX: usize = 8 << 20;
/// Bytes of one lane's among them. Enough to keep disks and network busy while the quorum answers.
const LANE_BYTES_MAX: usize = 4 << 20;

/// Whom to wake when there may be room.
pub(crate) trait Waiter: Send + Sync {
    /// Look again.
    fn wake(&self);
}

/// See the module. Clones are the same window.
#[derive(Clone)]
pub struct Window(Arc<Mutex<State>>);

struct State {
    node_bytes_max: usize,
    lane_bytes_max: usize,
    taken: usize,
    taken_by: BTreeMap<DatabaseId, usize>,
    /// Lanes that wait, in the order in which they came.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    database: DatabaseId,
    bytes: usize,
    waiter: Arc<dyn Waiter>,
}

/// Room for one entry in a [`Window`]; given back when dropped.
pub struct Permit {
    window: Option<Window>,
    database: DatabaseId,
    bytes: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self::new(NODE_BYTES_MAX, LANE_BYTES_MAX)
    }
}

impl Window {
    /// A window of so many bytes for all lanes, and so many for each of them.
    pub fn new(node_bytes_max: usize, lane_bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            node_bytes_max,
            lane_bytes_max,
            taken: 0,
            taken_by: BTreeMap::new(),
            waiting: VecDeque::new(),
        })))
    }

    /// Room for `bytes`, if there is some and nobody who came earlier could take it. If not, `waiter` is woken when it is worth asking again.
    pub(super) fn try_take(
        &self,
        database: DatabaseId,
        bytes: usize,
        waiter: &Arc<dyn Waiter>,
    ) -> Option<Permit> {
        let mut state = self.0.lock();
        let earlier = |waiting: &&Waiting| waiting.database != database;
        let overtakes = state
            .waiting
            .iter()
            .take_while(earlier)
            .any(|waiting| state.fits_lane(waiting.database, waiting.bytes));
        if overtakes || !state.fits(database, bytes) {
            if !state.waiting.iter().any(|w| w.database == database) {
                state.waiting.push_back(Waiting {
                    database,
                    bytes,
                    waiter: waiter.clone(),
                });
            }
            return None;
        }
        state.waiting.retain(|waiting| waiting.database != database);
        state.taken += bytes;
        *state.taken_by.entry(database).or_default() += bytes;
        Some(Permit {
            window: Some(self.clone()),
            database,
            bytes,
        })
    }

    /// The lane waits no longer.
    pub(super) fn leave(&self, database: DatabaseId) {
        let woken = {
            let mut state = self.0.lock();
            state.waiting.retain(|waiting| waiting.database != database);
            state.to_wake()
        };
        woken.iter().for_each(|waiter| waiter.wake());
    }

    /// Bytes that are on their way.
    pub fn taken(&self) -> usize {
        self.0.lock().taken
    }

    fn give_back(&self, database: DatabaseId, bytes: usize) {
        let woken = {
            let mut state = self.0.lock();
            state.taken -= bytes;
            if let Some(own) = state.taken_by.get_mut(&database) {
                *own -= bytes;
                if *own == 0 {
                    state.taken_by.remove(&database);
                }
            }
            state.to_wake()
        };
        woken.iter().for_each(|waiter| waiter.wake());
    }
}

impl State {
    /// What is larger than a whole window goes alone.
    fn fits(&self, database: DatabaseId, bytes: usize) -> bool {
        let node = self.taken == 0 || self.taken + bytes <= self.node_bytes_max;
        node && self.fits_lane(database, bytes)
    }

    fn fits_lane(&self, database: DatabaseId, bytes: usize) -> bool {
        let own = self.taken_by.get(&database).copied().unwrap_or(0);
        own == 0 || own + bytes <= self.lane_bytes_max
    }

    /// The first that could take room now: it makes room for the next by taking or leaving.
    fn to_wake(&self) -> Vec<Arc<dyn Waiter>> {
        let could = |waiting: &&Waiting| self.fits(waiting.database, waiting.bytes);
        let next = self.waiting.iter().find(could);
        next.map(|waiting| waiting.waiter.clone())
            .into_iter()
            .collect()
    }
}

impl Permit {
    /// For an entry that needs none.
    pub(super) fn none() -> Self {
        Self {
            window: None,
            database: DatabaseId::new(0),
            bytes: 0,
        }
    }

    /// See [`GivenBackLater`].
    pub(crate) fn given_back_by(self, runtime: Handle) -> GivenBackLater {
        GivenBackLater {
            permit: Some(self),
            runtime,
        }
    }
}

/// Room that a task gives back. Raft's core drops it, and a lane that room is given to may be waiting for that core.
///
/// Where the runtime has ended there is no task, and nobody who needs the room: it is not given back.
pub(crate) struct GivenBackLater {
    permit: Option<Permit>,
    runtime: Handle,
}

impl Drop for GivenBackLater {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            // A runtime that has ended drops the task here and now, unpolled.
            let permit = ManuallyDrop::new(permit);
            self.runtime
                .spawn(async move { drop(ManuallyDrop::into_inner(permit)) });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(window) = self.window.take() {
            window.give_back(self.database, self.bytes);
        }
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window")
            .field("taken", &self.taken())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Waiter for Woken {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lane(id: u64) -> (DatabaseId, Arc<Woken>, Arc<dyn Waiter>) {
        let woken = Arc::new(Woken::default());
        (DatabaseId::new(id), woken.clone(), woken)
    }

    #[test]
    fn a_lane_takes_its_share_and_is_woken_when_there_is_room_again() {
        let window = Window::new(10, 4);
        let (id, woken, waiter) = lane(1);
        let first = window.try_take(id, 2, &waiter).unwrap();
        let _second = window.try_take(id, 2, &waiter).unwrap();
        assert!(window.try_take(id, 2, &waiter).is_none());
        assert_eq!((4, 0), (window.taken(), woken.0.load(Ordering::Relaxed)));
        drop(first);
        assert_eq!((2, 1), (window.taken(), woken.0.load(Ordering::Relaxed)));
        assert!(window.try_take(id, 2, &waiter).is_some());
    }

    #[test]
    fn room_is_given_back_by_the_runtime_and_not_by_whoever_drops_it() {
        let window = Window::new(10, 4);
        let (id, woken, waiter) = lane(1);
        let wakes = || woken.0.load(Ordering::Relaxed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let take = || {
            let permit = window.try_take(id, 4, &waiter).unwrap();
            assert!(window.try_take(id, 4, &waiter).is_none());
            permit.given_back_by(runtime.handle().clone())
        };
        drop(take());
        assert_eq!((4, 0), (window.taken(), wakes()));
        runtime.block_on(tokio::task::yield_now());
        assert_eq!((0, 1), (window.taken(), wakes()));
        let held = take();
        drop(runtime);
        drop(held);
        assert_eq!((4, 1), (window.taken(), wakes()));
    }

    #[test]
    fn what_is_larger_than_the_window_goes_alone() {
        let window = Window::new(10, 4);
        let (id, _, waiter) = lane(1);
        let large = window.try_take(id, 100, &waiter).unwrap();
        let (other, _, other_waiter) = lane(2);
        assert!(window.try_take(other, 1, &other_waiter).is_none());
        drop(large);
        assert!(window.try_take(other, 1, &other_waiter).is_some());
    }

    #[test]
    fn nobody_overtakes_a_lane_that_waits_for_the_node_and_nobody_waits_for_one_at_its_own_limit() {
        let window = Window::new(8, 4);
        let lanes: Vec<_> = (1..=4).map(lane).collect();
        let take = |n: usize, bytes| window.try_take(lanes[n].0, bytes, &lanes[n].2);
        let first = take(0, 4).unwrap();
        let _second = take(1, 3).unwrap();
        // At its own limit: in nobody's way.
        assert!(take(0, 4).is_none());
        // Waits for the node.
        assert!(take(2, 2).is_none());
        assert!(take(3, 1).is_none(), "came later");
        window.leave(lanes[2].0);
        assert_eq!(1, lanes[3].1.0.load(Ordering::Relaxed));
        let _fourth = take(3, 1).unwrap();
        drop(first);
        assert_eq!(1, lanes[0].1.0.load(Ordering::Relaxed));
    }
}
