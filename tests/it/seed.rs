//! Random runs that can be repeated: `HALITE_SEED` and `HALITE_ROUNDS`.

/// A number from the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
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

/// Says what runs, and how to repeat it.
pub(crate) fn announce(test: &str, seed: u64, rounds: u64) -> String {
    eprintln!("{test}: seed={seed} rounds={rounds}");
    format!(
        "HALITE_SEED={seed} HALITE_ROUNDS={rounds} cargo test --release -p halite-tests --test it -- --nocapture {test}"
    )
}
