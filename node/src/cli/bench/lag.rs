//! How long after its acknowledgement a row can be read on a follower, at a moderate and steady rate of writes.
//!
//! One reader asks the follower for its newest row, again as soon as it has the answer. Ids grow with commits, so that each answer
//! tells of all rows up to it; a row counts as seen when the first answer that covers it has arrived.

use std::time::Duration;

use halite_client::{Database, ReadLevel, params};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::super::error::CliError;
use super::baseline::INSERT;
use super::bench_cluster::BenchCluster;
use super::latencies::Latencies;
use super::load::{broken, row_text};
use super::plan::{Plan, Window};
use super::progress::Progress;
use super::reads::first;
use super::report::Report;

const WRITES_PER_S: u32 = 500;
/// Writes without an answer before no more are sent: the cluster cannot keep the pace.
const IN_FLIGHT_MAX: usize = 256;
const LAST_SEEN_DEADLINE: Duration = Duration::from_secs(10);

/// A row and the moment that something about it was known.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: i64,
    at: Instant,
}

pub(super) async fn measure(
    plan: &Plan,
    cluster: &BenchCluster,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), CliError> {
    progress.step(&format!("follower lag at {WRITES_PER_S} writes/s"));
    let follower = cluster.client_of(cluster.follower_id().await?).await?;
    let follower = follower.with_level(ReadLevel::Local);
    let (last, goal) = watch::channel(None);
    let mut reader = JoinSet::new();
    reader.spawn(async move { watch_newest(&follower, &goal).await });
    let mut acked = write_paced(&cluster.database(), plan.window).await?;
    acked.sort_by_key(|row| row.id);
    last.send_replace(acked.last().map(|row| row.id));
    let seen = timeout(LAST_SEEN_DEADLINE, reader.join_next()).await;
    let seen = seen.map_err(|_| CliError::new("the last row never came to the follower"))?;
    let seen = seen.ok_or_else(|| CliError::new("the follower was not read"))?;
    let seen = seen.map_err(|error| broken(&error))??;
    let lags = lags(&acked, &seen);
    if lags.count() == 0 {
        return Err(CliError::new("no write was acknowledged in time"));
    }
    report.follower_lag_ms = Some(lags.quantiles().into());
    Ok(())
}

/// Writes at the pace, and tells when each was acknowledged. Those of the warm-up are not told.
async fn write_paced(database: &Database, window: Window) -> Result<Vec<Known>, CliError> {
    let begin = Instant::now() + window.warm_up;
    let end = begin + window.measured;
    let mut pace = interval(Duration::from_secs(1) / WRITES_PER_S);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut writes = JoinSet::new();
    let mut acked = Vec::new();
    loop {
        let sent = pace.tick().await;
        while let Some(done) = writes.try_join_next() {
            acked.push(done.map_err(|error| broken(&error))??);
        }
        if sent >= end {
            break;
        }
        if writes.len() >= IN_FLIGHT_MAX {
            return Err(CliError::new(format!(
                "the cluster does not keep up with {WRITES_PER_S} writes a second"
            )));
        }
        let database = database.clone();
        writes.spawn(async move {
            let done = database.execute(INSERT, params![row_text()]).await?;
            Ok::<_, CliError>(Known {
                id: done.last_insert_rowid,
                at: Instant::now(),
            })
        });
    }
    while let Some(done) = writes.join_next().await {
        acked.push(done.map_err(|error| broken(&error))??);
    }
    acked.retain(|row| row.at >= begin);
    Ok(acked)
}

/// Reads the newest id over and over until it has come to the goal; the answers that told something new.
async fn watch_newest(
    follower: &Database,
    goal: &watch::Receiver<Option<i64>>,
) -> Result<Vec<Known>, CliError> {
    let mut seen: Vec<Known> = Vec::new();
    loop {
        let id = first(follower, "SELECT coalesce(max(id), 0) FROM kv").await?;
        let at = Instant::now();
        if seen.last().is_none_or(|last| id > last.id) {
            seen.push(Known { id, at });
        }
        if goal.borrow().is_some_and(|goal| id >= goal) {
            return Ok(seen);
        }
    }
}

/// For each acknowledged row the time until the first sight of it, zero if that came first. Both are in the order of their ids.
fn lags(acked: &[Known], seen: &[Known]) -> Latencies {
    let mut lags = Latencies::new();
    let mut sights = seen.iter().peekable();
    for row in acked {
        while sights.next_if(|sight| sight.id < row.id).is_some() {}
        if let Some(sight) = sights.peek() {
            lags.record(sight.at.saturating_duration_since(row.at));
        }
    }
    lags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, rows: &[(i64, u64)]) -> Vec<Known> {
        let known = |&(id, ms)| Known {
            id,
            at: start + Duration::from_millis(ms),
        };
        rows.iter().map(known).collect()
    }

    #[test]
    fn a_row_is_seen_with_the_first_sight_that_covers_it() {
        let start = Instant::now();
        let acked = at(start, &[(1, 10), (2, 20), (3, 21), (5, 30)]);
        let seen = at(start, &[(0, 0), (1, 12), (4, 25), (5, 26), (9, 90)]);
        // Lags 2, 5, 4, and none for the row that was seen before its acknowledgement came.
        let lags = lags(&acked, &seen);
        assert_eq!(lags.count(), 4);
        let quantiles = lags.quantiles();
        assert!((quantiles.p99_ms - 5.0).abs() < 0.01, "{quantiles:?}");
        assert!((quantiles.p50_ms - 2.0).abs() < 0.01, "{quantiles:?}");
    }

    #[test]
    fn rows_that_were_never_seen_are_not_counted() {
        let start = Instant::now();
        let lags = lags(&at(start, &[(1, 0), (2, 0)]), &at(start, &[(1, 5)]));
        assert_eq!(lags.count(), 1);
    }
}
