//! Random runs that can be repeated: `HALITE_SEED`, `HALITE_ROUNDS`, `HALITE_DURATION`.

use std::time::Duration;

/// A year: until somebody stops it.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| {
        panic!("{variable} has to be a number: found={text:?}");
    }))
}

pub(crate) fn seed() -> u64 {
    number("HALITE_SEED").unwrap_or_else(|| rand::random::<u32>().into())
}

pub(crate) fn rounds(short: u64) -> u64 {
    number("HALITE_ROUNDS").unwrap_or(short)
}

/// How long to go on: `90s`, `1h30m` or `forever`.
pub(crate) fn duration() -> Option<Duration> {
    let text = std::env::var("HALITE_DURATION").ok()?;
    if text == "forever" {
        return Some(FOREVER);
    }
    let lasts = halite::config::parse_duration(&text);
    Some(lasts.unwrap_or_else(|error| panic!("HALITE_DURATION: {error}")))
}

/// Says what runs, and how to repeat it.
pub(crate) fn announce(test: &str, seed: u64, rounds: u64) -> String {
    eprintln!("{test}: seed={seed} rounds={rounds}");
    format!(
        "HALITE_SEED={seed} HALITE_ROUNDS={rounds} cargo test --release -p halite-tests --test it -- --nocapture {test}"
    )
}
