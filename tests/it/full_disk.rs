//! Disks are full. One: the others go on, and it comes back when there is room again. All: nothing is acknowledged and nothing lost.
//!
//! The disk is a small tmpfs, which only root can mount; elsewhere the tests say so and pass.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::params;
use halite_proto::v1::ReadLevel;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::disk::SmallDisk;
use halite_tests::load::{Load, LoadOptions};
use halite_tests::scratch::{Weight, run};
use halite_tests::{program, stock, wait};

const ROWS_BEFORE: i64 = 20;

fn full_disk(name: &str, of_primary: bool) {
    run(name, Weight::Light, async |scratch| {
        let Some(disk) = SmallDisk::mount(&scratch.join("node-2").join("data"))? else {
            return Ok(());
        };
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a INTEGER, b BLOB)", ())
            .await?;
        let leader = if of_primary { 2 } else { 1 };
        cluster.lead(leader).await?;
        for row in 0..ROWS_BEFORE {
            let insert = "INSERT INTO t VALUES (?1, randomblob(10000))";
            app.execute(insert, params![row]).await?;
        }

        let ballast = disk.fill()?;
        // It says so, whatever of it fails first, as long as there is no room.
        says_in_status(&cluster, 2, "full").await?;
        // A write may fail for the reason, until another node leads; none that was acknowledged may be missing later.
        let mut kept = ROWS_BEFORE;
        wait::until(
            "ten writes are kept in spite of the full disk",
            PATIENCE,
            async || {
                let insert = "INSERT INTO t VALUES (?1, randomblob(10000))";
                let write = app.with_timeout(Duration::from_secs(5));
                write
                    .execute(insert, params![kept])
                    .await
                    .map_err(|e| e.to_string())?;
                kept += 1;
                if kept == ROWS_BEFORE + 10 {
                    Ok(())
                } else {
                    Err(format!("{kept} rows"))
                }
            },
        )
        .await?;
        // Something large, so that nothing squeezes in.
        app.execute(
            "INSERT INTO t VALUES (?1, randomblob(3000000))",
            params![kept],
        )
        .await?;
        kept += 1;

        says_in_status(&cluster, 2, "full").await?;
        let mut node = DirectNode::new(&cluster.local.node(2).addr, Duration::from_secs(2))?;
        let count = "SELECT count(*) FROM t";
        let rows = node.integers("app", count, &[], ReadLevel::Local).await;
        ensure!(rows.context("a local read")?[0][0] >= ROWS_BEFORE);
        std::fs::remove_file(ballast)?;
        cluster
            .primary()
            .await
            .context("after there is room again")?;
        cluster.check_same("app").await?;
        let rows = app.query("SELECT count(DISTINCT a) FROM t", ()).await?;
        ensure!(rows[0].get::<i64>(0)? == kept, "{rows:?} of {kept}");
        drop(cluster);
        Ok(())
    });
}

#[test]
fn a_follower_with_a_full_disk_holds_nobody_up_and_recovers() {
    full_disk("full-follower", false);
}

#[test]
fn a_primary_with_a_full_disk_makes_room_for_another_and_recovers() {
    full_disk("full-primary", true);
}

/// Waits until `halite status`, asked of this node alone, says so.
async fn says_in_status(cluster: &TestCluster, id: u64, words: &str) -> Result<()> {
    let addr = &cluster.local.node(id).addr;
    let shown = program::status_shows(addr, &[words], PATIENCE).await;
    shown.map(drop)
}

/// Reads from a node's own file, through the node and through `sqlite3`.
async fn reads_go_on(cluster: &TestCluster) -> Result<()> {
    for id in cluster.ids() {
        let rows = stock::read(&cluster.file(id, "app"), "SELECT count(*) FROM log")?;
        ensure!(rows != ["0"], "node {id} shows {rows:?}");
        let mut node = DirectNode::new(&cluster.local.node(id).addr, Duration::from_secs(2))?;
        wait::until("it answers a local read", PATIENCE, async || {
            let count = "SELECT count(*) FROM log";
            let rows = node.integers("app", count, &[], ReadLevel::Local);
            match rows.await {
                Ok(rows) if rows[0][0] > 0 => Ok(()),
                other => Err(format!("node {id}: {other:?}")),
            }
        })
        .await?;
    }
    Ok(())
}

#[test]
fn when_all_disks_are_full_nothing_is_acknowledged_that_a_power_cut_could_take() {
    run("full-all", Weight::Heavy, async |scratch| {
        let mut disks = Vec::new();
        for id in 1..=3 {
            let dir = scratch.join(&format!("node-{id}")).join("data");
            let Some(disk) = SmallDisk::mount(&dir)? else {
                return Ok(());
            };
            disks.push(disk);
        }
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(51)).await?;
        for kill in [false, true] {
            load.grown(50).await?;
            let ballast: Vec<PathBuf> = disks.iter().map(SmallDisk::fill).collect::<Result<_>>()?;
            // What still fits into the files there are may be acknowledged; something large does not fit.
            let app = cluster.ops().database("app");
            for n in 0..3 {
                let replace =
                    "REPLACE INTO big (writer, seq, value) VALUES (-4, ?1, randomblob(6000000))";
                let write = app.with_timeout(Duration::from_secs(2));
                let written = write.execute(replace, params![n]).await;
                ensure!(written.is_err(), "6 MB were acknowledged on full disks");
            }
            reads_go_on(&cluster).await?;
            if kill {
                for id in cluster.ids() {
                    cluster.local.kill_now(id)?;
                }
                for id in cluster.ids() {
                    cluster.kill(id)?;
                }
            }
            for file in ballast {
                std::fs::remove_file(file)?;
            }
            if kill {
                for id in cluster.ids() {
                    cluster.restart(id)?;
                }
            }
            load.verify(&cluster)
                .await
                .context("after there is room again")?;
        }
        load.stop().await;
        drop(cluster);
        Ok(())
    });
}
