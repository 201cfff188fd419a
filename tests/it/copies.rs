//! Processes that run on copies of a data directory, beside the original.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use halite::local_cluster::free_ports;
use halite_client::{Role, params};
use halite_tests::cluster::{PATIENCE, TestCluster};
use halite_tests::files::copy_dir;
use halite_tests::scratch::{Scratch, Weight, run};
use halite_tests::{program, wait};

/// A process on a copy of a node's data directory, at an address of its own. Killed when dropped.
struct Twin {
    addr: String,
    process: Child,
}

impl Twin {
    fn start(scratch: &Scratch, cluster: &TestCluster, id: u64, data: &Path) -> Result<Self> {
        let node = cluster.local.node(id);
        let addr = format!("127.0.0.1:{}", free_ports(1)?[0]);
        let config = std::fs::read_to_string(&node.config)?
            .replace(
                &node.data_dir.display().to_string(),
                &data.display().to_string(),
            )
            .replace(&node.addr, &addr);
        let path = scratch.join("copy.yml");
        std::fs::write(&path, config)?;
        let log = std::fs::File::create(scratch.join("copy.log"))?;
        let process = Command::new(program::halite())
            .arg("serve")
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { addr, process })
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        // It is gone, or was ours.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until the copy says that it is one.
async fn noticed(cluster: &TestCluster, copy: &Twin) -> Result<String> {
    let admin = cluster.ops().admin();
    wait::until("the copy says what it is", PATIENCE, async || {
        let status = admin.status_of(&copy.addr).await;
        match status.map(|status| status.node.unwrap_or_default()) {
            Ok(node) if node.role() == Role::Stopped => Ok(node.trouble),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[test]
fn a_copy_of_a_followers_data_directory_is_refused_by_name() {
    run("copy-follower", Weight::Light, async |scratch| {
        let mut cluster = TestCluster::start(scratch, |_| {}).await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        let id = cluster.follower().await?;
        cluster.kill(id)?;
        let data = scratch.join("copy");
        copy_dir(&cluster.local.node(id).data_dir, &data)?;
        cluster.restart(id)?;
        cluster.primary().await?;
        let copy = Twin::start(scratch, &cluster, id, &data)?;
        let why = noticed(&cluster, &copy).await?;
        ensure!(
            why.contains(&format!("a copy of the data directory of node {id}")),
            "{why}"
        );
        let noticed = "another process runs on a copy of this data directory";
        cluster.says(id, noticed).await?;
        // Asked through the copy, too, the cluster is what it is, and the copy stands beside it.
        for addrs in [
            copy.addr.clone(),
            format!("{},{}", copy.addr, cluster.local.addrs().join(",")),
        ] {
            wait::until("status shows both", PATIENCE, async || {
                let shown =
                    program::run(["status", "--addr", &addrs]).map_err(|e| e.to_string())?;
                let text = program::text(&shown);
                let all = ["3 of 3 voters answer", "takes writes", "TAKES NO PART"];
                match !shown.status.success() && all.iter().all(|words| text.contains(words)) {
                    true => Ok(()),
                    false => Err(text),
                }
            })
            .await?;
        }
        // The original goes on as if nothing were.
        for value in 0..20 {
            app.execute("INSERT INTO t VALUES (?1)", params![value])
                .await?;
        }
        cluster.primary().await?;
        cluster.check_same("app").await?;
        Ok(())
    });
}

#[test]
fn a_copy_of_a_single_node_writes_nothing_to_the_archive() {
    run("copy-single", Weight::Light, async |scratch| {
        let archive = scratch.join("archive");
        let mut cluster = TestCluster::start(scratch, |options| {
            options.nodes = 1;
            options.archive_url = Some(format!("file://{}", archive.display()));
        })
        .await?;
        let app = cluster.ops().database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        cluster.archived("app").await?;
        cluster.kill(1)?;
        let data = scratch.join("copy");
        copy_dir(&cluster.local.node(1).data_dir, &data)?;
        cluster.restart(1)?;
        cluster.primary().await?;
        let copy = Twin::start(scratch, &cluster, 1, &data)?;
        noticed(&cluster, &copy).await?;
        app.execute("INSERT INTO t VALUES (1)", ()).await?;
        cluster.archived("app").await.context("archive goes on")?;
        let target = scratch.join("restored.db");
        program::restore(&format!("file://{}/app", archive.display()), &target, &[])?;
        Ok(())
    });
}
