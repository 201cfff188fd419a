//! [`Pulls`]: which databases are being pulled, of which there are pieces, and what has come so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::info;

/// Pieces that nobody has gone on with for this long are removed.
const UNASKED_MAX: Duration = Duration::from_secs(600);

/// What page diffs have brought since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Bytes received, also of attempts that broke off.
    pub(crate) bytes: u64,
    /// Attempts that broke off when something had come.
    pub(crate) broken_off: u64,
    /// Diffs that were installed with pages of an attempt that had broken off.
    pub(crate) resumed: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pulls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    under_way: BTreeSet<u64>,
    /// Databases of which there may be pieces, and when an attempt began last.
    asked: BTreeMap<u64, Instant>,
    counts: Counts,
}

impl Pulls {
    /// There are pieces of these databases.
    pub(crate) fn new(databases: BTreeSet<u64>) -> Self {
        let now = Instant::now();
        let asked = databases.into_iter().map(|id| (id, now)).collect();
        Self(Mutex::new(State {
            asked,
            ..State::default()
        }))
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// Begins an attempt; `None` while another one of this database is under way.
    pub(super) fn begin(&self, database_id: u64) -> Option<UnderWay<'_>> {
        let mut state = self.0.lock();
        if !state.under_way.insert(database_id) {
            return None;
        }
        state.asked.insert(database_id, Instant::now());
        Some(UnderWay {
            pulls: self,
            database_id,
            bytes: 0,
            pulled: false,
            done: false,
        })
    }

    /// The database needs no pieces any more; true if there may be some, and nobody is about to use them.
    pub(super) fn forget(&self, database_id: u64) -> bool {
        let mut state = self.0.lock();
        !state.under_way.contains(&database_id) && state.asked.remove(&database_id).is_some()
    }

    /// Databases whose pieces nobody has asked for for long: they are to be removed.
    pub(super) fn take_unasked(&self) -> Vec<u64> {
        let mut state = self.0.lock();
        let State {
            under_way, asked, ..
        } = &mut *state;
        let is_unasked =
            |id: &u64, at: &mut Instant| at.elapsed() > UNASKED_MAX && !under_way.contains(id);
        let unasked = asked.extract_if(.., is_unasked);
        unasked.map(|(id, _)| id).collect()
    }
}

/// An attempt. It may end without a word: whoever waits for it goes away with its connection.
pub(super) struct UnderWay<'a> {
    pulls: &'a Pulls,
    database_id: u64,
    bytes: u64,
    /// All has come.
    pulled: bool,
    /// And is installed.
    done: bool,
}

impl UnderWay<'_> {
    pub(super) fn received(&mut self, bytes: usize) {
        metrics::counter!("halite_page_diff_bytes_total").increment(bytes as u64);
        self.bytes += bytes as u64;
        self.pulls.0.lock().counts.bytes += bytes as u64;
    }

    /// Bytes received by this attempt.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All has come: what keeps it from being installed is no break.
    pub(super) fn pulled(&mut self) {
        self.pulled = true;
    }

    pub(super) fn resumed(&self) {
        self.pulls.0.lock().counts.resumed += 1;
    }

    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.pulls.0.lock();
        state.under_way.remove(&self.database_id);
        if self.done {
            state.asked.remove(&self.database_id);
        } else if self.bytes > 0 && !self.pulled {
            state.counts.broken_off += 1;
            drop(state);
            metrics::counter!("halite_page_diffs_broken_off_total").increment(1);
            let (database_id, bytes) = (self.database_id, self.bytes);
            info!(database_id, bytes, "page diff broke off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pieces_are_kept_while_attempts_follow_each_other() {
        let pulls = Pulls::new(BTreeSet::from([1, 2]));
        tokio::time::advance(UNASKED_MAX).await;
        let attempt = pulls.begin(1).expect("nobody else");
        assert!(pulls.begin(1).is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pulls.take_unasked(), [2]);
        drop(attempt);
        tokio::time::advance(UNASKED_MAX).await;
        assert_eq!(pulls.take_unasked(), [1]);
        assert!(pulls.take_unasked().is_empty());
        drop(pulls.begin(1));
        assert!(pulls.forget(1) && !pulls.forget(1));
    }

    #[test]
    fn only_an_attempt_that_had_brought_something_has_broken_off() {
        let pulls = Pulls::new(BTreeSet::new());
        drop(pulls.begin(1));
        let mut attempt = pulls.begin(1).expect("nobody else");
        attempt.received(100);
        drop(attempt);
        let mut attempt = pulls.begin(1).expect("nobody else");
        attempt.received(30);
        attempt.pulled();
        drop(attempt);
        let mut attempt = pulls.begin(1).expect("nobody else");
        attempt.received(20);
        attempt.pulled();
        attempt.resumed();
        assert!(!pulls.forget(1), "it is under way");
        attempt.done();
        assert!(!pulls.forget(1), "nothing is left");
        let expected = Counts {
            bytes: 150,
            broken_off: 1,
            resumed: 1,
        };
        assert_eq!(pulls.counts(), expected);
        assert!(pulls.take_unasked().is_empty());
    }
}
