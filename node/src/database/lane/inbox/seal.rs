//! [`Sealed`]: one word of the lane that nothing is written any more, held by whoever is about to drop the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Inbox;
use crate::database::Leadership;

/// It holds under the leadership that the lane had, also when the lane is opened anew.
pub(super) struct Seal {
    id: u64,
    leadership: Leadership,
}

impl Seal {
    pub(super) fn holds_under(&self, leadership: Leadership) -> bool {
        self.leadership == leadership
    }
}

impl Inbox {
    /// Refuses all jobs from now on; `None` if some wait, or a seal is there already. The lane has seen that it runs under `leadership`.
    pub(in crate::database) fn seal(self: &Arc<Self>, leadership: Leadership) -> Option<Sealed> {
        let mut state = self.state.lock();
        if !state.jobs.is_empty() || state.refusal().is_some() {
            return None;
        }
        let id = self.seals.fetch_add(1, Ordering::Relaxed);
        state.seal = Some(Seal { id, leadership });
        Some(Sealed {
            inbox: self.clone(),
            id: Some(id),
            leadership,
        })
    }

    fn unseal(&self, id: u64) {
        self.state.lock().seal.take_if(|seal| seal.id == id);
    }
}

/// A database that takes no writes, because it is about to be dropped. It takes them again when this goes away.
pub struct Sealed {
    inbox: Arc<Inbox>,
    /// `None`: the seal is not taken away with this.
    id: Option<u64>,
    leadership: Leadership,
}

impl Sealed {
    /// The leadership under which the word of the lane holds, and no other.
    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// The database takes no writes as long as this leadership lasts.
    pub fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.inbox.unseal(id);
        }
    }
}
