//! [`Schedule`]: how often files are merged, and how long they are kept.
//!
//! Owns the numbers and what a window of time is. Read by [`next_work`](crate::next_work) and [`expired`](crate::expired).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::Level;

/// When files move up, and when they go. The defaults are Litestream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How much time one file of level 1, 2, … covers. Empty: level 0 is all there is, but for snapshots.
    pub levels: Vec<Duration>,
    /// How often a snapshot is made.
    pub snapshot_interval: Duration,
    /// How far back the database can be restored.
    pub snapshot_retention: Duration,
    /// How long files of level 0 are kept at least, once level 1 has what is in them. Zero: for ever.
    pub level_zero_retention: Duration,
}

impl Schedule {
    /// More levels there cannot be: the one above them holds the snapshots.
    pub const LEVELS_MAX: usize = Level::SNAPSHOT.get() as usize - 1;

    /// The levels that files are merged into, lowest first, each with its interval.
    pub(crate) fn merged(&self) -> impl Iterator<Item = (Level, Duration)> {
        Level::all()
            .skip(1)
            .take(Self::LEVELS_MAX)
            .zip(self.levels.iter().copied())
    }

    /// What is older can be restored no more.
    pub fn horizon(&self, now: Timestamp) -> Timestamp {
        before(now, self.snapshot_retention)
    }

    /// Whether a file of level 0 is kept because of its age alone.
    pub(crate) fn is_young(&self, timestamp: Timestamp, now: Timestamp) -> bool {
        self.level_zero_retention.is_zero() || timestamp > before(now, self.level_zero_retention)
    }
}

impl Default for Schedule {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        Schedule {
            levels: [30, 5 * MINUTE, HOUR].map(Duration::from_secs).to_vec(),
            snapshot_interval: Duration::from_secs(24 * HOUR),
            snapshot_retention: Duration::from_secs(24 * HOUR),
            level_zero_retention: Duration::from_secs(5 * MINUTE),
        }
    }
}

/// The end of the window of time that `timestamp` is in. Windows are multiples of `interval` since 1970, the same on every node.
pub(crate) fn window_end(timestamp: Timestamp, interval: Duration) -> Timestamp {
    let interval_ms = i64::try_from(interval.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    let window = timestamp.as_millisecond().div_euclid(interval_ms);
    let end_ms = window.saturating_add(1).saturating_mul(interval_ms);
    Timestamp::from_millisecond(end_ms).unwrap_or(Timestamp::MAX)
}

/// The earliest date there is, if that is not long enough ago.
fn before(now: Timestamp, ago: Duration) -> Timestamp {
    SignedDuration::try_from(ago)
        .ok()
        .and_then(|ago| now.checked_sub(ago).ok())
        .unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_at_multiples_of_their_length() {
        let end = |ms, secs| {
            let at = Timestamp::from_millisecond(ms).unwrap();
            window_end(at, Duration::from_secs(secs)).as_millisecond()
        };
        assert_eq!(end(0, 30), 30_000);
        assert_eq!(end(29_999, 30), 30_000);
        assert_eq!(end(30_000, 30), 60_000);
        assert_eq!(end(-1, 30), 0);
        assert_eq!(
            window_end(Timestamp::MAX, Duration::MAX),
            Timestamp::MAX,
            "no overflow"
        );
    }

    #[test]
    fn an_age_beyond_all_dates_is_the_first_date() {
        let schedule = Schedule {
            snapshot_retention: Duration::MAX,
            ..Schedule::default()
        };
        assert_eq!(schedule.horizon(Timestamp::UNIX_EPOCH), Timestamp::MIN);
    }
}
