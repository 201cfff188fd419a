//! Planned ends of nodes: nobody notices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::load::{Load, LoadOptions};
use halite_tests::scratch::{Weight, run};

/// How long the load runs before anything happens to it.
const WARM_UP: i64 = 200;

pub(super) async fn loaded(cluster: &TestCluster, seed: u64) -> Result<Load> {
    let options = LoadOptions {
        // An interactive transaction belongs to its node and ends with it; everything else has to go through.
        interactive_percent: 0,
        ..LoadOptions::new(seed)
    };
    let load = Load::start(cluster, options).await?;
    load.grown(WARM_UP).await?;
    Ok(load)
}

pub(super) async fn all_served(cluster: &TestCluster, load: &mut Load) -> Result<()> {
    {
        let _paused = load.pause().await;
        let primary = cluster.primary().await?;
        cluster.check_same("app").await?;
        load.check(cluster, primary)?;
    }
    load.stop().await;
    let records = load.history().records();
    let mut inserts = records.operations.set.inserts.iter();
    let refused = inserts.find(|insert| !insert.outcome.is_ok());
    ensure!(refused.is_none(), "a request failed: {refused:?}");
    Ok(())
}

#[test]
fn a_primary_that_is_told_to_stop_fails_no_request_and_ends_after_another_leads() {
    run("stop-primary", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut load = loaded(&cluster, 1).await?;
        for _ in 0..5 {
            let old = cluster.primary().await?;
            let began = Instant::now();
            let ended = cluster.local.terminate(old, PATIENCE)?;
            ensure!(ended.success(), "the primary ended with {ended}");
            let took = began.elapsed();
            let mut leads = false;
            for id in cluster.awake() {
                let topology = cluster.status(id).await?.topology.unwrap_or_default();
                leads |= topology.primary_id == id;
            }
            ensure!(leads, "the primary ended before another led");
            ensure!(took < Duration::from_secs(8), "a clean stop took {took:?}");
            load.grown(50).await.context("without the old primary")?;
            cluster.restart(old)?;
            cluster.primary().await?;
            cluster.settle_under_load().await?;
        }
        all_served(&cluster, &mut load).await
    });
}

#[test]
fn a_follower_that_nobody_asks_for_anything_waits_for_no_call_when_it_stops() {
    run("stop-follower", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let (_, followers) = cluster.roles().await?;
        for follower in followers {
            let ended = cluster.local.terminate(follower, PATIENCE)?;
            ensure!(ended.success(), "it ended with {ended}");
            let said = cluster.log_of(follower)?;
            ensure!(!said.contains("calls were still under way"), "{said}");
            cluster.restart(follower)?;
            cluster.primary().await?;
        }
        Ok(())
    });
}

#[test]
fn a_rolling_restart_of_all_nodes_fails_no_request() {
    run("rolling", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut load = loaded(&cluster, 2).await?;
        for _ in 0..2 {
            for id in cluster.ids() {
                let ended = cluster.local.terminate(id, PATIENCE)?;
                ensure!(ended.success(), "node {id} ended with {ended}");
                cluster.restart(id)?;
                cluster.primary().await?;
                cluster.settle_under_load().await?;
                load.grown(50).await?;
            }
        }
        all_served(&cluster, &mut load).await
    });
}

#[test]
fn leadership_moves_back_and_forth_without_a_failed_request() {
    run("transfer", Weight::Heavy, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut load = loaded(&cluster, 3).await?;
        for round in 0..12 {
            let to = round % 3 + 1;
            cluster
                .lead(to)
                .await
                .with_context(|| format!("transfer to {to}"))?;
            ensure!(cluster.primary().await? == to);
            load.grown(30).await?;
        }
        all_served(&cluster, &mut load).await
    });
}

#[test]
fn restarts_as_fast_as_processes_start_keep_every_promise() {
    run("hasty", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut load = loaded(&cluster, 4).await?;
        for round in 0..4 {
            // The next node goes while the one before has hardly begun: for moments there is no quorum.
            for id in cluster.ids() {
                if round % 2 == 0 {
                    cluster.local.terminate(id, PATIENCE)?;
                } else {
                    cluster.kill(id)?;
                }
                cluster.restart(id)?;
            }
            load.grown(30).await.context("after the restarts")?;
            load.verify(&cluster).await?;
        }
        load.stop().await;
        Ok(())
    });
}
