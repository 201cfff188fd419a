//! [`Lasting`]: for how long one thing has been going on. Pure.

use std::time::{Duration, Instant};

/// What goes on, by a number that changes with each step of it.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    seen: Option<(u64, Instant)>,
}

impl Lasting {
    /// `doing` is the number of what is being done, if anything is. For how long it was seen to be.
    pub(crate) fn look(&mut self, doing: Option<u64>, now: Instant) -> Duration {
        self.seen = match (doing, self.seen) {
            (Some(doing), Some((seen, since))) if seen == doing => Some((seen, since)),
            (Some(doing), _) => Some((doing, now)),
            (None, _) => None,
        };
        self.seen
            .map_or(Duration::ZERO, |(_, since)| now.duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_on_under_one_number_lasts() {
        let mut lasting = Lasting::default();
        let start = tokio::time::Instant::now().into_std();
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(Duration::ZERO, lasting.look(Some(1), at(0)));
        assert_eq!(Duration::from_secs(2), lasting.look(Some(1), at(2)));
        assert_eq!(Duration::ZERO, lasting.look(Some(2), at(3)));
        assert_eq!(Duration::ZERO, lasting.look(None, at(9)));
        assert_eq!(Duration::ZERO, lasting.look(Some(2), at(10)));
        assert_eq!(Duration::from_secs(4), lasting.look(Some(2), at(14)));
    }
}
