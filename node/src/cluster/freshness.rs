//! How far behind the cluster this node is, in time.
//!
//! Each message of the primary says what is committed at that moment. A node is as fresh as the latest such moment of which it
//! has applied all. An estimate for people and for the node's own chores, and no promise: a primary that is cut from the others goes on
//! talking, and a message may be old when it arrives. Reads go by [`ReadIndex`](super::read_index::ReadIndex).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Moments kept: at one per append batch and heartbeat this covers several seconds.
const MOMENTS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Freshness {
    moments: VecDeque<(u64, Instant)>,
    fresh_at: Option<Instant>,
}

impl Freshness {
    /// The primary said at `now` that everything up to `committed` is committed.
    pub(crate) fn committed(&mut self, committed: u64, now: Instant) {
        if let Some(last) = self.moments.back_mut()
            && last.0 == committed
        {
            last.1 = now;
            return;
        }
        if self.moments.len() == MOMENTS_MAX {
            self.moments.pop_front();
        }
        self.moments.push_back((committed, now));
    }

    /// This node has applied everything up to `applied`.
    pub(crate) fn applied(&mut self, applied: u64) {
        while let Some(&(committed, at)) = self.moments.front()
            && committed <= applied
        {
            self.fresh_at = Some(at);
            // The newest moment stays, so that heartbeats can renew it.
            if self.moments.len() == 1 {
                break;
            }
            self.moments.pop_front();
        }
    }

    /// How long ago a primary spoke last; `None` if none has since this node started.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        let (_, last) = self.moments.back()?;
        Some(now.saturating_duration_since(*last))
    }

    /// How long ago this node held everything committed; `None` if it never did since it started.
    pub(crate) fn lag(&self, now: Instant) -> Option<Duration> {
        self.fresh_at.map(|at| now.saturating_duration_since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_from_the_latest_moment_that_is_applied() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut freshness = Freshness::default();
        assert_eq!(freshness.silence(at(0)), None);
        freshness.committed(5, at(0));
        assert_eq!(freshness.lag(at(1)), None);
        freshness.applied(5);
        assert_eq!(freshness.lag(at(10)), Some(Duration::from_millis(10)));
        freshness.committed(5, at(20));
        freshness.applied(5);
        assert_eq!(freshness.lag(at(20)), Some(Duration::ZERO));
        freshness.committed(9, at(30));
        freshness.applied(7);
        assert_eq!(freshness.lag(at(50)), Some(Duration::from_millis(30)));
        assert_eq!(freshness.silence(at(50)), Some(Duration::from_millis(20)));
        freshness.applied(9);
        assert_eq!(freshness.lag(at(50)), Some(Duration::from_millis(20)));
    }
}
