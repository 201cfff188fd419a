//! `halite dev`: a cluster on this machine to play with, in a folder that keeps its data.
//!
//! Runs `halite serve` processes through [`crate::local_cluster`] until Ctrl-C, then stops them one after the other. Started again in the same
//! folder it goes on with what is there: the nodes know each other by their addresses, so these stay what they were.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use halite_client::Client;
use rustix::process::{Signal, kill_process};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::error::{CliError, Outcome};
use super::output::{print, print_json, remark};
use super::own_program::own_program;
use super::{GlobalArgs, unless_interrupted};
use crate::config::{Config, Sources};
use crate::local_cluster::{LocalCluster, LocalClusterOptions, LocalNode, LocalPlace};

/// Run a cluster of several nodes on this machine, to play with.
///
/// Ctrl-C stops it; the same command goes on with the same data. A node that is killed or stopped is started again after ten seconds. Each node keeps configuration, log and data in its own folder.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Folder of the cluster; it is made if need be
    #[arg(long, value_name = "DIR", default_value = "halite-dev")]
    dir: PathBuf,
    /// How many nodes [default: 3, or as many as there are in the folder]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Port of the first node; the others have the ports after it [default: 7420, or what it was]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_000))]
    base_port: Option<u16>,
}

/// The database that is there from the start.
const DATABASE: &str = "app";
const NODES_DEFAULT: u64 = 3;
const BASE_PORT_DEFAULT: u16 = 7420;
/// How long the nodes may take to have a primary, and each of them to stop.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A node that was killed stays away this long: long enough to see another one take over.
const AWAY: Duration = Duration::from_secs(10);
/// How much of a log is shown when its node has ended.
const LAST_LINES: usize = 5;

/// What a cluster keeps to for life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    nodes: u64,
    base_port: u16,
}

pub(crate) async fn run(args: DevArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let cannot = |what: &str, error: &std::io::Error| CliError::io(what, error);
    // Other terminals have other folders: paths are shown as they are from everywhere.
    let dir = std::fs::create_dir_all(&args.dir)
        .and_then(|()| args.dir.canonicalize())
        .map_err(|error| cannot(&format!("cannot use {}", args.dir.display()), &error))?;
    let layout = layout(&args, found(&dir)?)?;
    ports_are_free(layout)?;
    let mut cluster = LocalCluster::start(options(&dir, layout)?)
        .map_err(|error| cannot("cannot start the nodes", &error))?;
    let running = unless_interrupted(async {
        wait_until_ready(&mut cluster).await?;
        welcome(&args, layout, &cluster, global)?;
        let mut killed = BTreeMap::new();
        loop {
            look_after(&mut cluster, &mut killed)?;
            sleep(LOOK_EVERY).await;
        }
    });
    // Ctrl-C is how it is meant to end.
    let ended: Result<(), CliError> = running.await?.unwrap_or(Ok(()));
    if !global.json {
        remark("stopping the nodes; Ctrl-C again kills them");
    }
    let stopped = unless_interrupted(stop(&mut cluster)).await?;
    stopped.unwrap_or_else(|signal| Err(CliError::Interrupted { signal, told: None }))?;
    ended.map(|()| Outcome::Good)
}

/// What is in the folder from an earlier run.
fn found(dir: &Path) -> Result<Option<Layout>, CliError> {
    let file = dir.join("node-1").join("halite.yml");
    if !file.is_file() {
        return Ok(None);
    }
    let loaded = Config::load(&Sources {
        file: Some(file.clone()),
        env: BTreeMap::new(),
        flags: BTreeMap::new(),
        expand_env: false,
    })?;
    let port = loaded.config.listen.rsplit(':').next().unwrap_or_default();
    let base_port = port
        .parse()
        .map_err(|_| CliError::new(format!("{} names no port to listen on", file.display())))?;
    Ok(Some(Layout {
        nodes: loaded.config.cluster.initial_members.len() as u64,
        base_port,
    }))
}

/// What is there stays as it is: members are known by their addresses, and one more would have to be added.
fn layout(args: &DevArgs, found: Option<Layout>) -> Result<Layout, CliError> {
    let wanted = Layout {
        nodes: args
            .nodes
            .unwrap_or(found.map_or(NODES_DEFAULT, |found| found.nodes)),
        base_port: args
            .base_port
            .unwrap_or(found.map_or(BASE_PORT_DEFAULT, |found| found.base_port)),
    };
    match found {
        Some(found) if found != wanted => Err(CliError::new(format!(
            "the cluster in {} has {} nodes from port {} on, and keeps them",
            args.dir.display(),
            found.nodes,
            found.base_port
        ))
        .help("leave --nodes and --base-port out, or choose another --dir")),
        _ => Ok(wanted),
    }
}

fn options(dir: &Path, layout: Layout) -> Result<LocalClusterOptions, CliError> {
    let program = own_program()?;
    let mut options = LocalClusterOptions::new(program, dir);
    options.nodes = layout.nodes;
    options.databases = vec![(DATABASE.to_owned(), 4096)];
    // Ctrl-C in a terminal goes to all of a group, and these are stopped in order.
    options.own_groups = true;
    // As a node logs that is started by hand.
    options.log = std::env::var("RUST_LOG").unwrap_or_default();
    let ports = (1..=layout.nodes).zip(layout.base_port..);
    options.places = ports
        .map(|(id, port)| {
            let listen = Some(format!("127.0.0.1:{port}"));
            let place = LocalPlace {
                listen,
                ..LocalPlace::default()
            };
            (id, place)
        })
        .collect();
    Ok(options)
}

/// Until there is a primary, and the database that everybody may begin with.
async fn wait_until_ready(cluster: &mut LocalCluster) -> Result<(), CliError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        look_after(cluster, &mut BTreeMap::new())?;
        match is_ready(cluster.addrs()).await {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() > deadline => {
                return Err(CliError::new(format!(
                    "database {DATABASE} does not appear"
                )));
            }
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Ok(false) | Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

async fn is_ready(addrs: Vec<String>) -> Result<bool, halite_client::Error> {
    let client = Client::connect(addrs).await?;
    let databases = client.admin().list_databases().await?;
    Ok(databases.iter().any(|database| database.name == DATABASE))
}

fn welcome(
    args: &DevArgs,
    layout: Layout,
    cluster: &LocalCluster,
    global: &GlobalArgs,
) -> Result<(), CliError> {
    let file = |id| cluster.database_path(id, DATABASE);
    if global.json {
        let nodes = cluster.nodes().iter().map(|node| {
            json!({
                "id": node.id,
                "addr": node.addr,
                "pid": cluster.pid(node.id).map(|pid| pid.as_raw_nonzero().get()),
                "database": file(node.id),
                "log": node.log,
            })
        });
        return print_json(&json!({ "dir": args.dir, "nodes": nodes.collect::<Vec<_>>() }));
    }
    let mut text = format!("{} nodes run in {}:\n", layout.nodes, args.dir.display());
    for node in cluster.nodes() {
        let (id, addr, file) = (node.id, &node.addr, file(node.id));
        text.push_str(&format!("  node {id}  {addr}  {}\n", file.display()));
    }
    let addr = match layout.base_port {
        BASE_PORT_DEFAULT => String::new(),
        port => format!(" --addr 127.0.0.1:{port}"),
    };
    let last = file(layout.nodes);
    text.push_str(&format!(
        "\nTry, in another terminal:\n  \
         halite sql{addr} --db {DATABASE} \"CREATE TABLE t(v); INSERT INTO t VALUES('hello')\"\n  \
         sqlite3 {} \"SELECT * FROM t\"\n  \
         halite status{addr}\n\n\
         Ctrl-C stops the nodes; the same command goes on with the same data.\n",
        last.display()
    ));
    print(&text)
}

/// Before anything is written: the addresses of a cluster stay what they are.
fn ports_are_free(layout: Layout) -> Result<(), CliError> {
    for port in (layout.base_port..).take(layout.nodes as usize) {
        if let Err(error) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            let what = format!("cannot listen on 127.0.0.1:{port}");
            let cannot = CliError::io(what, &error);
            return Err(
                cannot.help("stop what runs there, or choose another --dir and --base-port")
            );
        }
    }
    Ok(())
}

/// A node that somebody killed is started again a moment later, `killed` says when; one that ended by itself is the end of all.
fn look_after(
    cluster: &mut LocalCluster,
    killed: &mut BTreeMap<u64, Instant>,
) -> Result<(), CliError> {
    let ids: Vec<u64> = cluster.nodes().iter().map(|node| node.id).collect();
    for id in ids {
        let failed = |what, error| CliError::io(format!("cannot {what} node {id}"), &error);
        if killed.get(&id).is_some_and(|at| Instant::now() >= *at) {
            killed.remove(&id);
            cluster.start_node(id).map_err(|e| failed("start", e))?;
            remark(&format!("node {id} is started again"));
        }
        if !cluster.is_running(id) {
            continue;
        }
        let Some(ended) = cluster.exited(id).map_err(|e| failed("look after", e))? else {
            continue;
        };
        let how = match ended.signal() {
            Some(signal) => format!("killed by signal {signal}"),
            // It was asked to.
            None if ended.success() => "stopped".to_owned(),
            None => return Err(ended_by_itself(cluster.node(id), ended)),
        };
        remark(&format!(
            "node {id} was {how}: the others go on, and it is started again in {} s",
            AWAY.as_secs()
        ));
        killed.insert(id, Instant::now() + AWAY);
    }
    Ok(())
}

fn ended_by_itself(node: &LocalNode, status: ExitStatus) -> CliError {
    let text = std::fs::read_to_string(&node.log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    CliError::new(format!(
        "node {} ended ({status}); the end of {}:\n{last}",
        node.id,
        node.log.display()
    ))
}

/// Stops the nodes one after the other: each hands over what it leads.
async fn stop(cluster: &mut LocalCluster) -> Result<(), CliError> {
    let ids: Vec<u64> = cluster.nodes().iter().map(|node| node.id).collect();
    for id in ids {
        let Some(pid) = cluster.pid(id) else {
            continue;
        };
        let failed = |error| CliError::io(format!("cannot stop node {id}"), &error);
        kill_process(pid, Signal::TERM).map_err(|error| failed(error.into()))?;
        let deadline = Instant::now() + PATIENCE;
        while cluster.exited(id).map_err(failed)?.is_none() {
            if Instant::now() > deadline {
                return Err(CliError::new(format!(
                    "node {id} did not stop within {} s and is killed",
                    PATIENCE.as_secs()
                )));
            }
            sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_keeps_its_nodes_and_ports() {
        let args = |nodes, base_port| DevArgs {
            dir: "d".into(),
            nodes,
            base_port,
        };
        let of = |nodes, base_port| Layout { nodes, base_port };
        let wanted = |args: &DevArgs, found| layout(args, found).ok();
        assert_eq!(wanted(&args(None, None), None), Some(of(3, 7420)));
        assert_eq!(wanted(&args(Some(1), Some(80)), None), Some(of(1, 80)));
        let there = Some(of(5, 9000));
        assert_eq!(wanted(&args(None, None), there), there);
        assert_eq!(wanted(&args(Some(5), Some(9000)), there), there);
        assert_eq!(wanted(&args(Some(3), None), there), None);
        assert_eq!(wanted(&args(None, Some(7420)), there), None);
    }
}
