//! How long calls took, and what people ask of that: the median and the 99th percentile.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies up to two minutes, to three digits.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    us: Histogram<u64>,
}

const LONGEST_US: u64 = 120_000_000;
const DIGITS: u8 = 3;

impl Latencies {
    pub(super) fn new() -> Self {
        let us = Histogram::new_with_bounds(1, LONGEST_US, DIGITS);
        Self {
            us: us.expect("bounds and digits are constants that hdrhistogram takes"),
        }
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.us.saturating_record(us);
    }

    pub(super) fn count(&self) -> u64 {
        self.us.len()
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let ms = |quantile| self.us.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles {
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        }
    }
}

/// Median and 99th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// The value that `quantile` of all values do not exceed (nearest rank); `None` of no values. Sorts them.
pub(super) fn nearest_rank(values: &mut [f64], quantile: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (quantile * values.len() as f64).ceil().max(1.0) as usize;
    values.get(rank - 1).or(values.last()).copied()
}

/// Three digits behind the point: more would be noise.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

pub(super) fn as_ms(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        for ms in 1..=100 {
            latencies.record(Duration::from_millis(ms));
        }
        let Quantiles { p50_ms, p99_ms } = latencies.quantiles();
        assert!((p50_ms - 50.0).abs() < 0.1, "{p50_ms}");
        assert!((p99_ms - 99.0).abs() < 0.1, "{p99_ms}");
        assert_eq!(latencies.count(), 100);
    }

    #[test]
    fn endless_and_no_time_are_recorded_too() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        assert_eq!(latencies.count(), 2);
        assert!(latencies.quantiles().p99_ms >= 120_000.0);
    }

    #[test]
    fn nearest_rank_takes_a_value_that_was_there() {
        let mut seven = [7.0, 1.0, 3.0, 2.0, 6.0, 4.0, 5.0];
        assert_eq!(nearest_rank(&mut seven, 0.5), Some(4.0));
        assert_eq!(nearest_rank(&mut seven, 0.99), Some(7.0));
        assert_eq!(nearest_rank(&mut seven, 0.0), Some(1.0));
        assert_eq!(nearest_rank(&mut [1.0, 2.0], 0.5), Some(1.0));
        assert_eq!(nearest_rank(&mut [], 0.5), None);
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(rounded(1.23456), 1.235);
        assert_eq!(as_ms(Duration::from_nanos(1_234_567)), 1.235);
    }
}
