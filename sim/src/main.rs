//! `halite-sim`: runs seeds, and says what did not hold.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use halite_sim::episode::Choice;
use halite_sim::export;
use halite_sim::run::{Run, run};
use halite_sim::search::{SearchOptions, search};
use halite_sim::seeds::{Pick, SeedRange, regressions};
use halite_sim::sometimes;
use halite_sim::stopwatch::Stopwatch;

/// Lines of a failed run's trace that people are shown.
const TAIL_LINES: usize = 60;

/// Searches for seeds that break a promise of Halite.
///
/// A seed decides everything: cluster, load, faults and every timing. The same seed gives the same run.
/// Exit code 0: all held; 1: something did not; 2: wrong arguments.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    what: What,
    /// The episode of all these seeds, or none; else each seed draws one, or none.
    #[arg(long, value_name = "NAME", conflicts_with = "regress")]
    episode: Option<Choice>,
    /// Write the canonical trace of --seed to this file.
    #[arg(long, value_name = "FILE", requires = "seed")]
    trace: Option<PathBuf>,
    /// Write what the clients of --seed did and saw to this file, one JSON object a line: for the judge in sim/porcupine.
    #[arg(long, value_name = "FILE", requires = "seed")]
    export_history: Option<PathBuf>,
    /// Print the trace of --seed step by step as it comes; RUST_LOG=info adds what the nodes log.
    #[arg(long, requires = "seed")]
    verbose: bool,
    /// Print one JSON object instead of a line for people.
    #[arg(long)]
    json: bool,
    /// Begin no further seed after this many seconds.
    #[arg(long, value_name = "SECONDS", conflicts_with = "seed")]
    time_limit: Option<u64>,
    /// Go on after a violation.
    #[arg(long, conflicts_with = "seed")]
    keep_going: bool,
    /// Seeds that run at the same time [default: one per core].
    #[arg(long, conflicts_with = "seed")]
    jobs: Option<usize>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Run this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Run these seeds: A..B (without B), or A.. together with --time-limit.
    #[arg(long, value_name = "A..B")]
    seeds: Option<SeedRange>,
    /// Run the seeds of this file: one a line, each with its reason.
    #[arg(long, value_name = "FILE")]
    regress: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .without_time()
            .init();
    }
    let choice = arguments.episode.unwrap_or_default();
    let held = match (&arguments.what.seed, &arguments.what.seeds) {
        (Some(seed), _) => {
            let seed = *seed;
            one(Pick { seed, choice }, &arguments)?
        }
        (None, Some(SeedRange(Range { start, end }))) => {
            let picks = (*start..*end).map(|seed| Pick { seed, choice });
            many(picks, &arguments)?
        }
        (None, None) => {
            let file = arguments.what.regress.clone().unwrap_or_default();
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("read {}", file.display()))?;
            let seeds = regressions(&text).with_context(|| format!("in {}", file.display()))?;
            many(seeds.into_iter(), &arguments)?
        }
    };
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn one(pick: Pick, arguments: &Arguments) -> Result<bool> {
    let Run {
        figures,
        trace,
        records,
    } = run(pick.seed, pick.choice, arguments.verbose)?;
    if let Some(file) = &arguments.export_history {
        let failed = || format!("write {}", file.display());
        let mut out = BufWriter::new(File::create(file).with_context(failed)?);
        export::write(&records, &mut out).with_context(failed)?;
        out.flush().with_context(failed)?;
    }
    if let Some(file) = &arguments.trace {
        std::fs::write(file, trace.text()).with_context(|| format!("write {}", file.display()))?;
    }
    if !figures.violations.is_empty() {
        eprintln!(
            "the last steps of seed {pick}:\n{}\n",
            trace.tail(TAIL_LINES)
        );
        for violation in &figures.violations {
            eprintln!("VIOLATION of {}: {}", violation.property, violation.what);
        }
        let repeat = pick.arguments().join(" ");
        eprintln!("\nrepeat it: cargo run --release -p halite-sim -- {repeat} --verbose");
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{figures}");
    }
    Ok(figures.violations.is_empty())
}

fn many(picks: impl Iterator<Item = Pick> + Send, arguments: &Arguments) -> Result<bool> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = SearchOptions {
        jobs: arguments.jobs.unwrap_or(cores),
        time_limit: arguments.time_limit.map(Duration::from_secs),
        keep_going: arguments.keep_going,
    };
    let watch = Stopwatch::start();
    let (figures, failures) = search(picks, &options)?;
    for failure in &failures {
        eprintln!("\n==== seed {} ====\n{}", failure.pick, failure.report);
    }
    let missing = match arguments.what.seeds {
        // An episode that all of them have keeps them from other states.
        Some(_) if arguments.episode.is_none() => {
            sometimes::missing(&figures.sometimes, figures.seeds)
        }
        _ => Vec::new(),
    };
    for state in &missing {
        eprintln!(
            "NEVER REACHED: {:?}, which {} seeds have to reach",
            state.name(),
            state.within()
        );
    }
    let went_everywhere = missing.is_empty();
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        let minutes = watch.elapsed().as_secs_f64() / 60.0;
        let per_minute = figures.seeds as f64 / minutes.max(1e-9);
        println!("{figures} seeds_per_minute={per_minute:.0}");
    }
    Ok(failures.is_empty() && went_everywhere)
}
