//! [`StoreCounts`]: what a [`MemStore`](crate::MemStore) was asked, and what it did to the askers.

use std::time::Duration;

use super::{StoreAction, StoreFate};

/// Requests by action, and injected faults by kind. A request counts when it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreCounts {
    /// Listings of one level.
    pub lists: u64,
    /// Files opened.
    pub opens: u64,
    /// Files stored.
    pub puts: u64,
    /// Files deleted.
    pub deletes: u64,
    /// Requests that took time and were then answered.
    pub delayed: u64,
    /// [`StoreFate::Unavailable`].
    pub unavailable: u64,
    /// [`StoreFate::UnavailableAfterEffect`].
    pub unavailable_after_effect: u64,
    /// [`StoreFate::TimesOut`].
    pub timed_out: u64,
}

impl StoreCounts {
    /// Requests of all kinds.
    pub fn requests(&self) -> u64 {
        self.lists + self.opens + self.puts + self.deletes
    }

    pub(super) fn add(&mut self, action: StoreAction, fate: StoreFate) {
        let requests = match action {
            StoreAction::List => &mut self.lists,
            StoreAction::Open => &mut self.opens,
            StoreAction::Put => &mut self.puts,
            StoreAction::Delete => &mut self.deletes,
        };
        *requests += 1;
        let faults = match fate {
            StoreFate::Done { before, after } if before + after == Duration::ZERO => return,
            StoreFate::Done { .. } => &mut self.delayed,
            StoreFate::Unavailable => &mut self.unavailable,
            StoreFate::UnavailableAfterEffect { .. } => &mut self.unavailable_after_effect,
            StoreFate::TimesOut { .. } => &mut self.timed_out,
        };
        *faults += 1;
    }
}
