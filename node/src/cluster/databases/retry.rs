//! [`Retry`]: something that failed on this node and is tried again: when, how often, and what is said of it. Pure: time comes in.

use std::time::Duration;

use tokio::time::Instant;

/// First and longest pause before another try.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// Why it does not work, since when, and how often it was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    reason: String,
    since: Instant,
    tries: u32,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retry {
    trouble: Option<Trouble>,
    next: Instant,
    under_way: bool,
}

impl Retry {
    /// Not tried yet, and due.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            trouble: None,
            next: now,
            under_way: false,
        }
    }

    /// When it is to be tried; `None` while it is being tried.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        (!self.under_way).then_some(self.next)
    }

    pub(crate) fn begin(&mut self) {
        self.under_way = true;
    }

    /// It failed; true if that has not been said before.
    pub(crate) fn failed(&mut self, reason: String, now: Instant) -> bool {
        self.under_way = false;
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            reason: String::new(),
            since: now,
            tries: 0,
        });
        trouble.tries = trouble.tries.saturating_add(1);
        self.next = now + pause(trouble.tries);
        let is_news = trouble.reason != reason;
        trouble.reason = reason;
        is_news
    }

    /// It is worth trying at once: what was in the way may be gone.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.next = self.next.min(now);
    }

    /// Why it failed the last time it was tried.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.reason.as_str())
    }

    /// For people: the reason, how often it was tried and for how long.
    pub(crate) fn told(&self, now: Instant) -> Option<String> {
        let trouble = self.trouble.as_ref()?;
        let seconds = now.saturating_duration_since(trouble.since).as_secs();
        Some(match trouble.tries {
            1 => format!("{} (tried once)", trouble.reason),
            tries => format!("{} (tried {tries} times in {seconds} s)", trouble.reason),
        })
    }
}

/// The pause after so many failures.
fn pause(tries: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(tries.saturating_sub(1));
    PAUSE_FIRST.saturating_mul(doubled).min(PAUSE_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        // One base for all: only differences count.
        static BASE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *BASE.get_or_init(Instant::now) + Duration::from_millis(ms)
    }

    #[test]
    fn pauses_double_up_to_a_cap() {
        let pauses = [1, 2, 3, 6, 7, 100].map(|tries| pause(tries).as_millis());
        assert_eq!(pauses, [100, 200, 400, 3_200, 5_000, 5_000]);
    }

    #[test]
    fn a_failure_is_news_only_when_its_reason_is() {
        let mut retry = Retry::new(at(0));
        assert_eq!((retry.due_at(), retry.reason()), (Some(at(0)), None));
        retry.begin();
        assert_eq!(retry.due_at(), None);
        assert!(retry.failed("locked".into(), at(50)));
        assert_eq!(retry.due_at(), Some(at(150)));
        retry.begin();
        assert!(!retry.failed("locked".into(), at(2_160)));
        assert_eq!(retry.due_at(), Some(at(2_360)));
        assert_eq!(
            retry.told(at(2_160)).as_deref(),
            Some("locked (tried 2 times in 2 s)")
        );
        assert!(retry.failed("no descriptors".into(), at(3_000)));
        retry.hurry(at(3_010));
        assert_eq!(retry.due_at(), Some(at(3_010)));
    }
}
