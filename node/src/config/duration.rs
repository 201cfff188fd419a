//! Durations as people write them: `500ms`, `1s`, `1h30m`.

use std::time::Duration;

/// Units from the largest; `µs` and `us` are the same.
const UNITS: [(&str, u64); 7] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("`{0}` is not a duration (examples: 500ms, 1s, 1h30m)")]
    Malformed(String),
    #[error("`{0}` has no unit (did you mean `{0}s` or `{0}ms`?)")]
    NoUnit(String),
    #[error("`{0}` is longer than this machine can count")]
    TooLong(String),
}

/// Reads a duration in Go's notation: one or more numbers with a unit each (`h m s ms us ns`), fractions allowed (`1.5s`).
/// A bare `0` is accepted, any other number without a unit is not.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(malformed());
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DurationError::NoUnit(text.to_owned()));
    }
    let mut rest = text;
    let mut total_ns: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(malformed)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let factor = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(malformed)?
            .1;
        total_ns = total_ns.saturating_add(number_in_ns(number, factor).ok_or_else(malformed)?);
        rest = tail;
    }
    u64::try_from(total_ns)
        .map(Duration::from_nanos)
        .map_err(|_| DurationError::TooLong(text.to_owned()))
}

/// `number` (digits with at most one point) times `factor`; saturates far above what a duration may be.
fn number_in_ns(number: &str, factor: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().unwrap_or(u128::MAX)
    };
    let mut ns = whole.saturating_mul(u128::from(factor));
    let mut place = u128::from(factor);
    for digit in fraction.bytes() {
        place /= 10;
        ns = ns.saturating_add(place * u128::from(digit - b'0'));
    }
    Some(ns)
}

/// Prints a duration so that [`parse_duration`] reads it back: `1h30m`, `250ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let mut rest_ns = duration.as_nanos();
    if rest_ns == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in UNITS.iter().filter(|(unit, _)| *unit != "µs") {
        let count = rest_ns / u128::from(*factor);
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            rest_ns %= u128::from(*factor);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, want) in [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("500ms", Duration::from_millis(500)),
            ("1s", Duration::from_secs(1)),
            ("1.5s", Duration::from_millis(1500)),
            (".5s", Duration::from_millis(500)),
            ("1h30m", Duration::from_secs(5400)),
            ("1m0.25s", Duration::from_millis(60_250)),
            ("10us", Duration::from_micros(10)),
            ("10µs", Duration::from_micros(10)),
            ("7ns", Duration::from_nanos(7)),
        ] {
            assert_eq!(parse_duration(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "s", "-1s", "1 s", "1d", "1s2", "1..5s", ".s", "1S", "eins",
        ] {
            assert_eq!(
                parse_duration(text),
                Err(DurationError::Malformed(text.to_owned())),
                "{text}"
            );
        }
        assert_eq!(
            parse_duration("5"),
            Err(DurationError::NoUnit("5".to_owned()))
        );
        for text in ["99999999h", "99999999999999999999999999999999999999999999h"] {
            assert_eq!(
                parse_duration(text),
                Err(DurationError::TooLong(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_printed_duration_reads_back_as_itself() {
        for ns in [
            0,
            1,
            999,
            1_000,
            250_000_000,
            1_500_000_000,
            5_400_000_000_000,
            86_400_000_000_001,
        ] {
            let duration = Duration::from_nanos(ns);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(format_duration(Duration::from_millis(250)), "250ms");
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h30m");
    }
}
