//! Disks that are slow or hang, shared by all nodes: nobody loses leadership for it who could keep it, and nobody keeps it who cannot use it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::params;
use halite_proto::v1;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::load::{Load, LoadOptions, after_healing};
use halite_tests::program;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::slow_disk::SlowDisk;
use halite_tests::wait;

const MIB: u64 = 1 << 20;
/// What is large here, unless `HALITE_LARGE_MIB` says otherwise.
const LARGE_MIB: u64 = 64;
/// Of all nodes together. What is written is written by each of them, into its log twice and into its database twice.
const BYTES_PER_S: u64 = 50 * MIB;
/// Far beyond what a large transaction takes, and what each MiB of it adds.
const LARGE_TIMEOUT: Duration = Duration::from_secs(240);
const MIB_TIMEOUT: Duration = Duration::from_secs(1);

fn large_mib() -> Result<u64> {
    match std::env::var("HALITE_LARGE_MIB") {
        Ok(mib) => mib.parse().context("HALITE_LARGE_MIB"),
        Err(_) => Ok(LARGE_MIB),
    }
}

/// The most memory that each node ever held.
fn show_memory(cluster: &TestCluster) -> Result<()> {
    for id in cluster.ids() {
        let pid = cluster.local.pid(id).context("the node runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
        eprintln!("node {id}: {}", peak.context("VmHWM")?);
    }
    Ok(())
}

async fn start(scratch: &Scratch) -> Result<(TestCluster, SlowDisk)> {
    let disk = SlowDisk::new(scratch.dir())?;
    let cluster = TestCluster::start(scratch, |options| {
        disk.configure(options, 3);
        options.databases.push(("other".to_owned(), 4096));
    })
    .await?;
    Ok((cluster, disk))
}

/// While `large` goes on, another database takes writes within their usual deadline, and nobody else is elected.
async fn beside(cluster: &TestCluster, large: impl Future<Output = Result<()>>) -> Result<()> {
    let primary = cluster.primary().await?;
    let term = cluster.node_status(primary).await?.term;
    let other = cluster.ops().database("other");
    other
        .execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)", ())
        .await?;
    let mut large = std::pin::pin!(large);
    let mut written = 0_u64;
    loop {
        let write = async {
            other
                .execute("INSERT INTO t VALUES (?1)", params![1])
                .await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            anyhow::Ok(())
        };
        tokio::select! {
            done = &mut large => break done.context("the large one")?,
            done = write => done.with_context(|| format!("write {written} of the other database"))?,
        }
        written += 1;
    }
    eprintln!("{written} writes of another database meanwhile");
    ensure!(written > 0, "the other database stood still");
    let leads = cluster.primary().await?;
    let now = cluster.node_status(leads).await?.term;
    ensure!(
        (leads, now) == (primary, term),
        "an election for nothing: {primary} led in term {term}, then {leads} in term {now}"
    );
    Ok(())
}

#[test]
fn a_large_transaction_on_a_slow_disk_unseats_nobody_and_others_write_on() {
    run("slow-disk-transaction", Weight::Heavy, async |scratch| {
        let (cluster, disk) = start(scratch).await?;
        let mib = large_mib()?;
        let timeout = LARGE_TIMEOUT + MIB_TIMEOUT * u32::try_from(mib)?;
        let app = cluster.ops().database("app").with_timeout(timeout);
        app.execute("CREATE TABLE big (value BLOB)", ()).await?;
        disk.set_bytes_per_s(BYTES_PER_S)?;
        let insert = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?1) INSERT INTO big SELECT randomblob(1048576) FROM n";
        let bound = i64::try_from(mib)?;
        beside(&cluster, async {
            app.execute(insert, params![bound]).await?;
            Ok(())
        })
        .await?;
        show_memory(&cluster)?;
        disk.set_bytes_per_s(0)?;
        cluster.check_same("app").await.map(drop)
    });
}

#[test]
fn a_large_import_on_a_slow_disk_unseats_nobody_and_others_write_on() {
    run("slow-disk-import", Weight::Heavy, async |scratch| {
        let (cluster, disk) = start(scratch).await?;
        let source = large_file(scratch.dir(), large_mib()?)?;
        disk.set_bytes_per_s(BYTES_PER_S)?;
        let admin = cluster.ops().admin();
        beside(&cluster, async {
            let file = tokio::fs::File::open(&source).await?;
            let bytes = file.metadata().await?.len();
            admin.import("large", bytes, false, file).await?;
            Ok(())
        })
        .await?;
        show_memory(&cluster)?;
        disk.set_bytes_per_s(0)?;
        cluster.check_same("large").await.map(drop)
    });
}

fn large_file(dir: &Path, mib: u64) -> Result<PathBuf> {
    let path = dir.join("large.db");
    let file = rusqlite::Connection::open(&path)?;
    file.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; CREATE TABLE big (value BLOB)",
    )?;
    for _ in 0..mib {
        file.execute("INSERT INTO big VALUES (randomblob(1048576))", [])?;
    }
    Ok(path)
}

/// The log of `node` hangs under load: the others go on, it says why, `meanwhile` holds, and it comes back by itself.
async fn hangs(
    cluster: &mut TestCluster,
    disk: &SlowDisk,
    load: &Load,
    node: u64,
    meanwhile: impl AsyncFnOnce(&TestCluster) -> Result<()>,
) -> Result<()> {
    disk.hang(node, "/log/")?;
    cluster.look_away_from(&[node]);
    let primary = cluster.primary().await.context("without the node")?;
    ensure!(primary != node);
    load.grown(100).await.context("without the node")?;
    wait::until("status says what hangs", PATIENCE, async || {
        let status = cluster.node_status(node).await.map_err(|e| e.to_string())?;
        match status
            .databases
            .iter()
            .find(|d| d.trouble.contains("hangs"))
        {
            Some(_) => Ok(()),
            None => Err(format!("{:?}", status.databases)),
        }
    })
    .await?;
    meanwhile(cluster).await?;
    disk.release(node)?;
    after_healing(cluster, load).await
}

/// A voter of three whose log hangs hears the primary and acknowledges nothing: without the third one nothing could be written.
async fn counts_as_silent(cluster: &TestCluster, primary: u64, hanging: u64) -> Result<()> {
    let third = (1..=3).find(|id| ![primary, hanging].contains(id));
    let admin = cluster.ops().admin();
    let removed = admin.remove_member(third.context("three")?).await;
    let refused = removed.err().context("nobody else is left")?;
    ensure!(refused.to_string().contains("only 1 answers"), "{refused}");
    let via = cluster.local.node(primary).addr.clone();
    let status = program::run(["--addr", &via, "status"])?;
    let said = program::text(&status);
    ensure!(
        said.contains("2 of 3 voters answer") && said.contains("ACKNOWLEDGES NOTHING"),
        "{said}"
    );
    ensure!(status.status.code() == Some(1), "{status:?}");
    Ok(())
}

#[test]
fn a_primary_whose_disk_hangs_makes_room_says_why_and_recovers() {
    run("hanging-primary", Weight::Heavy, async |scratch| {
        let (mut cluster, disk) = start(scratch).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(61)).await?;
        load.grown(50).await?;
        for _ in 0..2 {
            let primary = cluster.primary().await?;
            hangs(&mut cluster, &disk, &load, primary, async |_| Ok(())).await?;
        }
        load.stop().await;
        Ok(())
    });
}

#[test]
fn a_primary_whose_reads_of_a_database_hang_makes_room_says_why_and_recovers() {
    run("hanging-reads", Weight::Heavy, async |scratch| {
        let (mut cluster, disk) = start(scratch).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(63)).await?;
        load.grown(50).await?;
        let primary = cluster.primary().await?;
        disk.hang_reads(primary, ".db-wal")?;
        wait::until("status says what hangs", PATIENCE, async || {
            let status = cluster
                .node_status(primary)
                .await
                .map_err(|e| e.to_string())?;
            let says = |d: &v1::DatabaseStatus| d.trouble.contains("the disk does not answer");
            match status.databases.iter().any(says) {
                true => Ok(()),
                false => Err(format!("{:?}", status.databases)),
            }
        })
        .await?;
        cluster.look_away_from(&[primary]);
        ensure!(cluster.primary().await.context("without the node")? != primary);
        load.grown(100).await.context("without the node")?;
        disk.release(primary)?;
        after_healing(&mut cluster, &load).await?;
        load.stop().await;
        Ok(())
    });
}

#[test]
fn a_follower_whose_disk_hangs_holds_nobody_up_says_why_and_recovers() {
    run("hanging-follower", Weight::Heavy, async |scratch| {
        let (mut cluster, disk) = start(scratch).await?;
        let mut load = Load::start(&cluster, LoadOptions::new(62)).await?;
        load.grown(50).await?;
        let primary = cluster.primary().await?;
        let term = cluster.node_status(primary).await?.term;
        let follower = cluster.follower().await?;
        hangs(&mut cluster, &disk, &load, follower, async |cluster| {
            counts_as_silent(cluster, primary, follower).await
        })
        .await?;
        ensure!(
            cluster.node_status(primary).await?.term == term,
            "an election for nothing"
        );
        load.stop().await;
        Ok(())
    });
}
