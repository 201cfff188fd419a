//! Files that were damaged, most of them while their node was down.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use halite_client::{Role, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::pages::Pages;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::{program, wait};

const ROWS: i64 = 300;

/// Small WALs are checkpointed soon, so that the file itself is what counts.
const SMALL_WAL: &str = "checkpoint:\n  wal-size: 64KiB\n";

async fn filled(scratch: &Scratch) -> Result<TestCluster> {
    filled_with(scratch, SMALL_WAL).await
}

async fn filled_with(scratch: &Scratch, config: &str) -> Result<TestCluster> {
    let cluster = TestCluster::start(scratch, |options| {
        options.extra_config = config.to_owned();
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
        // The last word is written a moment after the file is whole.
        wait::until("the node says so", PATIENCE, async || {
            let said = cluster.log_of(node).map_err(|e| e.to_string())?;
            if said.contains("needs repair") && said.contains("repaired")
                || said.contains("moved a file aside")
            {
                Ok(())
            } else {
                Err(format!("the damage was not noticed: {said}"))
            }
        })
        .await?;
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

#[test]
fn files_removed_under_a_running_node_are_told_and_come_back_with_it() {
    run("removed-files", Weight::Light, async |scratch| {
        let mut cluster = filled(scratch).await?;
        let node = cluster.follower().await?;
        let addr = cluster.local.node(node).addr.clone();
        for suffix in ["-wal", "-shm"] {
            let mut file = cluster.file(node, "app").into_os_string();
            file.push(suffix);
            std::fs::remove_file(PathBuf::from(file))?;
        }
        let told = "app.db-shm, app.db-wal was removed";
        wait::until("status says so", PATIENCE, async || {
            let status = cluster.database_status(node, "app").await;
            match status.map_err(|e| e.to_string())?.notice {
                notice if notice.starts_with(told) => Ok(()),
                notice => Err(notice),
            }
        })
        .await?;
        let shown = program::run(["status", "--addr", &addr])?;
        let text = program::text(&shown);
        ensure!(text.contains(told), "{text}");
        let log = cluster.log_of(node)?;
        ensure!(log.matches(told).count() == 1, "{log}");
        // Nobody lacks anything, and the next start has all files again.
        cluster.kill(node)?;
        cluster.restart(node)?;
        intact(&cluster).await?;
        let status = cluster.database_status(node, "app").await?;
        ensure!(status.notice.is_empty(), "{}", status.notice);
        Ok(())
    });
}

#[test]
fn pages_that_rot_on_a_follower_are_noticed_without_anybody_reading_them() {
    run("rotten-follower", Weight::Light, async |scratch| {
        let config = format!("{SMALL_WAL}scrub-interval: 2s\n");
        let cluster = filled_with(scratch, &config).await?;
        let node = cluster.follower().await?;
        let file = cluster.file(node, "app");
        let pages = std::fs::metadata(&file)?.len() / 4096;
        flip(&file, pages / 2 * 4096 + 1500)?;
        wait::until("it is repaired", PATIENCE, async || {
            let said = cluster.log_of(node).map_err(|e| e.to_string())?;
            let repaired = said.contains("needs repair") && said.contains("repaired");
            repaired.then_some(()).ok_or(said)
        })
        .await?;
        intact(&cluster).await
    });
}

/// Every row, without what [`damage_under_way`] appends.
async fn rows(cluster: &TestCluster, marked: &str) -> Result<Vec<(i64, String)>> {
    let app = cluster.ops().database("app");
    let rows = app.query("SELECT a, hex(b) FROM t ORDER BY a", ()).await?;
    let rows = rows.iter().map(|row| {
        let hex: String = row.get(1)?;
        let whole = hex.strip_suffix(marked).context("the mark")?;
        Ok((row.get(0)?, whole.to_owned()))
    });
    rows.collect()
}

/// A node whose file is damaged while it runs leads next, and is asked to change every row.
fn damage_under_way(name: &str, damage: impl FnOnce(&Path) -> Result<()>) {
    run(name, Weight::Light, async |scratch| {
        let cluster = filled(scratch).await?;
        let before = rows(&cluster, "").await?;
        let node = cluster.follower().await?;
        damage(&cluster.file(node, "app"))?;
        let admin = cluster.ops().admin();
        admin.transfer_leadership(Some(node)).await?;
        let app = cluster.ops().database("app");
        app.execute("UPDATE t SET b = b || x'77'", ()).await?;
        ensure!(rows(&cluster, "77").await? == before, "rows have changed");
        wait::until("it is repaired", PATIENCE, async || {
            let said = cluster.log_of(node).map_err(|e| e.to_string())?;
            let repaired = said.contains("needs repair") && said.contains("repaired");
            repaired.then_some(()).ok_or(said)
        })
        .await?;
        let notice = cluster.database_status(node, "app").await?.notice;
        ensure!(notice.is_empty(), "{notice}");
        intact(&cluster).await
    });
}

#[test]
fn bits_flipped_under_a_running_node_never_spread() {
    damage_under_way("flip-running", |file| {
        let pages = std::fs::metadata(file)?.len() / 4096;
        // In the middle of what is stored, where SQLite has nothing to check.
        (3..pages).try_for_each(|page| flip(file, page * 4096 + 1500))
    });
}

#[test]
fn a_file_cut_short_under_a_running_node_loses_nothing() {
    damage_under_way("cut-running", |file| {
        let bytes = std::fs::metadata(file)?.len() / 4096 / 2 * 4096;
        Ok(File::options().write(true).open(file)?.set_len(bytes)?)
    });
}

fn log_files(cluster: &TestCluster, node: u64, ending: &str) -> Result<Vec<PathBuf>> {
    let mut dirs = vec![log_dir(cluster, node)];
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for item in std::fs::read_dir(dir)? {
            let item = item?;
            if item.file_type()?.is_dir() {
                dirs.push(item.path());
            } else if item.path().extension().is_some_and(|e| e == ending)
                && item.metadata()?.len() > 0
            {
                found.push(item.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn log_dir(cluster: &TestCluster, node: u64) -> PathBuf {
    cluster.local.node(node).data_dir.join("log")
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
        let mut files = log_files(&cluster, node, "log")?;
        let file = files.pop().context("a write-ahead log")?;
        let log = log_dir(&cluster, node);
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

/// What a node with a damaged log may do.
enum Found {
    /// It ended, or does not serve, and says why.
    Refused,
    /// It is a sound member: the damage was where nothing counts, or was made good.
    Sound,
}

/// Starts a node whose log was damaged, and waits for what it makes of it. What it says is new from `said` on.
async fn start_damaged(cluster: &mut TestCluster, node: u64, said: usize) -> Result<Found> {
    cluster.restart(node)?;
    let found = wait::until("it refuses or is sound", PATIENCE, async || {
        if cluster
            .local
            .exited(node)
            .is_ok_and(|ended| ended.is_none())
        {
            let status = cluster.node_status(node).await;
            return match status {
                Ok(status) if status.role() != Role::Joining => Ok(Found::Sound),
                other => Err(format!("{other:?}")),
            };
        }
        Ok(Found::Refused)
    })
    .await?;
    if let Found::Refused = found {
        names_the_damage(cluster, node, said)?;
    }
    Ok(found)
}

fn names_the_damage(cluster: &TestCluster, node: u64, said: usize) -> Result<()> {
    let log = cluster.log_of(node)?;
    let said = &log[said..];
    let named = ["lost flushed writes", "is damaged", "orrupt", "mismatch"];
    ensure!(
        named.iter().any(|name| said.contains(name)),
        "the damage was not named: {said}"
    );
    Ok(())
}

/// Flips one byte of a follower's log after another, each in an otherwise whole log, and wants the node to refuse it or to be sound, as a
/// primary, too.
fn flipped_log(name: &str, ending: &'static str) {
    run(name, Weight::Heavy, async |scratch| {
        let mut cluster = filled(scratch).await?;
        let node = cluster.follower().await?;
        if ending == "sst" {
            // What was replayed at a start is in a table.
            cluster.local.terminate(node, PATIENCE)?;
            cluster.restart(node)?;
            intact(&cluster).await?;
        }
        cluster.kill(node)?;
        let log = log_dir(&cluster, node);
        let aside = scratch.join("aside");
        copy_dir(&log, &aside)?;
        let mut refused = 0;
        for eighth in [1, 4, 7] {
            let largest = log_files(&cluster, node, ending)?
                .into_iter()
                .max_by_key(|file| std::fs::metadata(file).map_or(0, |m| m.len()));
            let file = largest.context("a file of the log")?;
            flip(&file, std::fs::metadata(&file)?.len() * eighth / 8)?;
            let said = cluster.log_of(node)?.len();
            match start_damaged(&mut cluster, node, said).await? {
                Found::Refused => {
                    refused += 1;
                    intact(&cluster).await?;
                }
                Found::Sound => lead_and_feed(&mut cluster, node, said).await?,
            }
            cluster.kill(node)?;
            std::fs::remove_dir_all(&log)?;
            copy_dir(&aside, &log)?;
        }
        // Only a flip in what is not used any more may pass.
        ensure!(refused > 0, "three flips in a row were not noticed");
        cluster.restart(node)?;
        intact(&cluster).await
    });
}

/// A damaged node leads, and another one lacks what only its log has: it must get the right bytes, from whomever.
async fn lead_and_feed(cluster: &mut TestCluster, node: u64, said: usize) -> Result<()> {
    let admin = cluster.ops().admin();
    let moved = admin.transfer_leadership(Some(node)).await;
    if moved.is_ok() && cluster.primary().await.is_ok() {
        return intact(cluster).await;
    }
    // It stopped when it met the damage; the two others go on.
    names_the_damage(cluster, node, said)?;
    cluster.look_away_from(&[node]);
    let others = intact(cluster).await;
    cluster.look_away_from(&[]);
    others
}

#[test]
fn a_bit_flipped_in_the_write_ahead_log_of_the_log_is_found_and_never_spreads() {
    flipped_log("flip-wal", "log");
}

#[test]
fn a_bit_flipped_in_a_table_of_the_log_is_found_and_never_spreads() {
    flipped_log("flip-sst", "sst");
}

#[test]
fn a_primary_with_a_damaged_log_feeds_nobody_wrong_entries() {
    run("flip-feed", Weight::Heavy, async |scratch| {
        let mut cluster = filled(scratch).await?;
        cluster.ops().admin().transfer_leadership(Some(1)).await?;
        ensure!(cluster.primary().await? == 1);
        // Node 3 lacks what follows; nodes 1 and 2 have it, node 1 damaged in the middle.
        cluster.kill(3)?;
        let app = cluster.ops().database("app");
        let update = "UPDATE t SET b = randomblob(3000) WHERE a = ?1";
        for row in 0..ROWS {
            app.execute(update, params![row]).await?;
        }
        cluster.local.terminate(1, PATIENCE)?;
        cluster.restart(1)?;
        cluster.primary().await?;
        cluster.local.terminate(1, PATIENCE)?;
        let files = log_files(&cluster, 1, "sst")?;
        let largest = files
            .into_iter()
            .max_by_key(|file| std::fs::metadata(file).map_or(0, |m| m.len()));
        let file = largest.context("a table of the log")?;
        let bytes = std::fs::metadata(&file)?.len();
        for part in 40..60 {
            flip(&file, bytes * part / 100)?;
        }
        let said = cluster.log_of(1)?.len();
        // The damaged node starts first: with node 3 it is a quorum, and has the longer log.
        cluster.kill(2)?;
        cluster.restart(1)?;
        cluster.restart(3)?;
        wait::until("the damage is met", PATIENCE, async || {
            let met = names_the_damage(&cluster, 1, said);
            met.map_err(|e| e.to_string())
        })
        .await?;
        cluster.restart(2)?;
        cluster.look_away_from(&[1]);
        intact(&cluster).await?;
        let [second, third] = [2, 3].map(|id| Pages::read(&cluster.file(id, "app")));
        second?.check_same(&third?)
    });
}
