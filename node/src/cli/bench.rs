//! `halite bench`: what a cluster on this machine's disk does, in figures, next to what the disk and plain SQLite do.
//!
//! Owns the plan of the run and the order of its steps; the steps are in the modules below. Starts a cluster of its own in a temporary
//! directory and never touches another one; loads it through `halite-client`, like any application. Called by `halite bench`.

mod baseline;
mod bench_cluster;
mod files;
mod inserts;
mod lag;
mod latencies;
mod load;
mod memory;
mod plan;
mod progress;
mod reads;
mod report;
mod takeover;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::GlobalArgs;
use super::error::{CliError, Outcome};
use super::output::{print, print_json};
use crate::config::{ByteSize, ByteSizeError, parse_duration};
use bench_cluster::BenchCluster;
use plan::{Part, Plan};
use progress::Progress;
use report::Report;

/// Measure a cluster of processes on this machine: inserts, reads, takeover, lag, and files that go in and out.
///
/// Starts the cluster in a temporary directory, with real fsync, and removes it again. The disk alone and plain SQLite
/// (one process, WAL, synchronous=FULL) are measured beside it. Nothing else should run on the machine meanwhile.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How long each step is measured, such as 5s or 500ms
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = step_duration)]
    duration: Duration,
    /// Clients that call at the same time, a step for each number [default: 1,4,16,64,256 for inserts, 1,64 for reads]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: Vec<u32>,
    /// Measure only these
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    only: Vec<Part>,
    /// Nodes of the cluster
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: u64,
    /// Rounds in which the primary is killed
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Size of the file that is imported, exported and restored
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = file_size)]
    file_size: ByteSize,
    /// Where the temporary directory is made: a real disk, or the figures mean nothing [default: the current directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn step_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(3600);
    if allowed.contains(&duration) {
        Ok(duration)
    } else {
        Err("a step takes from 100ms to 1h".to_owned())
    }
}

fn file_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|error: ByteSizeError| error.to_string())?;
    let allowed = 1 << 20..=1 << 40;
    if allowed.contains(&size.bytes()) {
        Ok(size)
    } else {
        Err("a file has from 1MiB to 1TiB".to_owned())
    }
}

pub(crate) async fn run(args: BenchArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let dir = args.dir.unwrap_or_else(|| PathBuf::from("."));
    let plan = Plan::new(
        args.duration,
        args.clients,
        &args.only,
        args.nodes,
        args.rounds,
    );
    let plan = plan.map_err(CliError::new)?;
    let mut progress = Progress::new(plan.step_count());
    let home = bench_cluster::temporary_dir(&dir)?;
    progress.remark(&format!("data: {}", home.path().display()));
    if bench_cluster::is_in_memory(home.path()) {
        super::output::remark(&format!(
            "warning: {} is in memory: the figures say nothing about a disk",
            home.path().display()
        ));
    }
    let mut report = Report::default();
    if plan.has(Part::Baseline) {
        baseline::measure(&plan, home.path(), &mut progress, &mut report).await?;
    }
    if plan.needs_cluster() {
        progress.step("starting the cluster");
        let mut cluster = BenchCluster::start(home, plan.nodes).await?;
        let measured = measure(&plan, &mut cluster, &mut progress, &mut report).await;
        if let Err(error) = measured {
            return Err(cluster.explain(error));
        }
    }
    if plan.has(Part::Files) {
        let home = bench_cluster::temporary_dir(&dir)?;
        let bytes = args.file_size.bytes();
        files::measure(bytes, plan.nodes, home, &mut progress, &mut report).await?;
    }
    drop(progress);
    if global.json {
        print_json(&report)?
    } else {
        print(&report.text())?
    }
    Ok(Outcome::Good)
}

/// Runs work that waits for the disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| load::broken(&error))?
}

async fn measure(
    plan: &Plan,
    cluster: &mut BenchCluster,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), CliError> {
    if plan.has(Part::Inserts) {
        inserts::measure(plan, cluster, progress, report).await?;
    }
    if plan.has(Part::Reads) {
        reads::measure(plan, cluster, progress, report).await?;
    }
    if plan.has(Part::Lag) {
        lag::measure(plan, cluster, progress, report).await?;
    }
    // Last, because it leaves nodes behind that have just been restarted.
    if plan.has(Part::Takeover) {
        takeover::measure(plan, cluster, progress, report).await?;
    }
    Ok(())
}
