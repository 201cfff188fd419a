//! Disks that lie: nodes that were put back to an old copy of their disk.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::{Client, ReadLevel, Role, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::files::copy_dir;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::{program, stock, wait};

use super::identity::{configure, joining};

/// Tries after which a call that nobody could serve has met every node.
const RETRIES: u64 = 20;

async fn insert(client: &Client, values: std::ops::Range<i64>) -> Result<()> {
    let app = client.database("app");
    app.execute("CREATE TABLE IF NOT EXISTS t (a)", ()).await?;
    for value in values {
        app.execute("INSERT INTO t VALUES (?1)", params![value])
            .await?;
    }
    Ok(())
}

/// Stops a node for a moment, and keeps a copy of its disk.
async fn copy_disk(scratch: &Scratch, cluster: &mut TestCluster, id: u64) -> Result<PathBuf> {
    cluster.kill(id)?;
    let copy = scratch.join("old-disk");
    copy_dir(&cluster.local.node(id).data_dir, &copy)?;
    cluster.restart(id)?;
    cluster.primary().await?;
    cluster.settle("app").await?;
    Ok(copy)
}

/// The node runs on from an old copy of its disk.
fn put_back(cluster: &mut TestCluster, id: u64, copy: &std::path::Path) -> Result<()> {
    cluster.kill(id)?;
    let data = cluster.local.node(id).data_dir.clone();
    std::fs::remove_dir_all(&data)?;
    copy_dir(copy, &data)
}

/// Waits until a node says that it takes no part; why.
async fn stopped(cluster: &TestCluster, id: u64) -> Result<String> {
    wait::until(
        "the node stops taking part",
        PATIENCE,
        async || match cluster.node_status(id).await {
            Ok(status) if status.role() == Role::Stopped => Ok(status.trouble),
            other => Err(format!("{other:?}")),
        },
    )
    .await
}

/// A follower that was put back to an old copy of its disk, and says why it takes no part.
async fn roll_back(scratch: &Scratch, cluster: &mut TestCluster) -> Result<(u64, String)> {
    insert(cluster.ops(), 0..10).await?;
    let id = cluster.follower().await?;
    let copy = copy_disk(scratch, cluster, id).await?;
    insert(cluster.ops(), 10..40).await?;
    cluster.settle("app").await?;
    put_back(cluster, id, &copy)?;
    cluster.restart(id)?;
    Ok((id, stopped(cluster, id).await?))
}

/// What `halite status` shows of all nodes.
fn shown(cluster: &TestCluster) -> Result<String> {
    let addrs = cluster.local.addrs().join(",");
    Ok(program::text(&program::run(["status", "--addr", &addrs])?))
}

/// As the message says: remove, set aside, add.
async fn mend(cluster: &mut TestCluster, id: u64) -> Result<()> {
    let admin = cluster.ops().admin();
    admin.remove_member(id).await?;
    cluster.kill(id)?;
    let data = cluster.local.node(id).data_dir.display().to_string();
    let output = program::run(["set-aside", &data])?;
    let said = program::text(&output);
    ensure!(
        output.status.success() && said.contains(".orphan-1"),
        "{said}"
    );
    configure(cluster, id, joining)?;
    cluster.restart(id)?;
    cluster.add(id).await?;
    cluster.promote(id).await?;
    cluster.primary().await?;
    cluster.check_same("app").await?;
    Ok(())
}

#[test]
fn a_node_put_back_to_an_old_disk_is_refused_by_name_until_it_is_added_again() {
    run("rolled-back", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let (id, why) = roll_back(scratch, &mut cluster).await?;
        ensure!(why.contains("Never roll a node back"), "{why}");
        ensure!(cluster.log_of(id)?.contains("stops taking part"));
        let seen = shown(&cluster)?;
        ensure!(
            seen.contains("TAKES NO PART") && seen.contains("2 of 3 voters answer"),
            "{seen}"
        );
        // It serves nothing, and knows so after a restart.
        let addr = cluster.local.node(id).addr.clone();
        let mut direct = halite_tests::direct::DirectNode::new(&addr, Duration::from_secs(2))?;
        let local = halite_proto::v1::ReadLevel::Local;
        let read = direct.integers("app", "SELECT a FROM t", &[], local).await;
        ensure!(read.is_err(), "{read:?}");
        cluster.kill(id)?;
        cluster.restart(id)?;
        stopped(&cluster, id).await?;
        insert(cluster.ops(), 40..50).await?;
        mend(&mut cluster, id).await
    });
}

#[test]
fn a_history_that_parted_stops_the_node_that_holds_more_and_nothing_is_thrown_away() {
    run("parted", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        insert(cluster.ops(), 0..10).await?;
        if cluster.primary().await? != 3 {
            cluster.lead(3).await?;
            cluster.primary().await?;
        }
        let copy = copy_disk(scratch, &mut cluster, 2).await?;
        // Nodes 2 and 3 acknowledge what node 1 never hears of.
        cluster.kill(1)?;
        insert(cluster.ops(), 10..30).await?;
        cluster.settle("app").await?;
        cluster.kill(3)?;
        put_back(&mut cluster, 2, &copy)?;
        cluster.restart(1)?;
        cluster.restart(2)?;
        cluster.primary().await?;
        // These two cannot know. What they go on to write takes the places of what is lost.
        insert(&cluster.client().await?, 100..105).await?;
        cluster.settle("app").await?;
        cluster.restart(3)?;
        let why = stopped(&cluster, 3).await?;
        ensure!(why.contains("have parted"), "{why}");
        ensure!(cluster.log_of(3)?.contains("have parted"));
        let seen = shown(&cluster)?;
        ensure!(
            seen.contains("TAKES NO PART") && seen.contains("takes writes"),
            "{seen}"
        );
        insert(&cluster.client().await?, 105..110).await?;
        // Neither is it forgotten when all start anew.
        for id in 1..=3 {
            cluster.kill(id)?;
        }
        for id in 1..=3 {
            cluster.restart(id)?;
        }
        stopped(&cluster, 3).await?;
        wait::until("a write is taken", PATIENCE, async || {
            insert(
                &cluster.client().await.map_err(|e| e.to_string())?,
                110..111,
            )
            .await
            .map_err(|e| e.to_string())
        })
        .await?;
        let file = cluster.file(3, "app");
        mend(&mut cluster, 3).await?;
        let orphan = file.with_file_name("app.db.orphan-1");
        let kept = stock::read(&orphan, "SELECT count(*) FROM t").context("the orphan")?;
        ensure!(kept == ["30"], "the orphan holds {kept:?} rows");
        Ok(())
    });
}

#[test]
fn a_node_that_takes_no_part_ends_no_call_while_a_primary_can_be_waited_for() {
    run("waited-for", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let (stopped_one, _) = roll_back(scratch, &mut cluster).await?;
        let addrs = cluster.local.addrs();
        let known_before = Client::connect(addrs.clone()).await?;
        let levels = [
            ReadLevel::Linearizable,
            ReadLevel::Session,
            ReadLevel::Local,
        ];
        // Two of three are left, and one of the two goes: nobody leads until it is back.
        for victim in (1..=3).filter(|id| *id != stopped_one) {
            cluster.kill(victim)?;
            let fresh = Client::connect(addrs.clone()).await?;
            let asked_before = known_before.stats().retries;
            let mut calls = Vec::new();
            for client in [&known_before, &fresh] {
                for level in levels {
                    let app = client.database("app").with_level(level);
                    calls.push(tokio::spawn(async move {
                        app.query("SELECT a FROM t", ()).await.map(drop)
                    }));
                }
                let app = client.database("app");
                calls.push(tokio::spawn(async move {
                    app.execute("INSERT INTO t VALUES (1)", ()).await.map(drop)
                }));
            }
            wait::until(
                "everybody was asked again and again",
                PATIENCE,
                async || {
                    let since = known_before.stats().retries - asked_before;
                    let retries = [since, fresh.stats().retries];
                    if retries.iter().all(|count| *count >= RETRIES) {
                        return Ok(());
                    }
                    let ended = calls.iter().filter(|call| call.is_finished()).count();
                    Err(format!("retries={retries:?}, {ended} calls have ended"))
                },
            )
            .await?;
            cluster.restart(victim)?;
            for (n, call) in calls.into_iter().enumerate() {
                call.await?
                    .with_context(|| format!("call {n}, node {victim} gone"))?;
            }
        }
        Ok(())
    });
}
