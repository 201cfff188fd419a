//! Imports in the background of a round: each replaces the whole database by a new version, or leaves the old one.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use halite_client::{Client, Error};
use halite_tests::cluster::TestCluster;
use halite_tests::scratch::Scratch;
use halite_tests::stock;
use tokio::task::JoinHandle;

const DATABASE: &str = "imported";
const ROWS: i64 = 400;
const ROW_BYTES: i64 = 8 << 10;

/// The versions imported so far.
pub(super) struct Imports {
    file: PathBuf,
    /// Versions that may be there.
    possible: Vec<i64>,
    newest: i64,
    running: Option<JoinHandle<Result<(), Error>>>,
}

impl Imports {
    pub(super) fn new(scratch: &Scratch) -> Self {
        Self {
            file: scratch.join("import.db"),
            possible: vec![0],
            newest: 0,
            running: None,
        }
    }

    /// Begins to import the next version.
    pub(super) fn begin(&mut self, cluster: &TestCluster) -> Result<()> {
        self.newest += 1;
        let _ = std::fs::remove_file(&self.file);
        let connection = rusqlite::Connection::open(&self.file)?;
        connection.execute_batch("CREATE TABLE v (version INTEGER, data BLOB); BEGIN")?;
        for _ in 0..ROWS {
            connection.execute(
                "INSERT INTO v VALUES (?1, randomblob(?2))",
                [self.newest, ROW_BYTES],
            )?;
        }
        connection.execute_batch("COMMIT")?;
        drop(connection);
        let client: Client = cluster.ops().clone();
        let file = self.file.clone();
        self.running = Some(tokio::spawn(async move {
            let file = tokio::fs::File::open(&file).await.expect("just written");
            let bytes = file.metadata().await.expect("an open file").len();
            let imported = client.admin().import(DATABASE, bytes, true, file).await;
            imported.map(drop)
        }));
        Ok(())
    }

    /// Waits for its end, and checks that the database holds one whole version that it may hold.
    pub(super) async fn end(&mut self, cluster: &TestCluster) -> Result<()> {
        if let Some(running) = self.running.take() {
            match running.await? {
                Ok(()) => self.possible = vec![self.newest],
                Err(error) => {
                    eprintln!("import {}: {error}", self.newest);
                    self.possible.push(self.newest);
                }
            }
        }
        if self.newest == 0 {
            return Ok(());
        }
        let databases = cluster.ops().admin().list_databases().await?;
        if !databases.iter().any(|d| d.name == DATABASE) {
            ensure!(self.possible.contains(&0), "an imported database is gone");
            return Ok(());
        }
        cluster.check_same(DATABASE).await?;
        let primary = cluster.primary().await?;
        let file = cluster.file(primary, DATABASE);
        let tables = stock::read(&file, "SELECT count(*) FROM sqlite_schema WHERE name = 'v'")?;
        if tables == ["0"] {
            ensure!(self.possible.contains(&0), "an imported database is empty");
            return Ok(());
        }
        let found = stock::read(
            &file,
            "SELECT version, count(*), sum(length(data)) FROM v GROUP BY version",
        )?;
        let whole = |version: &i64| format!("{version}|{ROWS}|{}", ROWS * ROW_BYTES);
        let expected: Vec<String> = self.possible.iter().map(whole).collect();
        let [version] = &found[..] else {
            anyhow::bail!("imports are mixed: {found:?}");
        };
        let position = expected.iter().position(|e| e == version);
        let position =
            position.with_context(|| format!("found {version}, possible are {expected:?}"))?;
        self.possible = vec![self.possible[position]];
        Ok(())
    }
}
