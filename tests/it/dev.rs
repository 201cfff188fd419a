//! `halite dev`: a cluster to play with.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use halite::local_cluster::free_ports;
use halite_client::{Client, ReadLevel};
use halite_tests::cluster::PATIENCE;
use halite_tests::scratch::{Weight, run};
use halite_tests::{program, stock, wait};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// One `halite dev`; its nodes are asked to stop with it.
struct Dev {
    child: Child,
    told: Value,
}

impl Dev {
    async fn start(dir: &Path, args: &[&str]) -> Result<Self> {
        let out = dir.with_extension("json");
        let mut child = Command::new(program::halite())
            .args(["--json", "dev", "--dir"])
            .arg(dir)
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .spawn()?;
        let told = wait::until("the cluster is up", PATIENCE, async || {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("it ended: {status}"));
            }
            let text = std::fs::read_to_string(&out).map_err(|e| e.to_string())?;
            serde_json::from_str(&text).map_err(|e| e.to_string())
        })
        .await?;
        Ok(Self { child, told })
    }

    fn nodes(&self) -> Result<&Vec<Value>> {
        self.told["nodes"].as_array().context("nodes")
    }

    fn addrs(&self) -> Result<Vec<&str>> {
        let addr = |node: &'_ Value| node["addr"].as_str().map(str::len).map(|_| ());
        ensure!(self.nodes()?.iter().all(|node| addr(node).is_some()));
        Ok(self
            .nodes()?
            .iter()
            .filter_map(|node| node["addr"].as_str())
            .collect())
    }

    /// Ctrl-C; in order, and nothing is left of it.
    async fn stop(mut self) -> Result<()> {
        signal(&self.child)?;
        let status = wait::until("it stops", PATIENCE, async || {
            let status = self.child.try_wait().map_err(|e| e.to_string())?;
            status.ok_or("it runs".to_owned())
        })
        .await?;
        ensure!(status.success(), "{status}");
        for node in self.nodes()? {
            let pid = node["pid"].as_i64().context("pid")?;
            let pid = Pid::from_raw(i32::try_from(pid)?).context("pid")?;
            ensure!(test_kill_process(pid).is_err(), "{node} still runs");
            let log = std::fs::read_to_string(node["log"].as_str().context("log")?)?;
            ensure!(log.contains("stopping"), "not in order: {log}");
            ensure!(!log.contains("ended before the clean stop"), "{log}");
        }
        Ok(())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = signal(&self.child);
            let _ = self.child.wait();
        }
    }
}

fn signal(child: &Child) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("pid")?;
    Ok(kill_process(pid, Signal::INT)?)
}

/// A port that is free, with those after it.
pub(super) fn base_port(count: u16) -> Result<String> {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let port = free_ports(1)?[0];
        if (port..port + count).all(is_free) {
            return Ok(port.to_string());
        }
    }
}

#[test]
fn a_cluster_to_play_with_keeps_its_data_and_stops_in_order() {
    run("dev", Weight::Light, async |scratch| {
        let (dir, port) = (scratch.join("play"), base_port(3)?);
        let dev = Dev::start(&dir, &["--base-port", &port]).await?;
        ensure!(dev.nodes()?.len() == 3);
        ensure!(dev.addrs()?[0] == format!("127.0.0.1:{port}"));
        let client = Client::connect(dev.addrs()?).await?;
        let app = client.database("app");
        app.execute("CREATE TABLE t (a)", ()).await?;
        app.execute("INSERT INTO t VALUES ('played')", ()).await?;
        for node in dev.nodes()? {
            let file = Path::new(node["database"].as_str().context("database")?);
            wait::until("each node has it", PATIENCE, async || {
                let rows = stock::read(file, "SELECT a FROM t").map_err(|e| e.to_string())?;
                (rows == ["played"])
                    .then_some(())
                    .ok_or(format!("{rows:?}"))
            })
            .await?;
        }
        // One that is killed comes back by itself.
        let last = dev.nodes()?.last().context("a node")?;
        let pid = Pid::from_raw(i32::try_from(last["pid"].as_i64().context("pid")?)?);
        kill_process(pid.context("pid")?, Signal::KILL)?;
        app.execute("INSERT INTO t VALUES ('meanwhile')", ())
            .await?;
        let addr = last["addr"].as_str().context("addr")?;
        wait::until("it is back", PATIENCE, async || {
            let client = Client::connect([addr]).await.map_err(|e| e.to_string())?;
            let local = client.database("app").with_level(ReadLevel::Local);
            let rows = local.query("SELECT count(*) FROM t", ()).await;
            let rows = rows.map_err(|e| e.to_string())?;
            let count: i64 = rows[0].get(0).map_err(|e| e.to_string())?;
            (count == 2).then_some(()).ok_or(format!("{count} rows"))
        })
        .await?;
        dev.stop().await?;

        let dir_text = dir.display().to_string();
        let other = program::run(["dev", "--dir", &dir_text, "--nodes", "5"])?;
        let said = program::text(&other);
        ensure!(
            !other.status.success() && said.contains("has 3 nodes"),
            "{said}"
        );
        let dev = Dev::start(&dir, &[]).await?;
        let client = Client::connect(dev.addrs()?).await?;
        let rows = client.database("app").query("SELECT a FROM t", ()).await?;
        ensure!(rows[0].get::<String>(0)? == "played");
        dev.stop().await
    });
}

#[test]
fn a_stopped_node_comes_back_and_all_end_with_the_program_that_started_them() {
    run("dev-ends", Weight::Light, async |scratch| {
        let (dir, port) = (scratch.join("play"), base_port(2)?);
        let mut dev = Dev::start(&dir, &["--nodes", "2", "--base-port", &port]).await?;
        let addrs: Vec<String> = dev.addrs()?.into_iter().map(str::to_owned).collect();
        let answers = |addr: &str| TcpStream::connect(addr).is_ok();
        let pid = i32::try_from(dev.nodes()?[1]["pid"].as_i64().context("pid")?)?;
        kill_process(Pid::from_raw(pid).context("pid")?, Signal::TERM)?;
        wait::until("it stops", PATIENCE, async || match answers(&addrs[1]) {
            true => Err("it answers"),
            false => Ok(()),
        })
        .await?;
        wait::until("it is back", PATIENCE, async || match answers(&addrs[1]) {
            true => Ok(()),
            false => Err("it is silent"),
        })
        .await?;
        // Nobody is told to stop the nodes.
        dev.child.kill()?;
        dev.child.wait()?;
        wait::until("all have ended", PATIENCE, async || {
            match addrs.iter().any(|addr| answers(addr)) {
                true => Err("one answers"),
                false => Ok(()),
            }
        })
        .await?;
        Dev::start(&dir, &[]).await?.stop().await
    });
}

#[test]
fn a_taken_port_ends_it_with_the_reason() {
    run("dev-port", Weight::Light, async |scratch| {
        let (dir, port) = (scratch.join("play"), base_port(2)?);
        let _taken = TcpListener::bind(format!("127.0.0.1:{port}"))?;
        let text = dir.display().to_string();
        let ended = program::run(["dev", "--dir", &text, "--nodes", "2", "--base-port", &port])?;
        let said = program::text(&ended);
        ensure!(
            !ended.status.success() && said.contains("cannot listen"),
            "{said}"
        );
        ensure!(!dir.join("node-1").exists(), "it would keep these ports");
        Ok(())
    });
}
