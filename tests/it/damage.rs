//! Files that were damaged while their node was down.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use halite_client::params;
use halite_tests::cluster::TestCluster;
use halite_tests::scratch::{Scratch, Weight, run};

const ROWS: i64 = 300;

async fn filled(scratch: &Scratch) -> Result<TestCluster> {
    let cluster = TestCluster::start(scratch, |options| {
        // Small WALs are checkpointed soon, so that the file itself is what counts.
        options.extra_config = "checkpoint:\n  wal-size: 64KiB\n".to_owned();
    })
    .await?;
    let app = cluster.ops().database("app");
    app.execute("CREATE TABLE t (a INTEGER, b BLOB)", ())
        .await?;
    for row in 0..ROWS {
        app.execute("INSERT INTO t VALUES (?1, randomblob(3000))", params![row])
            .await?;
    }
    cluster.settle("app").await?;
    Ok(cluster)
}

async fn intact(cluster: &TestCluster) -> Result<()> {
    cluster.primary().await?;
    cluster.check_same("app").await?;
    let app = cluster.ops().database("app");
    let rows = app
        .query("SELECT count(*), count(DISTINCT a) FROM t", ())
        .await?;
    ensure!(rows[0].get::<i64>(0)? == ROWS && rows[0].get::<i64>(1)? == ROWS);
    Ok(())
}

fn flip(path: &Path, offset: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[byte[0] ^ 0x10], offset)?;
    Ok(())
}

/// Damages the file of a node that is down, starts it, and wants the damage found and repaired.
fn repaired(name: &str, of_primary: bool, damage: impl FnOnce(&Path) -> Result<()>) {
    run(name, Weight::Light, async |scratch| {
        let mut cluster = filled(scratch).await?;
        let primary = cluster.primary().await?;
        let node = if of_primary {
            primary
        } else {
            cluster.follower().await?
        };
        cluster.kill(node)?;
        damage(&cluster.file(node, "app"))?;
        cluster.restart(node)?;
        intact(&cluster).await?;
        let said = cluster.log_of(node)?;
        ensure!(
            said.contains("needs repair") && said.contains("repaired")
                || said.contains("moved a file aside"),
            "the damage was not noticed: {said}"
        );
        // Sound enough to lead: the node takes over and everybody agrees with it.
        cluster
            .ops()
            .admin()
            .transfer_leadership(Some(node))
            .await
            .context("transfer to the repaired node")?;
        intact(&cluster).await
    });
}

#[test]
fn a_bit_flipped_in_a_follower_is_found_at_start_and_repaired() {
    repaired("flip-follower", false, |file| {
        let middle = std::fs::metadata(file)?.len() / 2;
        flip(file, middle + 77)
    });
}

#[test]
fn a_bit_flipped_in_the_file_of_a_primary_never_spreads() {
    repaired("flip-primary", true, |file| flip(file, 3 * 4096 + 500));
}

#[test]
fn a_truncated_database_file_is_repaired() {
    repaired("truncated", false, |file| {
        let bytes = std::fs::metadata(file)?.len();
        Ok(File::options().write(true).open(file)?.set_len(bytes / 3)?)
    });
}

#[test]
fn a_deleted_database_file_is_repaired() {
    repaired("deleted", false, |file| Ok(std::fs::remove_file(file)?));
}

#[test]
fn a_database_file_overwritten_with_noise_is_repaired() {
    repaired("noise", true, |file| {
        let bytes = usize::try_from(std::fs::metadata(file)?.len())?;
        let noise: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
        Ok(std::fs::write(file, noise)?)
    });
}

#[test]
fn what_a_stock_program_wrote_while_the_node_was_down_is_undone() {
    repaired("stock-writes", false, |file| {
        let refused = halite_tests::stock::try_write(
            file,
            "DELETE FROM t WHERE a % 2 = 0; CREATE TABLE intruder (a)",
        )?;
        ensure!(refused.is_none(), "nobody holds the fence: {refused:?}");
        Ok(())
    });
}

#[test]
fn a_deleted_wal_loses_nothing() {
    run("wal", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch).await?;
        for node in cluster.ids() {
            cluster.kill(node)?;
        }
        for node in cluster.ids() {
            for suffix in ["-wal", "-shm"] {
                let mut file = cluster.file(node, "app").into_os_string();
                file.push(suffix);
                let _ = std::fs::remove_file(PathBuf::from(file));
            }
            cluster.restart(node)?;
        }
        intact(&cluster).await
    });
}

/// The write-ahead logs of the node's log store that hold anything.
fn log_files(cluster: &TestCluster, node: u64) -> Result<Vec<PathBuf>> {
    let mut dirs = vec![cluster.local.node(node).data_dir.join("log")];
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for item in std::fs::read_dir(dir)? {
            let item = item?;
            if item.file_type()?.is_dir() {
                dirs.push(item.path());
            } else if item.path().extension().is_some_and(|e| e == "log")
                && item.metadata()?.len() > 0
            {
                found.push(item.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for item in std::fs::read_dir(from)? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.file_type()?.is_dir() {
            copy_dir(&item.path(), &target)?;
        } else {
            std::fs::copy(item.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn a_truncated_log_keeps_its_node_from_starting_and_the_cluster_goes_on() {
    run("truncated-log", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch).await?;
        let node = cluster.follower().await?;
        cluster.kill(node)?;
        let mut files = log_files(&cluster, node)?;
        let file = files.pop().context("a write-ahead log")?;
        let log = cluster.local.node(node).data_dir.join("log");
        let aside = scratch.join("aside");
        copy_dir(&log, &aside)?;
        let bytes = std::fs::metadata(&file)?.len();
        File::options()
            .write(true)
            .open(&file)?
            .set_len(bytes / 2)?;
        cluster.restart(node)?;
        ensure!(
            cluster.ended(node).await? != 0,
            "it left as if all were well"
        );
        let said = cluster.log_of(node)?;
        ensure!(
            said.contains("lost flushed writes") || said.contains("is damaged"),
            "{said}"
        );
        intact(&cluster).await?;
        // With its log back the node is whole again.
        std::fs::remove_dir_all(&log)?;
        std::fs::rename(&aside, &log)?;
        cluster.restart(node)?;
        intact(&cluster).await
    });
}
