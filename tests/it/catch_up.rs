//! Nodes that were away for long, or were never there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::{Database, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;

/// Databases written side by side: each is a lane of its own, so that entries add up fast.
const DATABASES: usize = 6;
/// More than the log keeps, in entries and in bytes.
const ENTRIES: i64 = 24_000;
const ROW_BYTES: i64 = 7000;

fn name(number: usize) -> String {
    format!("db{number}")
}

async fn cluster(scratch: &halite_tests::scratch::Scratch) -> Result<TestCluster> {
    TestCluster::start(scratch, |options| {
        options.databases = (0..DATABASES).map(|n| (name(n), 4096)).collect();
        options.extra_config = "checkpoint:\n  wal-size: 1MiB\n".to_owned();
    })
    .await
}

/// Writes rows, each a transaction, into a ring of slots: the log grows, the files do not.
async fn churn(cluster: &TestCluster, entries: i64) -> Result<()> {
    let mut tasks = Vec::new();
    for number in 0..DATABASES {
        let database = cluster.client().await?.database(name(number));
        tasks.push(tokio::spawn(async move {
            database
                .execute(
                    "CREATE TABLE IF NOT EXISTS t (slot INTEGER PRIMARY KEY, n, b)",
                    (),
                )
                .await?;
            for n in 0..entries / DATABASES as i64 {
                write(&database, n).await?;
            }
            Ok::<_, halite_client::Error>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn write(database: &Database, n: i64) -> Result<(), halite_client::Error> {
    let replace = "REPLACE INTO t VALUES (?1, ?2, randomblob(?3))";
    database
        .execute(replace, params![n % 50, n, ROW_BYTES])
        .await
        .map(drop)
}

async fn all_same(cluster: &TestCluster) -> Result<()> {
    for number in 0..DATABASES {
        cluster.check_same(&name(number)).await?;
    }
    Ok(())
}

#[test]
fn a_blank_learner_is_brought_up_after_the_log_was_purged() {
    run("blank-learner", Weight::Heavy, async |scratch| {
        let mut cluster = cluster(scratch).await?;
        churn(&cluster, ENTRIES).await?;
        cluster.join(4).await?;
        // Nobody stops writing for it.
        churn(&cluster, 600).await?;
        cluster.promote(4).await?;
        all_same(&cluster).await?;
        installed_snapshot(&cluster, 4).await
    });
}

/// A node was brought up by page diffs, not from the log. It says so once all of them are installed, and each of its databases may be in step
/// before that.
async fn installed_snapshot(cluster: &TestCluster, id: u64) -> Result<()> {
    cluster.says(id, "install snapshot databases=").await
}

/// More than the log keeps for a node that is away (1 GiB).
const MISSED_BYTES: i64 = 1200 << 20;
const MISSED_ROW_BYTES: i64 = 950_000;

#[test]
fn a_follower_that_missed_more_than_the_log_keeps_catches_up_by_page_diff() {
    run("missed", Weight::Heavy, async |scratch| {
        let mut cluster = cluster(scratch).await?;
        churn(&cluster, 300).await?;
        all_same(&cluster).await?;
        let away = cluster.follower().await?;
        cluster.kill(away)?;
        let mut tasks = Vec::new();
        for number in 0..DATABASES {
            // As fast as the disk takes it, however slow that is.
            let database = cluster.client().await?.database(name(number));
            let database = database.with_timeout(PATIENCE);
            tasks.push(tokio::spawn(async move {
                for n in 0..MISSED_BYTES / MISSED_ROW_BYTES / DATABASES as i64 {
                    let replace = "REPLACE INTO t VALUES (?1, ?2, randomblob(?3))";
                    let slot = 100 + n % 3;
                    database
                        .execute(replace, params![slot, n, MISSED_ROW_BYTES])
                        .await?;
                }
                Ok::<_, halite_client::Error>(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        cluster.restart(away)?;
        churn(&cluster, 300).await?;
        cluster.primary().await?;
        all_same(&cluster).await?;
        installed_snapshot(&cluster, away).await
    });
}

#[test]
fn an_idle_database_outlives_the_purge_of_the_log_by_a_busy_one() {
    run("idle", Weight::Heavy, async |scratch| {
        let mut cluster = cluster(scratch).await?;
        churn(&cluster, 300).await?;
        // All are idle until they are checkpointed; then their last transactions leave the log with those of the busy one.
        for number in 0..DATABASES {
            let database = name(number);
            wait::until("it is checkpointed everywhere", PATIENCE, async || {
                for id in cluster.ids() {
                    let status = cluster
                        .database_status(id, &database)
                        .await
                        .map_err(|e| e.to_string())?;
                    if status.wal_bytes > 0 {
                        return Err(format!("node {id}: wal_bytes={}", status.wal_bytes));
                    }
                }
                Ok(())
            })
            .await?;
        }
        let idle = cluster.ops().database(name(0));
        let busy = cluster.ops().database(name(1));
        for n in 0..200 {
            let replace = "REPLACE INTO t VALUES (?1, ?2, randomblob(?3))";
            busy.execute(replace, params![100 + n % 3, n, MISSED_ROW_BYTES])
                .await?;
        }
        all_same(&cluster).await?;
        for id in cluster.ids() {
            cluster.kill(id)?;
        }
        for id in cluster.ids() {
            cluster.restart(id)?;
        }
        cluster.primary().await?;
        all_same(&cluster).await?;
        let rows = idle.query("SELECT count(*) FROM t", ()).await?;
        ensure!(rows[0].get::<i64>(0)? > 0);
        Ok(())
    });
}

#[test]
fn a_follower_that_was_away_for_long_catches_up() {
    run("lagging", Weight::Heavy, async |scratch| {
        let mut cluster = cluster(scratch).await?;
        churn(&cluster, 60).await?;
        all_same(&cluster).await?;
        let away = cluster.follower().await?;
        cluster.kill(away)?;
        churn(&cluster, ENTRIES / 2).await?;
        cluster.restart(away)?;
        churn(&cluster, 600).await?;
        cluster.primary().await?;
        all_same(&cluster).await.context("after a long absence")?;
        // It is a full member again: the cluster lives on it and one other.
        let primary = cluster.primary().await?;
        let third = cluster
            .ids()
            .into_iter()
            .find(|id| *id != away && *id != primary)
            .context("three nodes")?;
        cluster.kill(third)?;
        let database = cluster.ops().database(name(0));
        write(&database.with_timeout(Duration::from_secs(10)), 0).await?;
        Ok(())
    });
}

#[test]
fn a_node_that_is_down_is_looked_for_without_haste() {
    run("down", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let down = cluster.follower().await?;
        cluster.kill(down)?;
        let primary = cluster.primary().await?;
        let before = cluster.log_of(primary)?.len();
        // Time is what is measured here: a primary that does not pause between its tries writes megabytes in it.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let written = cluster.log_of(primary)?.len() - before;
        ensure!(
            written < 200_000,
            "the primary wrote {written} bytes of log in 3 s about a node that is down"
        );
        cluster.restart(down)?;
        cluster.primary().await?;
        cluster.check_same("app").await?;
        Ok(())
    });
}
