//! `halite-sim`: runs seeds, and says what did not hold.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use halite_sim::plan::Plan;
use halite_sim::trace::Trace;
use halite_sim::world::World;

/// Searches for seeds that break a promise of Halite.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run this seed.
    #[arg(long)]
    seed: u64,
    /// Write the canonical trace to this file.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print the trace as it comes.
    #[arg(long)]
    verbose: bool,
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
    let dir = tempfile::Builder::new().prefix("halite-sim-").tempdir_in(
        if std::path::Path::new("/dev/shm").is_dir() {
            "/dev/shm".into()
        } else {
            std::env::temp_dir()
        },
    )?;
    let elapsed_us = Arc::default();
    let trace = Trace::new(Arc::clone(&elapsed_us), arguments.verbose);
    let plan = Plan::of(arguments.seed);
    trace.note(format_args!("{plan:?}"));
    let outcome = World::new(plan, dir.path(), trace.clone(), elapsed_us)?.run()?;
    if let Some(file) = arguments.trace {
        std::fs::write(file, trace.text())?;
    }
    println!("{outcome:?}");
    Ok(if outcome.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
