//! A database that did not take what was committed says so after a restart too, answers nothing beyond `local`, and leads nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halite_client::params;
use halite_proto::v1::ReadLevel;
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::direct::DirectNode;
use halite_tests::scratch::{Weight, run};
use halite_tests::wait;

/// Makes one file refuse writes, by whoever holds it open too; false where the file system or the user does not allow it.
fn set_immutable(file: &Path, immutable: bool) -> bool {
    let flag = if immutable { "+i" } else { "-i" };
    let changed = Command::new("chattr").arg(flag).arg(file).status();
    changed.is_ok_and(|status| status.success())
}

/// Lets the file go whatever happens, or the directory could not be removed.
struct Immutable(PathBuf);

impl Drop for Immutable {
    fn drop(&mut self) {
        set_immutable(&self.0, false);
    }
}

const ROW_BYTES: i64 = 950_000;

/// Writes to the other database until the node has purged its log twice.
async fn churn_until_purged(cluster: &TestCluster, node: u64) -> Result<()> {
    let other = cluster.client().await?.database("other");
    other
        .execute("CREATE TABLE t (slot INTEGER PRIMARY KEY, b)", ())
        .await?;
    for n in 0..1500 {
        other
            .execute(
                "REPLACE INTO t VALUES (?1, randomblob(?2))",
                params![n % 3, ROW_BYTES],
            )
            .await?;
        if n % 20 == 0 && cluster.log_of(node)?.matches("purging log").count() >= 2 {
            return Ok(());
        }
    }
    anyhow::bail!("node {node} never purged its log")
}

async fn rows(cluster: &TestCluster, node: u64, level: ReadLevel) -> Result<Vec<Vec<i64>>> {
    let addr = &cluster.local.node(node).addr;
    let mut direct = DirectNode::new(addr, Duration::from_secs(5))?;
    direct
        .integers("app", "SELECT id FROM t ORDER BY id", &[], level)
        .await
}

#[test]
fn a_database_whose_missing_entries_were_purged_is_not_well_after_a_restart() {
    run("unwell-restart", Weight::Heavy, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |options| {
            options.databases = vec![("app".to_owned(), 4096), ("other".to_owned(), 4096)];
            options.extra_config = "checkpoint:\n  wal-size: 1MiB\n".to_owned();
            options.log = "info,halite::cluster::purge=debug".to_owned();
        })
        .await?;
        let app = cluster.client().await?.database("app");
        app.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)", ())
            .await?;
        app.execute("INSERT INTO t VALUES (1)", ()).await?;
        cluster.settle("app").await?;
        let victim = cluster.follower().await?;
        let primary = cluster.primary().await?;
        let third = cluster
            .ids()
            .into_iter()
            .find(|id| ![victim, primary].contains(id));
        let third = third.context("a third node")?;
        wait::until("an idle checkpoint", PATIENCE, async || {
            let status = cluster.database_status(victim, "app").await;
            let wal_bytes = status.map_err(|e| e.to_string())?.wal_bytes;
            (wal_bytes == 0).then_some(()).ok_or(wal_bytes.to_string())
        })
        .await?;
        let wal = PathBuf::from(format!("{}-wal", cluster.file(victim, "app").display()));
        if !set_immutable(&wal, true) {
            eprintln!("not tested: files cannot be made immutable here");
            return Ok(());
        }
        let refusing = Immutable(wal);
        app.execute("INSERT INTO t VALUES (2)", ()).await?;
        wait::until("the database says why", PATIENCE, async || {
            let status = cluster.database_status(victim, "app").await;
            let trouble = status.map_err(|e| e.to_string())?.trouble;
            if trouble.is_empty() {
                Err(String::new())
            } else {
                Ok(())
            }
        })
        .await?;
        churn_until_purged(&cluster, third).await?;
        cluster.kill(victim)?;
        drop(refusing);
        cluster.restart(victim)?;
        // Whatever it answers beyond `local` has the row, and it is well when it has it.
        wait::until("the database is well", PATIENCE, async || {
            let read = rows(&cluster, victim, ReadLevel::Linearizable).await;
            let seen = read.map_err(|e| format!("{e:#}"))?;
            assert_eq!(
                seen,
                [[1], [2]],
                "a linearizable read lacks an acknowledged row"
            );
            Ok::<(), String>(())
        })
        .await?;
        let admin = cluster.ops().admin();
        wait::until("the node leads", PATIENCE, async || {
            admin.transfer_leadership(Some(victim)).await
        })
        .await?;
        cluster.primary().await?;
        app.execute("INSERT INTO t VALUES (3)", ()).await?;
        cluster.check_same("app").await?;
        for id in cluster.ids() {
            let seen = rows(&cluster, id, ReadLevel::Linearizable).await?;
            ensure!(seen == [[1], [2], [3]], "node {id}: {seen:?}");
        }
        Ok(())
    });
}

#[test]
fn an_idle_primary_whose_file_refuses_the_next_statement_makes_room() {
    run("refused-statement", Weight::Light, async |scratch| {
        let cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)", ())
            .await?;
        cluster.settle("app").await?;
        let primary = cluster.primary().await?;
        // With nothing in its WAL the next statement begins it anew, before anything is committed.
        wait::until("it is idle", PATIENCE, async || {
            let status = cluster.database_status(primary, "app").await;
            match status.map_err(|error| error.to_string())?.wal_bytes {
                0 => Ok(()),
                bytes => Err(format!("{bytes} bytes in the WAL")),
            }
        })
        .await?;
        let mut wal = cluster.file(primary, "app").into_os_string();
        wal.push("-wal");
        let wal = PathBuf::from(wal);
        if !set_immutable(&wal, true) {
            eprintln!("not tested: files cannot be made immutable here");
            return Ok(());
        }
        let _immutable = Immutable(wal);
        wait::until("another node takes writes", PATIENCE, async || {
            let wrote = app.execute("INSERT INTO t VALUES (1)", ()).await;
            wrote.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        wait::until("it has made room", PATIENCE, async || {
            let leads = cluster.primary().await.map_err(|error| error.to_string())?;
            (leads != primary)
                .then_some(())
                .ok_or_else(|| format!("node {leads} leads"))
        })
        .await
    });
}
