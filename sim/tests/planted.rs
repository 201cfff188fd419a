//! Every planted bug is found: the table in `planted/bugs.md` says from which seed on, and by which checks.
//!
//! Seeds shift whenever plans change, so each bug gets a few seeds. The seed that found it is printed, and has to pass without the bug.
//! To repeat one: `HALITE_PLANTED_BUG=<name> halite-sim --seed <seed> --episode <episode>`, built with the feature `planted-bugs`.
//! `HALITE_PLANTED_SIM_BIN` names a program that has the feature, else it is the one that was built with this test.
//!
//! All of them take a while: `HALITE_PLANTED_SECONDS` says when the search ends (0: when all are found), and `HALITE_PLANTED_FROM` at which row of the
//! table to begin, any number.

use std::env;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use halite_planted::{Bug, VARIABLE};

const TABLE: &str = include_str!("../planted/bugs.md");
/// Seeds tried for each bug, from the one in the table on.
const SEEDS_MAX: u64 = 60;

/// A row of the table.
#[derive(Clone, Debug)]
struct Row {
    bug: String,
    /// With the others that it takes to be seen: as the environment variable has them.
    planted: String,
    /// Any of these.
    caught_by: Vec<String>,
    /// The episode of the seeds.
    episode: String,
    /// `None`: no workload or fault brings it to light yet, and the table says what is missing.
    seed: Option<u64>,
}

/// "`a` with `b`": the names in it.
fn names(cell: &str) -> Vec<String> {
    cell.split(" with ")
        .map(|name| name.trim_matches('`').to_owned())
        .collect()
}

fn rows() -> Vec<Row> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    TABLE
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| match cells(line).as_slice() {
            [bugs, _what, _place, caught_by, seed] => Row {
                bug: names(bugs)[0].clone(),
                planted: names(bugs).join(","),
                caught_by: caught_by
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect(),
                episode: seed
                    .split_once(':')
                    .map_or("none", |(_, name)| name)
                    .to_owned(),
                seed: seed.split(':').next().and_then(|seed| seed.parse().ok()),
            },
            // Tests of whole nodes find it.
            [bug, _what, _place, test] => Row {
                bug: bug.trim_matches('`').to_owned(),
                planted: String::new(),
                caught_by: vec![test.trim_matches('`').to_owned()],
                episode: String::new(),
                seed: None,
            },
            other => panic!("not a row: {other:?}"),
        })
        .collect()
}

/// What a run printed last, and whether it found a violation.
struct Run {
    violated: bool,
    said: String,
}

fn run(seed: u64, episode: &str, bug: Option<&str>) -> Run {
    let program = env::var_os("HALITE_PLANTED_SIM_BIN")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_halite-sim").into());
    let mut command = Command::new(program);
    command
        .args(["--seed", &seed.to_string(), "--json"])
        .args(["--episode", episode])
        .env_remove(VARIABLE)
        .env_remove("RUST_LOG");
    command.envs(bug.map(|bug| (VARIABLE, bug)));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let code = child.wait().unwrap().code();
    // Anything else is no verdict: a bug that makes the simulation itself fail is not found by a check.
    assert!(
        matches!(code, Some(0 | 1)),
        "seed={seed} bug={bug:?} code={code:?} said={said}"
    );
    Run {
        violated: code == Some(1),
        said,
    }
}

/// The seed that found the bug, or why it does not count as found; `None` if the time was over before.
fn find(row: &Row, first: u64, in_time: impl Fn() -> bool) -> Result<Option<u64>, String> {
    for seed in first..first + SEEDS_MAX {
        if !in_time() {
            return Ok(None);
        }
        let with = run(seed, &row.episode, Some(&row.planted));
        if !with.violated {
            continue;
        }
        if !row
            .caught_by
            .iter()
            .any(|property| with.said.contains(property))
        {
            return Err(format!(
                "seed={seed} found by another check than {:?}: {}",
                row.caught_by, with.said
            ));
        }
        let without = run(seed, &row.episode, None);
        if without.violated {
            return Err(format!(
                "seed={seed} fails without the bug: {}",
                without.said
            ));
        }
        return Ok(Some(seed));
    }
    Err(format!(
        "not found by the seeds {first}..{}",
        first + SEEDS_MAX
    ))
}

/// What the environment says, 0 if nothing.
fn number(variable: &str) -> u64 {
    env::var(variable).map_or(0, |value| value.parse().expect(variable))
}

#[test]
fn table_names_every_bug_once() {
    let mut named: Vec<String> = rows().into_iter().map(|row| row.bug).collect();
    let mut known: Vec<String> = Bug::ALL.iter().map(|bug| bug.name().to_owned()).collect();
    named.sort();
    known.sort();
    assert_eq!(named, known);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the search itself is not simulated: it has so much time on this machine"
)]
fn every_planted_bug_is_found_and_only_with_it() {
    let mut rows: Vec<(Row, u64)> = rows()
        .into_iter()
        .filter_map(|row| row.seed.map(|seed| (row, seed)))
        .collect();
    let all = rows.len();
    rows.rotate_left(number("HALITE_PLANTED_FROM") as usize % all);
    let limit = Some(number("HALITE_PLANTED_SECONDS")).filter(|seconds| *seconds > 0);
    let ends = limit.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let in_time = || ends.is_none_or(|ends| Instant::now() < ends);
    let (next, found) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let wrong: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut wrong = Vec::new();
                    while in_time()
                        && let Some((row, first)) = rows.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        match find(row, *first, in_time) {
                            Ok(Some(seed)) => {
                                found.fetch_add(1, Ordering::Relaxed);
                                println!("{} found by seed {seed}", row.bug);
                            }
                            Ok(None) => println!("{} not found in the time there was", row.bug),
                            Err(why) => wrong.push(format!("{}: {why}", row.bug)),
                        }
                    }
                    wrong
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    let found = found.into_inner();
    println!("{found} of {all} found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 0, "none was found in the time there was");
}
