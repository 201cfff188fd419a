//! One seed, from its plan to its figures.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::episode::Choice;
use crate::export::Record;
use crate::figures::Figures;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::World;

/// Where databases lie while a seed runs: memory, if the machine has a place for files in it. Nothing here needs to outlive the process.
const FAST_DIR: &str = "/dev/shm";

/// What a run gave.
pub struct Run {
    /// In numbers.
    pub figures: Figures,
    /// Step by step.
    pub trace: Trace,
    /// What clients did and nodes held.
    pub records: Vec<Record>,
}

/// Runs a seed. With `verbose`, its trace goes to standard error as it comes.
///
/// # Errors
/// The simulation itself failed.
pub fn run(seed: u64, choice: Choice, verbose: bool) -> Result<Run> {
    let fast = Path::new(FAST_DIR);
    let parent = if fast.is_dir() {
        fast.to_owned()
    } else {
        std::env::temp_dir()
    };
    let dir = tempfile::Builder::new()
        .prefix("halite-sim-")
        .tempdir_in(&parent)
        .with_context(|| format!("no directory for databases in {}", parent.display()))?;
    let elapsed_us = Arc::default();
    let trace = Trace::new(Arc::clone(&elapsed_us), dir.path(), verbose);
    let plan = Plan::of(seed, choice);
    trace.note(format_args!("{plan:?}"));
    halite_pager::seed_sqlite_randomness(seed as u32 | 1);
    let world = World::new(plan, dir.path(), trace.clone(), elapsed_us)?;
    let mut outcome = world.run()?;
    let records = std::mem::take(&mut outcome.records);
    Ok(Run {
        figures: Figures::of(outcome),
        trace,
        records,
    })
}
