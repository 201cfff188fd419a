//! [`Timing`]: how long a primary keeps its role without an answer, and when the others elect another one. Pure.
//!
//! openraft: a node that has heard its leader votes for nobody else for `election_timeout_max` (its lease), and calls for an election itself
//! after a random timeout more. The lease of the role is the whole election timeout, longer than that: a leader whose links are slow keeps
//! its voters by its heartbeats, and if it gave the role up before they would elect another one, nobody would take writes until it has given way
//! (`unconfirmed`). So for a moment there may be two nodes in the role. No answer to a client depends on it: whatever a primary says is proven
//! by a commit or by a quorum round.
//!
//! Heartbeats have a rhythm of their own (`heartbeat`): openraft gives up on the answer to one after what it takes for their interval, and one
//! below the round trip would leave a leader without any answer while nobody writes.

use std::time::Duration;

/// Longest pause between two looks at the lease.
const LOOK_MAX: Duration = Duration::from_millis(25);

/// See the module. Follows from the two settings of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// How often a leader says that it is there.
    pub(crate) heartbeat: Duration,
    /// How long the answer to a heartbeat may take: the longest round trip over which a leader keeps its role.
    pub(crate) heartbeat_answer_ms: u64,
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
        // Lease and random timeout follow each other, both at most this.
        let election_max_ms = ms(election_timeout) / 2;
        let heartbeat_answer_ms = (election_max_ms / 2).max(ms(heartbeat_interval));
        Self {
            heartbeat: heartbeat_interval,
            heartbeat_answer_ms,
            election_min_ms: (election_max_ms * 3 / 5).max(heartbeat_answer_ms.saturating_add(1)),
            election_max_ms,
            lease: election_timeout,
            look: LOOK_MAX.min(election_timeout / 16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_keeps_its_role_as_long_as_its_voters_keep_to_it() {
        // What the configuration allows: a heartbeat of 5 ms to 10 s, an election timeout of 20 ms to 60 s and at least three heartbeats.
        for election_ms in (20_u64..2_000).chain((2_000..=60_000).step_by(97)) {
            let steps = (election_ms / 3).div_ceil(40).max(1);
            for heartbeat_ms in (5..=(election_ms / 3).min(10_000)).step_by(steps as usize) {
                let heartbeat = Duration::from_millis(heartbeat_ms);
                let timing = Timing::of(Duration::from_millis(election_ms), heartbeat);
                let at =
                    format!("election_ms={election_ms} heartbeat_ms={heartbeat_ms}: {timing:?}");
                // A voter elects another one at the latest after its own lease and the longest random timeout.
                let elects = Duration::from_millis(2 * timing.election_max_ms);
                assert!(timing.lease >= elects, "{at}");
                assert!(timing.lease >= heartbeat * 3, "{at}");
                assert!(timing.look > Duration::ZERO, "{at}");
                assert!(timing.heartbeat_answer_ms >= election_ms / 4, "{at}");
                assert!(timing.election_min_ms > timing.heartbeat_answer_ms, "{at}");
                assert!(timing.election_min_ms < timing.election_max_ms, "{at}");
            }
        }
    }
}
