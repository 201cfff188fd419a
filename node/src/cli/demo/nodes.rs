//! [`Nodes`]: the three processes and the client that asks after them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use halite_client::{Admin, Client, NodeStatus};
use tokio::time::{Instant, sleep};

use super::standing;
use crate::cli::error::{CliError, message_of};
use crate::cli::own_program::own_program;
use crate::local_cluster::{LocalCluster, LocalClusterOptions, LocalNode};

/// Longest wait for anything the cluster does by itself; most of it takes less than a second.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(25);
/// How much of a log is shown when its node has ended.
const LAST_LINES: usize = 5;

/// Three nodes; their processes end when this is dropped.
#[derive(Debug)]
pub(super) struct Nodes {
    cluster: LocalCluster,
    client: Client,
}

impl Nodes {
    /// Starts three nodes without databases, archived to `archive_url`, and waits until one of them answers.
    pub(super) async fn start(folder: &Path, archive_url: &str) -> Result<Self, CliError> {
        let program = own_program()?;
        let mut options = LocalClusterOptions::new(program, folder);
        options.databases = Vec::new();
        options.archive_url = Some(archive_url.to_owned());
        let mut cluster = LocalCluster::start(options)
            .map_err(|error| CliError::io("cannot start the nodes", &error))?;
        let deadline = Instant::now() + PATIENCE;
        let client = loop {
            match Client::connect(cluster.addrs()).await {
                Ok(client) => break client,
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => {}
            }
            look_after(&mut cluster)?;
            sleep(ASK_EVERY).await;
        };
        Ok(Self { cluster, client })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn admin(&self) -> Admin {
        self.client.admin()
    }

    pub(super) fn all(&self) -> &[LocalNode] {
        self.cluster.nodes()
    }

    pub(super) fn count(&self) -> usize {
        self.all().len()
    }

    /// What every node that answers says of itself, by id.
    async fn statuses(&self) -> Vec<NodeStatus> {
        let told = self.admin().status().await;
        let mut nodes: Vec<NodeStatus> = told
            .into_iter()
            .filter_map(|(_, status)| status.ok()?.node)
            .collect();
        nodes.sort_by_key(|node| node.node_id);
        nodes.dedup_by_key(|node| node.node_id);
        nodes
    }

    /// Waits until `ready` has an answer. If it never has: what was waited for, and what was missing in the end.
    pub(super) async fn wait_until<T>(
        &mut self,
        what: &str,
        mut ready: impl FnMut(&[NodeStatus]) -> Result<T, String>,
    ) -> Result<T, CliError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let missing = match ready(&self.statuses().await) {
                Ok(answer) => return Ok(answer),
                Err(missing) => missing,
            };
            look_after(&mut self.cluster)?;
            if Instant::now() > deadline {
                let seconds = PATIENCE.as_secs();
                return Err(CliError::new(format!(
                    "{what}: not within {seconds} s: {missing}"
                )));
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Waits for a primary other than `not`; its id and term.
    pub(super) async fn primary(&mut self, not: Option<u64>) -> Result<(u64, u64), CliError> {
        let ready = |nodes: &[NodeStatus]| {
            let primary = standing::primary(nodes).filter(|node| Some(node.node_id) != not);
            let primary = primary.ok_or("no node says that it is the primary")?;
            Ok((primary.node_id, primary.term))
        };
        self.wait_until("a primary", ready).await
    }

    /// An error if a node has ended although nobody killed it.
    pub(super) fn check_running(&mut self) -> Result<(), CliError> {
        look_after(&mut self.cluster)
    }

    /// SIGKILL; the process is gone when this returns.
    pub(super) fn kill(&mut self, id: u64) -> Result<(), CliError> {
        let killed = tokio::task::block_in_place(|| self.cluster.kill(id));
        killed.map_err(|error| CliError::io(format!("cannot kill node {id}"), &error))
    }

    pub(super) fn restart(&mut self, id: u64) -> Result<(), CliError> {
        let started = self.cluster.start_node(id);
        started.map_err(|error| CliError::io(format!("cannot start node {id}"), &error))
    }
}

/// A node that ended although nobody killed it is the end of the story.
fn look_after(cluster: &mut LocalCluster) -> Result<(), CliError> {
    let running: Vec<u64> = cluster.nodes().iter().map(|node| node.id).collect();
    for id in running {
        if !cluster.is_running(id) {
            continue;
        }
        let ended = cluster
            .exited(id)
            .map_err(|error| CliError::io(format!("cannot look after node {id}"), &error))?;
        if let Some(status) = ended {
            let log = &cluster.node(id).log;
            let text = std::fs::read_to_string(log).unwrap_or_default();
            return Err(CliError::new(format!(
                "node {id} ended by itself ({status}); the end of its log:\n{}",
                last_lines(&text, LAST_LINES)
            )));
        }
    }
    Ok(())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The words of a client's error where a check has to say why it failed.
pub(super) fn words(error: &halite_client::Error) -> String {
    message_of(error)
}

/// Where the archive of one database is.
pub(super) fn archive_of(archive: &Path, database: &str) -> String {
    let path: PathBuf = archive.join(database);
    format!("file://{}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_shown() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }
}
