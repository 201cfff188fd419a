//! How long to wait before trying again: doubling, capped, with jitter.

use std::time::Duration;

/// Delays from `first` doubling up to `cap`; each is drawn from the upper half of its step, so that many clients spread out.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    step: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            step: first,
        }
    }

    /// The next delay; `random` is any random number.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.cap);
        let half_us = (step.as_micros() as u64 / 2).max(1);
        Duration::from_micros(half_us + random % half_us)
    }

    pub(crate) fn reset(&mut self) {
        self.step = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_over() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(10), ms(35));
        assert_eq!(backoff.next(0), ms(5));
        assert!(backoff.next(u64::MAX) < ms(20));
        for _ in 0..9 {
            let delay = backoff.next(12_345);
            assert!(delay >= ms(35) / 2 && delay < ms(35), "{delay:?}");
        }
        backoff.reset();
        assert_eq!(backoff.next(0), ms(5));
    }
}
