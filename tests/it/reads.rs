//! Linearizable reads never miss what was acknowledged, on whichever node, whatever happened to it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::params;
use halite_proto::v1::ReadLevel;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::program;
use halite_tests::proxy::Proxy;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;

/// Longer than the lease of a primary (400 ms) by far.
const FROZEN: Duration = Duration::from_millis(1200);

fn direct(cluster: &TestCluster, id: u64) -> Result<DirectNode> {
    DirectNode::new(&cluster.local.node(id).addr, Duration::from_secs(3))
}

async fn newest(node: &mut DirectNode) -> Result<i64> {
    let sql = "SELECT coalesce(max(a), 0) FROM t";
    let rows = node
        .integers("app", sql, &[], ReadLevel::Linearizable)
        .await?;
    Ok(rows[0][0])
}

async fn insert(cluster: &TestCluster, n: i64) -> Result<()> {
    let app = cluster.ops().database("app");
    app.execute("INSERT INTO t VALUES (?1)", params![n]).await?;
    Ok(())
}

#[test]
fn every_node_shows_what_was_acknowledged_a_moment_ago() {
    run("fresh", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let mut nodes: Vec<_> = cluster
            .ids()
            .into_iter()
            .map(|id| direct(&cluster, id))
            .collect::<Result<_>>()?;
        for n in 1..=200 {
            insert(&cluster, n).await?;
            for (id, node) in nodes.iter_mut().enumerate() {
                let seen = newest(node).await?;
                ensure!(seen == n, "node {} shows {seen} after {n}", id + 1);
            }
        }
        Ok(())
    });
}

#[test]
fn reads_right_after_a_failover_are_not_stale() {
    run("fresh-failover", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        for n in 1..=6 {
            let old = cluster.primary().await?;
            insert(&cluster, n).await?;
            cluster.kill(old)?;
            for id in cluster.awake() {
                let mut node = direct(&cluster, id)?;
                let seen = wait::until("it answers", PATIENCE, async || {
                    newest(&mut node).await.map_err(|e| e.to_string())
                })
                .await?;
                ensure!(seen == n, "node {id} shows {seen} after {n}");
            }
            cluster.restart(old)?;
            let mut node = direct(&cluster, old)?;
            let seen = wait::until("it answers", PATIENCE, async || {
                newest(&mut node).await.map_err(|e| e.to_string())
            })
            .await?;
            ensure!(seen == n, "the old primary shows {seen} after {n}");
        }
        Ok(())
    });
}

#[test]
fn a_primary_frozen_past_its_lease_shows_and_acknowledges_nothing_stale() {
    run("frozen", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        for round in 1..=6 {
            let old = cluster.primary().await?;
            insert(&cluster, round * 10).await?;
            let mut node = direct(&cluster, old)?;
            ensure!(newest(&mut node).await? == round * 10);
            cluster.freeze(old)?;
            // Asked while it is frozen, answered when it wakes: the most stale an answer can be.
            let waiting = tokio::spawn({
                let mut node = node.clone();
                async move { newest(&mut node).await }
            });
            tokio::time::sleep(FROZEN).await;
            cluster.primary().await?;
            insert(&cluster, round * 10 + 1).await?;
            cluster.thaw(old)?;
            let first = newest(&mut node).await;
            if let Ok(seen) = first {
                ensure!(
                    seen == round * 10 + 1,
                    "the thawed primary shows {seen} after {}",
                    round * 10 + 1
                );
            }
            // This one began before the second write, and may or may not show it; it must show the first.
            if let Ok(seen) = waiting.await? {
                ensure!(seen >= round * 10, "a waiting read shows {seen}");
            }
            let seen = wait::until("the thawed node answers", PATIENCE, async || {
                newest(&mut node).await.map_err(|e| e.to_string())
            })
            .await?;
            ensure!(seen == round * 10 + 1, "{seen}");
            cluster.primary().await?;
            cluster.check_same("app").await.context("after the thaw")?;
        }
        Ok(())
    });
}

#[test]
fn the_shell_reads_locally_what_the_node_has_that_it_is_pointed_at() {
    run("pointed-at", Weight::Light, async |scratch| {
        let proxy = Proxy::start(scratch.dir(), 3).await?;
        let mut cluster = TestCluster::start(scratch, |options| proxy.configure(options)).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        cluster.settle("app").await?;
        let behind = cluster.follower().await?;
        proxy.isolate(behind);
        cluster.look_away_from(&[behind]);
        insert(&cluster, 1).await?;
        let addr = cluster.local.node(behind).addr.clone();
        let count = "SELECT 'rows ' || count(*) FROM t";
        let read = ["sql", "--level", "local", "--addr", &addr, "--db", "app"];
        for _ in 0..10 {
            let read = program::run([&read[..], &[count]].concat())?;
            let said = program::text(&read);
            ensure!(said.contains("rows 0"), "another node was asked: {said}");
        }
        // Where it has gone, another one is as good.
        cluster.kill(behind)?;
        let addrs = cluster.local.addrs().join(",");
        let read = ["sql", "--level", "local", "--addr", &addrs, "--db", "app"];
        let read = program::run([&read[..], &[count]].concat())?;
        ensure!(program::text(&read).contains("rows "), "{read:?}");
        Ok(())
    });
}
