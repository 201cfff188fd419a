//! [`Fence`]: who may write and checkpoint. While it stands, the process holds SQLite's write lock and checkpoint lock (slots 0
//! and 1 of the shared memory) through the keeper connection, and this answers the lock calls of our own connections.
//! Called by the shim's lock method and by checkpoints; it never touches pages.

use std::ffi::c_int;
use std::time::Duration;

use libsqlite3_sys as ffi;
use parking_lot::{Condvar, Mutex};

use crate::os::LowerFile;

/// Slots of the shared memory that the fence holds: WAL_WRITE_LOCK and WAL_CKPT_LOCK.
pub(crate) const FENCED_SLOTS: c_int = 2;
const WRITE_SLOT: usize = 0;

/// How long a writer waits in the lock call for one of our own readers (which take the write lock for an instant when they
/// meet a half-written header) or for a checkpoint.
const SHORT_HOLDER_WAIT: Duration = Duration::from_secs(10);

/// Identity of one of our connections: the address of its database file object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub(crate) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    id: ConnectionId,
    /// Holds the slot for a transaction, not just for a moment.
    writes: bool,
}

#[derive(Debug, Default)]
struct State {
    keeper: Option<LowerFile>,
    holders: [Option<Holder>; FENCED_SLOTS as usize],
    checkpointing: bool,
}

/// The write fence of one database.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    state: Mutex<State>,
    changed: Condvar,
}

/// Keeps writers away until it is dropped.
pub(crate) struct WritersOut<'a>(&'a Fence);

impl Drop for WritersOut<'_> {
    fn drop(&mut self) {
        self.0.state.lock().checkpointing = false;
        self.0.changed.notify_all();
    }
}

impl Fence {
    /// Takes the fence: both locks, for real, through `keeper`. `SQLITE_BUSY` if another program has one of them.
    pub(crate) fn raise(&self, keeper: LowerFile) -> c_int {
        let mut state = self.state.lock();
        if state.keeper.is_some() {
            return ffi::SQLITE_OK;
        }
        for slot in 0..FENCED_SLOTS {
            let code = keeper.shm_lock(slot, 1, ffi::SQLITE_SHM_LOCK | ffi::SQLITE_SHM_EXCLUSIVE);
            if code != ffi::SQLITE_OK {
                for slot in 0..slot {
                    keeper.shm_lock(slot, 1, ffi::SQLITE_SHM_UNLOCK | ffi::SQLITE_SHM_EXCLUSIVE);
                }
                return code;
            }
        }
        state.keeper = Some(keeper);
        ffi::SQLITE_OK
    }

    /// Gives the locks back. The keeper's file must still be open.
    pub(crate) fn lower(&self) {
        let mut state = self.state.lock();
        if let Some(keeper) = state.keeper.take() {
            for slot in 0..FENCED_SLOTS {
                keeper.shm_lock(slot, 1, ffi::SQLITE_SHM_UNLOCK | ffi::SQLITE_SHM_EXCLUSIVE);
            }
        }
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.state.lock().keeper.is_some()
    }

    /// Answers an exclusive lock of the fenced slots `first..end`.
    pub(crate) fn acquire(&self, id: ConnectionId, writes: bool, first: usize, end: usize) -> bool {
        let mut state = self.state.lock();
        loop {
            let held = state.holders[first..end].iter().flatten().next().copied();
            let kept_out = writes && first == WRITE_SLOT && state.checkpointing;
            if held.is_none() && !kept_out {
                for slot in &mut state.holders[first..end] {
                    *slot = Some(Holder { id, writes });
                }
                return true;
            }
            let may_wait = writes && !held.is_some_and(|holder| holder.writes);
            if !may_wait
                || self
                    .changed
                    .wait_for(&mut state, SHORT_HOLDER_WAIT)
                    .timed_out()
            {
                return false;
            }
        }
    }

    /// Answers the unlock of the fenced slots `first..end`.
    pub(crate) fn release(&self, id: ConnectionId, first: usize, end: usize) {
        let mut state = self.state.lock();
        for slot in &mut state.holders[first..end] {
            if slot.is_some_and(|holder| holder.id == id) {
                *slot = None;
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Keeps new write transactions out; `None` if one is under way.
    pub(crate) fn keep_writers_out(&self) -> Option<WritersOut<'_>> {
        let mut state = self.state.lock();
        if state.checkpointing || state.holders[WRITE_SLOT].is_some_and(|holder| holder.writes) {
            return None;
        }
        state.checkpointing = true;
        Some(WritersOut(self))
    }

    /// True while [`keep_writers_out`](Self::keep_writers_out) is in force.
    pub(crate) fn is_checkpointing(&self) -> bool {
        self.state.lock().checkpointing
    }
}
