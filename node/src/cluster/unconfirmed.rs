//! [`Unconfirmed`]: a leader that its voters keep to, and that cannot take the role. Pure.
//!
//! Heartbeats that arrive late, but regularly, keep voters from electing anybody else, while their answers come too late for the lease, or not at
//! all. Such a leader takes no writes and nobody else does, for as long as its links stay like that. So it gives way once it has led
//! without the role for some leases. Where the voters do not hear it either, they elect another one anyway. Asked by `role`.

use std::time::Duration;

/// A second and more with the defaults: voters that hear nothing have elected another one long before.
const LEASES_MAX: u32 = 3;

/// How long a leader has been without the confirmation of a quorum, less the time with it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Unconfirmed {
    term: u64,
    time: Duration,
    given_way: bool,
}

impl Unconfirmed {
    /// `confirmed` says whether a quorum answers the leader of `term` in time, and this was so for `elapsed`. Whether to give way: once in a term.
    pub(crate) fn note(
        &mut self,
        term: u64,
        confirmed: bool,
        elapsed: Duration,
        lease: Duration,
    ) -> bool {
        if self.term != term {
            *self = Self {
                term,
                ..Self::default()
            };
        }
        // A pause of the whole machine says nothing about the voters.
        let elapsed = elapsed.min(lease / 4);
        self.time = match confirmed {
            true => self.time.saturating_sub(elapsed),
            false => self.time + elapsed,
        };
        let gives_way = !self.given_way && self.time > lease * LEASES_MAX;
        self.given_way |= gives_way;
        gives_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(25);
    const LEASE: Duration = Duration::from_millis(400);

    /// How often a leader gives way that is looked at so many times, and confirmed where `confirmed` says so.
    fn gives_way(looks: u32, confirmed: impl Fn(u32) -> bool) -> usize {
        let mut unconfirmed = Unconfirmed::default();
        (0..looks)
            .filter(|look| unconfirmed.note(7, confirmed(*look), LOOK, LEASE))
            .count()
    }

    #[test]
    fn a_leader_without_confirmation_gives_way_once() {
        assert_eq!(gives_way(48, |_| false), 0);
        assert_eq!(gives_way(49, |_| false), 1);
        assert_eq!(gives_way(1_000, |_| false), 1);
        // Every third answer comes in time.
        assert_eq!(gives_way(1_000, |look| look % 3 == 0), 1);
        // As often as not.
        assert_eq!(gives_way(1_000, |look| look % 2 == 0), 0);
        assert_eq!(gives_way(1_000, |_| true), 0);
    }

    #[test]
    fn another_term_and_a_pause_begin_anew() {
        let mut unconfirmed = Unconfirmed::default();
        for term in 0..1_000 {
            assert!(!unconfirmed.note(term / 40, false, LOOK, LEASE));
        }
        for _ in 0..4 {
            assert!(!unconfirmed.note(7, false, Duration::from_secs(3600), LEASE));
        }
    }
}
