//! Determinism: the same seed, run twice in processes of their own, gives the same trace, byte for byte. Everything else rests on it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Some small, some with many nodes and faults.
const SEEDS: std::ops::Range<u64> = 0..8;

/// `HALITE_SIM_BIN`, else the one that was built with this test.
fn program() -> OsString {
    std::env::var_os("HALITE_SIM_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_halite-sim").into())
}

fn trace(seed: u64, file: &Path) -> Vec<u8> {
    let output = Command::new(program())
        .args(["--seed", &seed.to_string(), "--trace"])
        .arg(file)
        .output()
        .expect("the program runs");
    let trace = std::fs::read(file);
    trace.unwrap_or_else(|_| panic!("no trace: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn same_seed_gives_the_same_trace() {
    let dir = tempfile::tempdir().expect("directory");
    for seed in SEEDS {
        let first = trace(seed, &dir.path().join("first"));
        let second = trace(seed, &dir.path().join("second"));
        assert!(first.len() > 10_000, "seed {seed} did next to nothing");
        if first != second {
            let lines = |trace: &[u8]| String::from_utf8_lossy(trace).into_owned();
            let (first, second) = (lines(&first), lines(&second));
            let (number, (a, b)) = first
                .lines()
                .zip(second.lines())
                .enumerate()
                .find(|(_, (a, b))| a != b)
                .expect("one is the beginning of the other");
            panic!(
                "seed {seed} does not repeat from line {}:\n{a}\n{b}",
                number + 1
            );
        }
    }
}

#[test]
fn another_seed_gives_another_trace() {
    let dir = tempfile::tempdir().expect("directory");
    let first = trace(1, &dir.path().join("first"));
    let second = trace(2, &dir.path().join("second"));
    assert_ne!(first, second);
}
