//! A cluster under test.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use halite::local_cluster::{LocalCluster, LocalClusterOptions};
use halite_client::{Client, DatabaseStatus, NodeStatus, Role, StatusResponse};

use crate::pages::Pages;
use crate::scratch::Scratch;
use crate::{program, wait};

/// How long a cluster may take to reach a state on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of real processes and a client that operates it.
#[derive(Debug)]
pub struct TestCluster {
    /// The processes.
    pub local: LocalCluster,
    ops: Client,
    frozen: BTreeSet<u64>,
    apart: BTreeSet<u64>,
}

impl TestCluster {
    /// Three nodes with the database `app`, unless `configure` says otherwise; waits until there is a primary and every database is
    /// there.
    ///
    /// # Errors
    /// The cluster does not come up.
    pub async fn start(
        scratch: &Scratch,
        configure: impl FnOnce(&mut LocalClusterOptions),
    ) -> Result<Self> {
        let mut options = LocalClusterOptions::new(program::halite(), scratch.dir());
        options.log = std::env::var("HALITE_TEST_LOG").unwrap_or(options.log);
        configure(&mut options);
        let databases: Vec<String> = options.databases.iter().map(|(n, _)| n.clone()).collect();
        let local = LocalCluster::start(options).context("start the cluster")?;
        let addrs = local.addrs();
        let ops = wait::until("a node answers", PATIENCE, async || {
            Client::connect(addrs.clone()).await
        })
        .await?;
        let cluster = Self {
            local,
            ops,
            frozen: BTreeSet::new(),
            apart: BTreeSet::new(),
        };
        cluster.primary().await?;
        for database in databases {
            cluster.settle(&database).await?;
        }
        Ok(cluster)
    }

    /// A client with connections of its own.
    ///
    /// # Errors
    /// No node answers.
    pub async fn client(&self) -> Result<Client> {
        let addrs = self.local.addrs();
        wait::until("a node answers", PATIENCE, async || {
            Client::connect(addrs.clone()).await
        })
        .await
    }

    /// The client this cluster is operated with.
    pub fn ops(&self) -> &Client {
        &self.ops
    }

    /// What one node says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self, id: u64) -> Result<StatusResponse> {
        let addr = &self.local.node(id).addr;
        Ok(self.ops.admin().status_of(addr).await?)
    }

    /// What one node says of itself alone.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn node_status(&self, id: u64) -> Result<NodeStatus> {
        self.status(id).await?.node.context("a status has a node")
    }

    /// What one node says of one of its databases.
    ///
    /// # Errors
    /// It does not answer, or has no such database.
    pub async fn database_status(&self, id: u64, database: &str) -> Result<DatabaseStatus> {
        let status = self.node_status(id).await?;
        status
            .databases
            .into_iter()
            .find(|d| d.name == database)
            .with_context(|| format!("node {id} has no database {database}"))
    }

    /// Ids of all nodes.
    pub fn ids(&self) -> Vec<u64> {
        self.local.nodes().iter().map(|n| n.id).collect()
    }

    /// Nodes that run, are not frozen and belong to the side that is looked at.
    pub fn awake(&self) -> Vec<u64> {
        let away = |id: &u64| self.frozen.contains(id) || self.apart.contains(id);
        self.ids()
            .into_iter()
            .filter(|id| self.local.is_running(*id) && !away(id))
            .collect()
    }

    /// From now on nothing is expected of these nodes: they are on the other side of a partition. None: all are looked at again.
    pub fn look_away_from(&mut self, ids: &[u64]) {
        self.apart = ids.iter().copied().collect();
    }

    /// Waits until one node leads and every node that is awake follows it.
    ///
    /// # Errors
    /// Not in time.
    pub async fn primary(&self) -> Result<u64> {
        wait::until("all agree on a primary", PATIENCE, async || {
            self.agreed_primary().await.map_err(|e| e.to_string())
        })
        .await
    }

    async fn agreed_primary(&self) -> Result<u64> {
        let mut views = BTreeSet::new();
        let mut leading = BTreeSet::new();
        for id in self.awake() {
            let status = self
                .status(id)
                .await
                .with_context(|| format!("status of node {id}"))?;
            let topology = status.topology.unwrap_or_default();
            views.insert((topology.term, topology.primary_id));
            if status.node.is_some_and(|n| n.role() == Role::Primary) {
                leading.insert(id);
            }
        }
        match (views.first(), leading.first()) {
            (Some(&(_, primary)), Some(&id))
                if views.len() == 1 && leading.len() == 1 && primary == id =>
            {
                Ok(id)
            }
            _ => bail!("(term, primary) as seen: {views:?}, leading: {leading:?}"),
        }
    }

    /// Any node that is not the primary.
    ///
    /// # Errors
    /// There is no primary.
    pub async fn follower(&self) -> Result<u64> {
        let primary = self.primary().await?;
        let follower = self.awake().into_iter().find(|id| *id != primary);
        follower.context("a node beside the primary")
    }

    /// The primary and the other nodes, awake or not, in the order of their ids.
    ///
    /// # Errors
    /// There is no primary.
    pub async fn roles(&self) -> Result<(u64, Vec<u64>)> {
        let primary = self.primary().await?;
        let mut others = self.ids();
        others.retain(|id| *id != primary);
        Ok((primary, others))
    }

    /// Starts a blank node, and waits until it is a learner of the cluster.
    ///
    /// # Errors
    /// Not in time.
    pub async fn join(&mut self, id: u64) -> Result<()> {
        self.local.start_joining(id)?;
        self.add(id).await
    }

    /// Waits until a node that runs, and waits to join, is a learner of the cluster.
    ///
    /// # Errors
    /// Not in time.
    pub async fn add(&self, id: u64) -> Result<()> {
        let addr = self.local.node(id).addr.clone();
        let admin = self.ops().admin();
        wait::until("the node is added", PATIENCE, async || {
            admin.add_member(id, &addr).await
        })
        .await?;
        Ok(())
    }

    /// Waits until a learner is a voter.
    ///
    /// # Errors
    /// Not in time.
    pub async fn promote(&self, id: u64) -> Result<()> {
        let admin = self.ops().admin();
        wait::until("the node is promoted", PATIENCE, async || {
            admin.promote_member(id).await
        })
        .await?;
        Ok(())
    }

    /// Moves leadership to a node, again and again where another one was faster on a slow machine, until it leads.
    ///
    /// # Errors
    /// Not in time.
    pub async fn lead(&self, id: u64) -> Result<()> {
        let admin = self.ops().admin();
        wait::until("the node leads", PATIENCE, async || {
            match admin.transfer_leadership(Some(id)).await {
                Ok(led) if led == id => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits until every node that is awake stands at the same position of a database, without trouble; the TXID.
    ///
    /// # Errors
    /// Not in time.
    pub async fn settle(&self, database: &str) -> Result<u64> {
        wait::until("all nodes stand at one position", PATIENCE, async || {
            self.settled(database).await.map_err(|e| format!("{e:#}"))
        })
        .await
    }

    async fn settled(&self, database: &str) -> Result<u64> {
        let txid = self.position(database).await?;
        let mut indexes = BTreeSet::new();
        for id in self.awake() {
            let status = self.node_status(id).await?;
            indexes.insert((status.last_log_index, status.applied_index));
        }
        if indexes.iter().any(|(last, applied)| last != applied) {
            bail!("(last, applied) {indexes:?}");
        }
        Ok(txid)
    }

    /// The TXID at which all nodes that are awake stand.
    async fn position(&self, database: &str) -> Result<u64> {
        let mut positions = BTreeSet::new();
        for id in self.awake() {
            let found = self
                .database_status(id, database)
                .await
                .with_context(|| format!("status of node {id}"))?;
            if !found.trouble.is_empty() {
                bail!("node {id}: {}", found.trouble);
            }
            positions.insert((found.txid, found.checksum, found.page_count));
        }
        let (txid, ..) = positions.first().context("a node is awake")?;
        if positions.len() > 1 {
            bail!("positions {positions:?}");
        }
        Ok(*txid)
    }

    /// The files of a database are page-identical on all nodes that are awake; nobody may write meanwhile. The pages.
    ///
    /// # Errors
    /// They differ, or the nodes do not settle.
    pub async fn check_same(&self, database: &str) -> Result<Pages> {
        self.settle(database).await?;
        self.compare(database)
    }

    fn compare(&self, database: &str) -> Result<Pages> {
        let mut first: Option<(u64, Pages)> = None;
        for id in self.awake() {
            let pages = Pages::read(&self.file(id, database))
                .with_context(|| format!("node {id}, database {database}"))?;
            match &first {
                None => first = Some((id, pages)),
                Some((other, same)) => same.check_same(&pages).with_context(|| {
                    format!("database {database} differs on nodes {other} and {id}")
                })?,
            }
        }
        Ok(first.context("a node is awake")?.1)
    }

    /// Waits until the log of a node says these words.
    ///
    /// # Errors
    /// Not in time.
    pub async fn says(&self, id: u64, words: &str) -> Result<()> {
        wait::until("the log of the node says so", PATIENCE, async || {
            let log = self.log_of(id).map_err(|e| format!("{e:#}"))?;
            let said = log.contains(words);
            said.then_some(())
                .ok_or_else(|| format!("node {id} does not say {words:?}"))
        })
        .await
    }

    /// The same for a database that nobody writes to, while others are written to.
    ///
    /// # Errors
    /// They differ, or the nodes do not settle.
    pub async fn check_same_under_load(&self, database: &str) -> Result<()> {
        wait::until("all nodes stand at one position", PATIENCE, async || {
            self.position(database).await.map_err(|e| format!("{e:#}"))
        })
        .await?;
        self.compare(database).map(drop)
    }

    /// Waits until every node that is awake is healthy and close to what the others hold, while they are written to.
    ///
    /// # Errors
    /// Not in time.
    pub async fn settle_under_load(&self) -> Result<()> {
        wait::until("all nodes keep up", PATIENCE, async || {
            self.keeps_up().await.map_err(|e| format!("{e:#}"))
        })
        .await
    }

    async fn keeps_up(&self) -> Result<()> {
        let mut wanted = 0;
        for id in self.awake() {
            wanted = wanted.max(self.node_status(id).await?.committed_index);
        }
        for id in self.awake() {
            let status = self.node_status(id).await?;
            if status.applied_index < wanted {
                bail!("node {id} has applied {} of {wanted}", status.applied_index);
            }
            if let Some(troubled) = status.databases.iter().find(|d| !d.trouble.is_empty()) {
                bail!("node {id}, {}: {}", troubled.name, troubled.trouble);
            }
        }
        Ok(())
    }

    /// Waits until the archive holds what the primary holds.
    ///
    /// # Errors
    /// Not in time.
    pub async fn archived(&self, database: &str) -> Result<u64> {
        wait::until("the archive has everything", PATIENCE, async || {
            let primary = self.primary().await.map_err(|e| e.to_string())?;
            let status = self
                .database_status(primary, database)
                .await
                .map_err(|e| e.to_string())?;
            if status.archived_txid == status.txid {
                Ok(status.txid)
            } else {
                Err(format!("{} of {}", status.archived_txid, status.txid))
            }
        })
        .await
    }

    /// The SQLite file of a database on one node.
    pub fn file(&self, id: u64, database: &str) -> PathBuf {
        self.local.database_path(id, database)
    }

    /// What a node has written to its log file.
    ///
    /// # Errors
    /// There is none.
    pub fn log_of(&self, id: u64) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.local.node(id).log)?).into_owned())
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// The operating system's.
    pub fn kill(&mut self, id: u64) -> Result<()> {
        self.frozen.remove(&id);
        Ok(self.local.kill(id)?)
    }

    /// Starts a node again.
    ///
    /// # Errors
    /// The operating system's.
    pub fn restart(&mut self, id: u64) -> Result<()> {
        Ok(self.local.start_node(id)?)
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// The operating system's.
    pub fn freeze(&mut self, id: u64) -> Result<()> {
        self.frozen.insert(id);
        Ok(self.local.freeze(id)?)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// The operating system's.
    pub fn thaw(&mut self, id: u64) -> Result<()> {
        self.frozen.remove(&id);
        Ok(self.local.thaw(id)?)
    }

    /// Waits until a node ends by itself; its exit code.
    ///
    /// # Errors
    /// It does not, or died of a signal.
    pub async fn ended(&mut self, id: u64) -> Result<i32> {
        let local = &mut self.local;
        let status = wait::until("the node ends by itself", PATIENCE, async || {
            local
                .exited(id)
                .map_err(|e| e.to_string())?
                .ok_or("still running".to_owned())
        })
        .await?;
        status.code().context("the node died of a signal")
    }
}
