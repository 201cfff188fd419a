//! How long the cluster takes no writes when its primary is killed.
//!
//! Writers hammer all the time. The clock starts before SIGKILL and stops with the acknowledgement of a write that was sent when the
//! process was already gone: no answer of the dead that was still on its way can be taken for one of its successor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use halite_client::{Database, ErrorKind, ReadLevel, params};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::error::CliError;
use super::baseline::INSERT;
use super::bench_cluster::BenchCluster;
use super::latencies::as_ms;
use super::load::row_text;
use super::plan::Plan;
use super::progress::Progress;
use super::reads::first;
use super::report::{Report, TakeoverFigures};

const WRITERS: usize = 4;
const TAKEOVER_DEADLINE: Duration = Duration::from_secs(30);
/// Writes that have to be acknowledged between two rounds: the cluster is at work again.
const WRITES_BETWEEN: u64 = 200;

#[derive(Debug, Default)]
struct Tally {
    acked: AtomicU64,
    failed: AtomicU64,
}

pub(super) async fn measure(
    plan: &Plan,
    cluster: &mut BenchCluster,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), CliError> {
    let count = "SELECT count(*) FROM kv";
    let exact = cluster.database().with_level(ReadLevel::Linearizable);
    let before = first(&exact, count).await?;
    let tally = Arc::new(Tally::default());
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (database, tally) = (cluster.database(), Arc::clone(&tally));
        writers.spawn(async move { hammer(&database, &tally).await });
    }
    let mut all_ms = Vec::new();
    let mut probes_acked = 0;
    for round in 1..=plan.takeover_rounds {
        progress.step(&format!(
            "takeover: round {round} of {}",
            plan.takeover_rounds
        ));
        all_ms.push(as_ms(one_round(cluster, &tally).await?));
        probes_acked += 1;
    }
    writers.shutdown().await;
    let acked = tally.acked.load(Ordering::Relaxed) + probes_acked;
    let rows = first(&exact, count).await? - before;
    if u64::try_from(rows).unwrap_or(0) < acked {
        return Err(CliError::new(format!(
            "acknowledged writes are lost: acknowledged={acked} rows={rows}"
        )));
    }
    report.takeover_ms = Some(TakeoverFigures::new(
        all_ms,
        tally.failed.load(Ordering::Relaxed),
    ));
    Ok(())
}

/// Kills the primary, and has it back and caught up when it returns the time without writes.
async fn one_round(cluster: &mut BenchCluster, tally: &Tally) -> Result<Duration, CliError> {
    at_work(tally).await?;
    let primary = cluster.primary_id().await?;
    let database = cluster.database().with_timeout(TAKEOVER_DEADLINE);
    let killed = Instant::now();
    cluster.kill(primary)?;
    database.execute(INSERT, params![row_text()]).await?;
    let taken_over = killed.elapsed();
    cluster.restart(primary)?;
    cluster.all_caught_up().await?;
    Ok(taken_over)
}

/// Waits until the writers have got some more writes through.
async fn at_work(tally: &Tally) -> Result<(), CliError> {
    let goal = tally.acked.load(Ordering::Relaxed) + WRITES_BETWEEN;
    let done = async {
        while tally.acked.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = timeout(TAKEOVER_DEADLINE, done).await;
    done.map_err(|_| CliError::new("the cluster takes no writes between two takeovers"))
}

/// Writes until it is stopped. A write that the client gives up is counted, and not retried.
async fn hammer(database: &Database, tally: &Tally) {
    loop {
        match database.execute(INSERT, params![row_text()]).await {
            Ok(_) => tally.acked.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::Unavailable { .. }) {
                    tracing::warn!(%error, "a write failed during a takeover");
                }
                // Without a word from anybody there is no waiting in it.
                tokio::time::sleep(Duration::from_millis(10)).await;
                tally.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}
