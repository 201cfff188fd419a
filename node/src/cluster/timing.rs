//! [`Timing`]: from when on the others may elect another primary, and by when this one has to stop. Pure.
//!
//! openraft: a node that has heard its leader votes for nobody else for `election_timeout_max` (its lease), and calls for an election itself
//! after a random timeout more. So nobody is elected within `election_timeout_max` of a message that a quorum has answered, as long as clocks run
//! alike, no voter restarts and no operator moves leadership. No answer to a client depends on that: whatever a primary says is proven by
//! a commit or by a quorum round. The lease only sees to it that a primary which was cut off stops by itself before there is another one.

use std::time::Duration;

/// Longest pause between two looks at the lease.
const LOOK_MAX: Duration = Duration::from_millis(25);

/// See the module. Follows from the two settings of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) heartbeat_ms: u64,
    pub(crate) election_min_ms: u64,
    /// Also how long voters keep to a leader that they have heard.
    pub(crate) election_max_ms: u64,
    /// A primary that no quorum has answered for longer than this steps down.
    pub(crate) lease: Duration,
    /// How often the lease is looked at.
    pub(crate) look: Duration,
}

impl Timing {
    /// `election_timeout` is the longest time from the last word of a primary to the election of another one.
    pub(crate) fn of(election_timeout: Duration, heartbeat_interval: Duration) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let heartbeat_ms = ms(heartbeat_interval);
        // Lease and random timeout follow each other, both at most this.
        let election_max_ms = ms(election_timeout) / 2;
        let kept_to = Duration::from_millis(election_max_ms);
        let look = LOOK_MAX.min(kept_to / 8);
        Self {
            heartbeat_ms,
            election_min_ms: (election_max_ms * 3 / 5).max(heartbeat_ms.saturating_add(1)),
            election_max_ms,
            lease: kept_to.saturating_sub(look),
            look,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_has_stopped_before_anybody_else_can_be_elected_and_not_for_a_late_heartbeat() {
        // What the configuration allows: a heartbeat of 5 ms to 10 s, an election timeout of 20 ms to 60 s and at least three heartbeats.
        for election_ms in (20_u64..2_000).chain((2_000..=60_000).step_by(97)) {
            let steps = (election_ms / 3).div_ceil(40).max(1);
            for heartbeat_ms in (5..=(election_ms / 3).min(10_000)).step_by(steps as usize) {
                let heartbeat = Duration::from_millis(heartbeat_ms);
                let timing = Timing::of(Duration::from_millis(election_ms), heartbeat);
                let at =
                    format!("election_ms={election_ms} heartbeat_ms={heartbeat_ms}: {timing:?}");
                // A vote within `election_max_ms` of the last message that was answered is refused.
                let elected = Duration::from_millis(timing.election_max_ms);
                // It looks a whole interval after the look that found the lease just in force.
                let stopped = timing.lease + timing.look;
                assert!(stopped <= elected, "{at}");
                assert!(timing.lease >= heartbeat * 5 / 4, "{at}");
                assert!(timing.look > Duration::ZERO, "{at}");
                assert!(timing.election_min_ms > timing.heartbeat_ms, "{at}");
                assert!(timing.election_min_ms < timing.election_max_ms, "{at}");
            }
        }
    }

    #[test]
    fn with_the_defaults_three_heartbeats_may_be_lost() {
        let timing = Timing::of(Duration::from_millis(400), Duration::from_millis(50));
        assert_eq!(timing.lease, Duration::from_millis(175));
        assert_eq!(timing.look, Duration::from_millis(25));
    }
}
