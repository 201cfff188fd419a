//! Rare states that show in what clients were told.

use halite_checks::{History, Level, Operation, Outcome, Request};

/// An answer as early as this after a change of primary is right after it, in microseconds.
const RIGHT_AFTER_US: u64 = 50_000;

/// Whether a strong read was answered right after one of these moments, in microseconds of the recorder's clock.
pub fn read_right_after(history: &History, failovers_us: &[u64]) -> bool {
    any_after(&history.set.reads, failovers_us)
        || any_after(&history.bank.reads, failovers_us)
        || any_after(&history.registers.reads, failovers_us)
}

fn any_after<R: Request>(reads: &[Operation<R>], failovers_us: &[u64]) -> bool {
    reads.iter().any(|read| {
        matches!(read.outcome, Outcome::Ok(_))
            && read.caller.level == Level::Linearizable
            && read.returned.is_some_and(|returned| {
                let is_after = |at: &u64| (*at..*at + RIGHT_AFTER_US).contains(&returned.at_us);
                failovers_us.iter().any(is_after)
            })
    })
}

#[cfg(test)]
mod tests {
    use halite_checks::{Caller, ReadRows, SessionId};

    use super::*;

    #[test]
    fn only_a_strong_read_within_the_moment_counts() {
        let read_at = |level, at_us| {
            let mut history = History::default();
            let caller = Caller {
                session: SessionId(1),
                node: None,
                level,
            };
            let ticket = history.invoke(caller, 0, ReadRows { after: 0 });
            history.returned(ticket, at_us, Outcome::Ok(Vec::new()));
            history
        };
        let failovers = [1_000_000];
        let strong = |at_us| read_right_after(&read_at(Level::Linearizable, at_us), &failovers);
        assert!(strong(1_000_000));
        assert!(!strong(999_999));
        assert!(!strong(1_000_000 + RIGHT_AFTER_US));
        let local = read_at(Level::Local, 1_000_000);
        assert!(!read_right_after(&local, &failovers));
    }
}
