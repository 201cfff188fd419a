//! Which faults there are, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::fault::Fault;

/// Draws the faults of a run of `length` on nodes 1 to `voters`, in order.
pub(super) fn draw(rng: &mut SmallRng, voters: u64, length: Duration) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    let mut at = Duration::from_millis(rng.random_range(500..3_000));
    while at < length {
        faults.push((at, draw_one(rng, voters)));
        at += Duration::from_millis(rng.random_range(50..3_000));
    }
    faults
}

fn draw_one(rng: &mut SmallRng, voters: u64) -> Fault {
    let node = rng.random_range(1..=voters);
    let lasts = Duration::from_millis(rng.random_range(10..4_000));
    match rng.random_range(0..4) {
        0 => Fault::Restart { node, down: lasts },
        1 => Fault::Partition {
            side: draw_side(rng, voters),
            lasts,
        },
        n => Fault::Crash {
            node,
            power: n == 2,
            down: lasts,
        },
    }
}

fn draw_side(rng: &mut SmallRng, voters: u64) -> BTreeSet<u64> {
    (1..=voters).filter(|_| rng.random()).collect()
}
