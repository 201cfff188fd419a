//! Readers: through the client, at one node, through `sqlite3`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use halite_client::{Database, ReadLevel, params};
use halite_proto::v1;
use tokio::sync::watch;

use super::{parse, row};
use crate::direct::DirectNode;
use crate::history::{History, Level, Reading, Row};
use crate::stock;

const QUERY: &str = "SELECT id, writer, seq, part, parts FROM log WHERE id > ?1 ORDER BY id";
/// Rows that each read looks at again.
const AGAIN: i64 = 20;
const PAUSE: Duration = Duration::from_millis(15);
/// Starting a program costs more than a call.
const SQLITE3_PAUSE: Duration = Duration::from_millis(120);
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Reader {
    name: String,
    history: Arc<History>,
    newest: i64,
}

impl Reader {
    pub(super) fn new(name: String, history: Arc<History>) -> Self {
        Self {
            name,
            history,
            newest: 0,
        }
    }

    fn from(&self) -> i64 {
        (self.newest - AGAIN).max(0)
    }

    /// A read that fails has seen nothing.
    fn note(&mut self, level: Level, acknowledged_before: i64, rows: Result<Vec<Row>>) {
        let Ok(rows) = rows else { return };
        let newest = rows.last().map_or(0, |row| row.id);
        self.newest = self.newest.max(newest);
        let reading = Reading {
            reader: self.name.clone(),
            level,
            acknowledged_before,
            newest,
        };
        self.history.read(reading, &rows);
    }

    pub(super) async fn through_client(
        mut self,
        database: Database,
        level: ReadLevel,
        mut stop: watch::Receiver<bool>,
    ) {
        let promised = match level {
            ReadLevel::Session => Level::Session,
            ReadLevel::Linearizable => Level::Linearizable,
            _ => Level::Local,
        };
        while pause(PAUSE, &mut stop).await {
            let before = self.history.newest_acknowledged();
            let rows = read_client(&database, self.from()).await;
            self.note(promised, before, rows);
        }
    }

    pub(super) async fn at_node(
        mut self,
        addr: String,
        database: String,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut node = DirectNode::new(&addr, NODE_TIMEOUT).expect("an address");
        while pause(PAUSE * 2, &mut stop).await {
            let before = self.history.newest_acknowledged();
            let rows = node
                .integers(
                    &database,
                    QUERY,
                    &[self.from()],
                    v1::ReadLevel::Linearizable,
                )
                .await
                .and_then(|rows| rows.iter().map(|values| row(values)).collect());
            self.note(Level::Linearizable, before, rows);
        }
    }

    pub(super) async fn through_sqlite3(mut self, file: PathBuf, mut stop: watch::Receiver<bool>) {
        while pause(SQLITE3_PAUSE, &mut stop).await {
            let before = self.history.newest_acknowledged();
            let sql = QUERY.replace("?1", &self.from().to_string());
            let file = file.clone();
            let read = tokio::task::spawn_blocking(move || {
                stock::read(&file, &sql)?
                    .iter()
                    .map(|line| parse(line))
                    .collect()
            });
            let rows = read.await.expect("reading does not panic");
            self.note(Level::Local, before, rows);
        }
    }
}

async fn read_client(database: &Database, from: i64) -> Result<Vec<Row>> {
    database
        .query(QUERY, params![from])
        .await?
        .into_iter()
        .map(|found| {
            let values: Vec<i64> = (0..5)
                .map(|column| found.get::<i64>(column))
                .collect::<Result<_, _>>()?;
            row(&values)
        })
        .collect()
}

/// False when it is time to stop.
async fn pause(pause: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        _ = stop.wait_for(|stop| *stop) => false,
    }
}
