//! Looks at the pages of the file in turn, a few at a time: one that nobody reads rots unnoticed until it is needed, on a follower until it leads.
//!
//! All are looked at when the file is opened, and each again within the interval. What is not as committed is suspected, and
//! [`damage`](super::damage) sees to it. Called by the lane between two pieces of work and when there is none. Repairs nothing, and takes a page that
//! cannot be read now for nothing.

use std::time::Duration;

use super::Lane;
use crate::database::Health;
use crate::database::failure::describe;

/// Pages of one step: callers wait for it, so it lasts about as long as a small write.
const STEP_PAGES: u32 = 64;
/// Between two steps; a file that would need shorter ones is looked at more slowly.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Lane {
    /// Sees when the next step is due, for the whole file to be looked at within the interval.
    pub(super) fn plan_scrub(&mut self) {
        let interval = self.options.scrub_interval;
        let steps = self.pager.page_count().div_ceil(STEP_PAGES).max(1);
        let pause = (interval / steps).clamp(PAUSE_MIN, PAUSE_MAX);
        self.scrub_at = (!interval.is_zero()).then(|| self.host.now() + pause);
    }

    pub(super) fn scrub_if_due(&mut self) {
        if self.scrub_at.is_none_or(|at| self.host.now() < at) {
            return;
        }
        // What is not well is on its way to other pages.
        if matches!(self.follow.health(), Health::Fine) && self.unwritten.is_none() {
            match self.pager.scrub_some(self.scrub_from, STEP_PAGES) {
                Ok(next) => self.scrub_from = next,
                Err(error) => {
                    let (database, error) = (&self.spec.name, describe(&error));
                    tracing::debug!(%database, error, "pages could not be looked at");
                }
            }
        }
        self.plan_scrub();
    }
}
