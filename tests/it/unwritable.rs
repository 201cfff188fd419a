//! A node cannot write its files any more, under load: the others go on, it says why, and comes back by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halite_proto::v1::ReadLevel;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::disk::{configure_unwritable, set_writable};
use halite_tests::load::{Load, LoadOptions};
use halite_tests::scratch::{Weight, run};
use halite_tests::{program, wait};

fn unwritable(name: &str, seed: u64, of_primary: bool) {
    run(name, Weight::Heavy, async |scratch| {
        let mut cluster =
            TestCluster::start(scratch, |options| configure_unwritable(options, 3)).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(seed)).await?;
        load.grown(50).await?;
        for _ in 0..2 {
            let node = if of_primary {
                cluster.primary().await?
            } else {
                cluster.follower().await?
            };
            let said = cluster.log_of(node)?.len();
            set_writable(&cluster, node, false)?;
            cluster.look_away_from(&[node]);
            let primary = cluster.primary().await.context("without the node")?;
            ensure!(primary != node);
            load.grown(100).await.context("without the node")?;
            says_why(&cluster, node, said).await?;
            set_writable(&cluster, node, true)?;
            cluster.look_away_from(&[]);
            load.verify(&cluster).await.context("writable again")?;
        }
        load.stop().await;
        Ok(())
    });
}

/// What the operating system says when a file cannot grow, and what the node makes of it.
async fn says_why(cluster: &TestCluster, node: u64, from: usize) -> Result<()> {
    wait::until("the node says why", PATIENCE, async || {
        let said = cluster.log_of(node).map_err(|e| e.to_string())?;
        let said = &said[from..];
        // Either its log stopped, or what the cluster committed does not go into its database.
        let consequence = ["storage failed", "cannot be written here"];
        if said.contains("File too large") && consequence.iter().any(|c| said.contains(c)) {
            Ok(())
        } else {
            let last = said.lines().last().unwrap_or_default();
            Err(last.to_owned())
        }
    })
    .await
}

#[test]
fn a_node_alone_whose_log_cannot_be_written_answers_and_goes_on_when_it_can() {
    run("unwritable-alone", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |options| {
            options.nodes = 1;
            configure_unwritable(options, 1);
        })
        .await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a INTEGER)", ()).await?;
        app.execute("INSERT INTO t VALUES (1)", ()).await?;
        let addr = &cluster.local.node(1).addr;
        for round in 1..=2 {
            set_writable(&cluster, 1, false)?;
            let admin = cluster.ops().admin();
            // A database that is created is an entry of the log, and nothing else.
            let created = admin.create_database("more", 4096, true);
            let created = tokio::time::timeout(Duration::from_secs(2), created).await;
            ensure!(!matches!(created, Ok(Ok(_))), "{created:?}");
            let why = ["cannot be written", "File too large"];
            program::status_shows(addr, &why, PATIENCE).await?;
            // It does not close in between.
            let mut node = DirectNode::new(addr, Duration::from_secs(2))?;
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(4) {
                let count = "SELECT count(*) FROM t";
                let rows = node.integers("app", count, &[], ReadLevel::Local).await;
                ensure!(rows.context("a local read")? == [[round]]);
            }
            let written = node.execute("app", "INSERT INTO t VALUES (9)").await;
            let refused = format!("{:#}", written.err().context("it cannot write")?);
            ensure!(refused.contains("cannot be written"), "{refused}");
            set_writable(&cluster, 1, true)?;
            cluster.primary().await.context("it can write again")?;
            app.execute("INSERT INTO t VALUES (2)", ()).await?;
        }
        Ok(())
    });
}

#[test]
fn a_follower_that_cannot_write_holds_nobody_up_says_why_and_recovers() {
    unwritable("unwritable-follower", 52, false);
}

#[test]
fn a_primary_that_cannot_write_makes_room_says_why_and_recovers() {
    unwritable("unwritable-primary", 53, true);
}
