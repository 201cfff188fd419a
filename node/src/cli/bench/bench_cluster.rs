//! The cluster under test: real `serve` processes of this very program in a temporary directory.
//!
//! Removed with its data when dropped; kept, with a word on where, when something goes wrong.

use std::io;
use std::path::Path;
use std::time::Duration;

use halite_client::{Client, Database, NodeStatus};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::super::error::CliError;
use super::baseline::CREATE_TABLE;
use crate::cli::one_node::OneNode;
use crate::cli::own_program::own_program;
use crate::local_cluster::{LocalCluster, LocalClusterOptions};

/// Name of the database that is loaded.
const DATABASE: &str = "app";
const START_DEADLINE: Duration = Duration::from_secs(30);
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(60);
/// Between questions to nodes that are not ready yet.
const ASK_PACE: Duration = Duration::from_millis(50);
/// Lines of each node's log that are shown when something goes wrong.
const LOG_TAIL_LINES: usize = 12;
/// `TMPFS_MAGIC` and `RAMFS_MAGIC` (statfs(2)).
const MEMORY_FILE_SYSTEMS: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// See the module. The fields are dropped in order: the clients, the processes, the directory.
#[derive(Debug)]
pub(super) struct BenchCluster {
    client: Client,
    nodes: LocalCluster,
    home: TempDir,
}

/// Makes the directory of this run in `parent`.
pub(super) fn temporary_dir(parent: &Path) -> Result<TempDir, CliError> {
    let made = parent.canonicalize().and_then(|parent| {
        tempfile::Builder::new()
            .prefix("halite-bench-")
            .tempdir_in(parent)
    });
    made.map_err(|error| {
        CliError::io(
            format!("cannot make a directory in {}", parent.display()),
            &error,
        )
        .help("--dir DIR names another place")
    })
}

/// The directory is not on a disk at all.
pub(super) fn is_in_memory(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|fs| {
        // The type is a 32-bit number, sign-extended on some machines.
        let kind = fs.f_type as u32;
        MEMORY_FILE_SYSTEMS.contains(&kind)
    })
}

impl BenchCluster {
    /// Starts `count` nodes and waits until all of them serve an empty table.
    pub(super) async fn start(home: TempDir, count: u64) -> Result<Self, CliError> {
        Self::start_with(home, count, |_| {}).await
    }

    /// The same with other options.
    pub(super) async fn start_with(
        mut home: TempDir,
        count: u64,
        configure: impl FnOnce(&mut LocalClusterOptions),
    ) -> Result<Self, CliError> {
        let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        if let Some(name) = overriding(names) {
            return Err(
                CliError::new(format!("{name} is set: it would reach the cluster's nodes"))
                    .help(format!("run it with `env -u {name}`: the environment wins over the files of the nodes, and could lead them to other data")),
            );
        }
        let mut options = LocalClusterOptions::new(own_program()?, home.path());
        options.nodes = count;
        options.databases = vec![(DATABASE.to_owned(), 4096)];
        configure(&mut options);
        let nodes = LocalCluster::start(options);
        let mut nodes = nodes.map_err(|error| CliError::io("cannot start the nodes", &error))?;
        let came_up = timeout(START_DEADLINE, connect(&mut nodes)).await;
        let why = match came_up {
            Ok(Ok(client)) => {
                let cluster = Self {
                    client,
                    nodes,
                    home,
                };
                return cluster.settled().await;
            }
            Ok(Err(why)) => why,
            Err(_) => format!("no primary within {} s", START_DEADLINE.as_secs()),
        };
        Err(explain(&nodes, &mut home, &why))
    }

    async fn settled(mut self) -> Result<Self, CliError> {
        match self.all_caught_up().await {
            Ok(()) => Ok(self),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// A failure with what the nodes logged, and where everything is. The directory is kept.
    pub(super) fn explain(&mut self, error: CliError) -> CliError {
        match error {
            CliError::Failed { message, .. } => explain(&self.nodes, &mut self.home, &message),
            other => other,
        }
    }

    /// The database that is loaded: written through its primary, read from everybody.
    pub(super) fn database(&self) -> Database {
        self.client.database(DATABASE)
    }

    /// A client that speaks with one node and no other, in the session of the common client.
    pub(super) async fn client_of(&self, id: u64) -> Result<Database, CliError> {
        let addr = &self.nodes.node(id).addr;
        let only = OneNode::new(addr);
        let client = Client::builder([addr.as_str()])
            .connector(only)
            .connect()
            .await?;
        client.observe_token(self.client.token());
        Ok(client.database(DATABASE))
    }

    /// Who leads now.
    pub(super) async fn primary_id(&self) -> Result<u64, CliError> {
        let mut topology = self.client.watch_topology();
        let known = timeout(START_DEADLINE, topology.primary()).await;
        let known = known.map_err(|_| CliError::new("nobody leads the cluster"))?;
        Ok(known.primary_id)
    }

    /// The first node that does not lead.
    pub(super) async fn follower_id(&self) -> Result<u64, CliError> {
        let primary = self.primary_id().await?;
        let mut ids = self.nodes.nodes().iter().map(|node| node.id);
        ids.find(|id| *id != primary)
            .ok_or_else(|| CliError::new("the cluster has no follower"))
    }

    /// SIGKILL; returns when the process is gone.
    pub(super) fn kill(&mut self, id: u64) -> Result<(), CliError> {
        let killed = tokio::task::block_in_place(|| self.nodes.kill(id));
        killed.map_err(|error| CliError::io(format!("cannot kill node {id}"), &error))
    }

    pub(super) fn restart(&mut self, id: u64) -> Result<(), CliError> {
        let started = self.nodes.start_node(id);
        started.map_err(|error| CliError::io(format!("cannot start node {id}"), &error))
    }

    /// Waits until every node has applied what is committed now.
    pub(super) async fn all_caught_up(&mut self) -> Result<(), CliError> {
        let deadline = Instant::now() + CATCH_UP_DEADLINE;
        let primary = self.primary_id().await?;
        let goal = loop {
            match self.status_of(primary).await {
                Ok(status) => break status.committed_index,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(ASK_PACE).await,
            }
        };
        let ids: Vec<u64> = self.nodes.nodes().iter().map(|node| node.id).collect();
        for id in ids {
            loop {
                if let Some(why) = ended(&mut self.nodes, id) {
                    return Err(CliError::new(why));
                }
                let applied = self.status_of(id).await.map(|status| status.applied_index);
                if applied.as_ref().is_ok_and(|applied| *applied >= goal) {
                    break;
                }
                if Instant::now() >= deadline {
                    let applied = applied.map_or_else(|e| e.to_string(), |index| index.to_string());
                    return Err(CliError::new(format!(
                        "node does not catch up: node_id={id} applied_index={applied} wanted={goal}"
                    )));
                }
                sleep(ASK_PACE).await;
            }
        }
        Ok(())
    }

    /// The addresses of all nodes, as `--addr` takes them.
    pub(super) fn addrs(&self) -> String {
        self.nodes.addrs().join(",")
    }

    /// What `ask` knows of the process of each node, in the order of their ids.
    pub(super) fn node_memory(&self, ask: impl Fn(u32) -> Option<u64>) -> Vec<Option<u64>> {
        let ids = self.nodes.nodes().iter().map(|node| node.id);
        let pids = ids.map(|id| self.nodes.pid(id));
        pids.map(|pid| ask(pid?.as_raw_nonzero().get().cast_unsigned()))
            .collect()
    }

    /// Waits until the archive has all that the primary has of a database.
    pub(super) async fn archived(&self, name: &str, within: Duration) -> Result<(), CliError> {
        let deadline = Instant::now() + within;
        loop {
            let status = self.status_of(self.primary_id().await?).await?;
            let found = status.databases.iter().find(|db| db.name == name);
            if found.is_some_and(|db| db.archived_txid >= db.txid) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let words = found.map_or("absent", |db| &db.archive_trouble);
                return Err(CliError::new(format!("{name} is not archived: {words}")));
            }
            sleep(ASK_PACE).await;
        }
    }

    async fn status_of(&self, id: u64) -> Result<NodeStatus, CliError> {
        let admin = self.client.admin();
        let answer = admin.status_of(&self.nodes.node(id).addr).await?;
        answer
            .node
            .ok_or_else(|| CliError::new(format!("node {id} says nothing of itself")))
    }
}

/// The first setting of nodes among the names of environment variables. (`HALITE_ADDR` is for clients.)
fn overriding(mut names: impl Iterator<Item = String>) -> Option<String> {
    names.find(|name| name.starts_with("HALITE_") && name != "HALITE_ADDR")
}

/// Waits for a primary that takes writes. Errors at once if a node ends.
async fn connect(nodes: &mut LocalCluster) -> Result<Client, String> {
    let client = loop {
        all_running(nodes)?;
        if let Ok(client) = Client::connect(nodes.addrs()).await {
            break client;
        }
        sleep(ASK_PACE).await;
    };
    // The primary creates the database on its own, a moment after it was elected.
    let database = client
        .database(DATABASE)
        .with_timeout(Duration::from_secs(1));
    while database.execute(CREATE_TABLE, ()).await.is_err() {
        all_running(nodes)?;
        sleep(ASK_PACE).await;
    }
    Ok(client)
}

fn all_running(nodes: &mut LocalCluster) -> Result<(), String> {
    let ids: Vec<u64> = nodes.nodes().iter().map(|node| node.id).collect();
    match ids.into_iter().find_map(|id| ended(nodes, id)) {
        Some(why) => Err(why),
        None => Ok(()),
    }
}

/// Why a node that should run does not.
fn ended(nodes: &mut LocalCluster, id: u64) -> Option<String> {
    match nodes.exited(id) {
        Ok(None) => None,
        Ok(Some(status)) => Some(format!("node {id} ended: {status}")),
        Err(error) => Some(format!("node {id} is gone: {error}")),
    }
}

fn explain(nodes: &LocalCluster, home: &mut TempDir, why: &str) -> CliError {
    home.disable_cleanup(true);
    let mut message = why.to_owned();
    for node in nodes.nodes() {
        message.push_str(&format!("\n--- {} ends with\n", node.log.display()));
        message.push_str(&match std::fs::read(&node.log) {
            Ok(log) => tail(&String::from_utf8_lossy(&log), LOG_TAIL_LINES),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => format!("(cannot be read: {error})"),
        });
    }
    CliError::new(message).help(format!(
        "logs, configurations and data are kept in {}",
        home.path().display()
    ))
}

/// The last lines of a text.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a\n", 2), "a");
        assert_eq!(tail("", 2), "");
    }

    #[test]
    fn directories_are_made_where_asked_and_only_there() {
        let parent = tempfile::tempdir().unwrap();
        let made = temporary_dir(parent.path()).unwrap();
        assert!(made.path().is_absolute());
        assert_eq!(
            made.path().parent().unwrap(),
            parent.path().canonicalize().unwrap()
        );
        let error = temporary_dir(&parent.path().join("absent")).unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn settings_of_other_nodes_are_noticed() {
        let found = |names: &[&str]| overriding(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(found(&["PATH", "HALITE_ADDR", "MY_HALITE_X"]), None);
        let dir = found(&["HALITE_ADDR", "HALITE_DATA_DIR"]);
        assert_eq!(dir.as_deref(), Some("HALITE_DATA_DIR"));
    }

    #[test]
    fn memory_is_told_from_disk() {
        assert!(!is_in_memory(Path::new("/proc")));
        if Path::new("/dev/shm").exists() {
            assert!(is_in_memory(Path::new("/dev/shm")));
        }
    }
}
