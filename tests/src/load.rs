//! Load that records: writers that number what they write, readers that note what they see.

mod readers;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use halite_checks::{Row, WriteId};
use tokio::sync::{RwLock, RwLockWriteGuard, watch};
use tokio::task::JoinHandle;

use crate::cluster::{PATIENCE, TestCluster};
use crate::history::History;
use crate::{stock, wait};

/// The table that all load goes to, and the one that big values go to.
pub const SCHEMA: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, writer INTEGER NOT NULL, seq INTEGER NOT NULL, part INTEGER NOT NULL, \
     parts INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS big (writer INTEGER PRIMARY KEY, seq INTEGER NOT NULL, value BLOB NOT NULL)",
];

/// What is to be done, and how hard.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Database that is written to.
    pub database: String,
    /// Writers at work at once.
    pub writers: i64,
    /// Pause between two writes of one writer.
    pub pause: Duration,
    /// Out of a hundred writes, this many carry a value of several MiB.
    pub big_percent: u32,
    /// Out of a hundred writes, this many are interactive transactions.
    pub interactive_percent: u32,
    /// Where the choices of the writers come from.
    pub seed: u64,
}

impl LoadOptions {
    /// Six writers on the database `app`.
    pub fn new(seed: u64) -> Self {
        Self {
            database: "app".to_owned(),
            writers: 6,
            pause: Duration::from_millis(4),
            big_percent: 1,
            interactive_percent: 8,
            seed,
        }
    }
}

/// Once the faults are over: all nodes are looked at again, writes go on, and everything holds.
///
/// # Errors
/// Something does not.
pub async fn after_healing(cluster: &mut TestCluster, load: &Load) -> Result<()> {
    cluster.look_away_from(&[]);
    cluster.primary().await.context("after healing")?;
    load.grown(30).await.context("after healing")?;
    load.verify(cluster).await.map(drop)
}

/// Writers and readers at work.
pub struct Load {
    history: Arc<History>,
    gate: Arc<RwLock<()>>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    database: String,
}

impl Load {
    /// Creates the tables and starts writers and readers.
    ///
    /// # Errors
    /// The tables cannot be created.
    pub async fn start(cluster: &TestCluster, options: LoadOptions) -> Result<Self> {
        let database = cluster.ops().database(&options.database);
        database.batch(SCHEMA).await.context("create the tables")?;
        let mut load = Self {
            history: Arc::default(),
            gate: Arc::default(),
            stop: watch::Sender::new(false),
            tasks: Vec::new(),
            database: options.database.clone(),
        };
        for number in 1..=options.writers {
            let client = cluster.client().await?;
            let writer = writer::Writer::new(number, client, &options, load.history.clone());
            let (gate, stop) = (load.gate.clone(), load.stop.subscribe());
            load.tasks.push(tokio::spawn(writer.run(gate, stop)));
        }
        load.start_readers(cluster, &options).await?;
        Ok(load)
    }

    async fn start_readers(&mut self, cluster: &TestCluster, options: &LoadOptions) -> Result<()> {
        use halite_client::ReadLevel;
        let name = &options.database;
        for (reader, level) in [
            ("session 1", ReadLevel::Session),
            ("session 2", ReadLevel::Session),
            ("any node", ReadLevel::Local),
            ("linearizable", ReadLevel::Linearizable),
        ] {
            let database = cluster.client().await?.database(name).with_level(level);
            let reader = readers::Reader::new(reader.to_owned(), self.history.clone());
            let task = reader.through_client(database, level, self.stop.subscribe());
            self.tasks.push(tokio::spawn(task));
        }
        let files: Vec<(u64, PathBuf)> = cluster
            .ids()
            .into_iter()
            .map(|id| (id, cluster.file(id, name)))
            .collect();
        for node in cluster.local.nodes() {
            let reader = format!("linearizable at node {}", node.id);
            let reader = readers::Reader::new(reader, self.history.clone());
            let task = reader.at_node(node.addr.clone(), name.clone(), self.stop.subscribe());
            self.tasks.push(tokio::spawn(task));
        }
        for (id, file) in files {
            let reader =
                readers::Reader::new(format!("sqlite3 at node {id}"), self.history.clone());
            let task = reader.through_sqlite3(file, self.stop.subscribe());
            self.tasks.push(tokio::spawn(task));
        }
        Ok(())
    }

    /// What was recorded so far.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// No writer writes while the guard lives; what was under way has ended.
    pub async fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// Ends writers and readers.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            task.await.expect("writers and readers do not panic");
        }
    }

    /// Waits until so many further rows were acknowledged.
    ///
    /// # Errors
    /// Not in time.
    pub async fn grown(&self, rows: i64) -> Result<()> {
        let wanted = self.history.newest_acknowledged() + rows;
        wait::until("the load goes on", PATIENCE, async || {
            let newest = self.history.newest_acknowledged();
            if newest >= wanted {
                Ok(())
            } else {
                Err((newest, wanted))
            }
        })
        .await
    }

    /// Every check there is, with the writers at rest: all nodes that are awake agree and hold the same pages, the history is kept, and
    /// nobody but Halite can write. Rows.
    ///
    /// # Errors
    /// A promise was broken, or the cluster does not settle.
    pub async fn verify(&self, cluster: &TestCluster) -> Result<usize> {
        cluster.primary().await.context("before the checks")?;
        let _paused = self.pause().await;
        let primary = cluster.primary().await?;
        cluster.check_same(&self.database).await?;
        let rows = self.check(cluster, primary)?;
        for id in cluster.awake() {
            let insert = "INSERT INTO log (writer, seq, part, parts) VALUES (0, 0, 0, 1)";
            stock::expect_fence(&cluster.file(id, &self.database), insert)?;
        }
        Ok(rows)
    }

    /// Checks the history against what one node's file holds. No writer may be at work.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn check(&self, cluster: &TestCluster, node: u64) -> Result<usize> {
        let file = cluster.file(node, &self.database);
        self.history.check(node, || table(&file))
    }
}

/// All rows of a database file, as `sqlite3` sees them.
///
/// # Errors
/// `sqlite3` refuses.
pub fn table(file: &std::path::Path) -> Result<Vec<Row>> {
    stock::read(
        file,
        "SELECT id, writer, seq, part, parts FROM log ORDER BY id",
    )?
    .iter()
    .map(|line| parse(line))
    .collect()
}

fn parse(line: &str) -> Result<Row> {
    let values: Vec<i64> = line.split('|').map(str::parse).collect::<Result<_, _>>()?;
    row(&values)
}

fn row(values: &[i64]) -> Result<Row> {
    let &[id, writer, seq, part, parts] = values else {
        anyhow::bail!("five columns expected: {values:?}");
    };
    Ok(Row {
        id,
        write: WriteId { writer, seq },
        part,
        parts,
    })
}
