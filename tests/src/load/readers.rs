//! Readers: through the client, at one node, through `sqlite3`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use halite_checks::{Level, ReadRows, Row, SessionId, Ticket};
use halite_client::{Database, ReadLevel, params};
use halite_proto::v1;
use tokio::sync::watch;

use super::{parse, row};
use crate::direct::DirectNode;
use crate::history::History;
use crate::stock;

const QUERY: &str = "SELECT id, writer, seq, part, parts FROM log WHERE id > ?1 ORDER BY id";
/// Rows that each read looks at again.
const AGAIN: i64 = 20;
const PAUSE: Duration = Duration::from_millis(15);
/// Starting a program costs more than a call.
const SQLITE3_PAUSE: Duration = Duration::from_millis(120);
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Reader {
    session: SessionId,
    history: Arc<History>,
    newest: i64,
}

/// A read under way.
struct Begun {
    ticket: Ticket<ReadRows>,
    after: i64,
}

impl Reader {
    pub(super) fn new(name: String, history: Arc<History>) -> Self {
        Self {
            session: history.session(name),
            history,
            newest: 0,
        }
    }

    fn begin(&self, level: Level) -> Begun {
        let after = (self.newest - AGAIN).max(0);
        Begun {
            ticket: self.history.begin_read(self.session, level, after),
            after,
        }
    }

    fn end(&mut self, begun: Begun, rows: Result<Vec<Row>>) {
        let newest = rows.as_ref().ok().and_then(|rows| rows.last());
        self.newest = self.newest.max(newest.map_or(0, |row| row.id));
        self.history.end_read(begun.ticket, self.session, rows);
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
            let read = self.begin(promised);
            let rows = read_client(&database, read.after).await;
            self.end(read, rows);
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
            let read = self.begin(Level::Linearizable);
            let rows = node
                .integers(&database, QUERY, &[read.after], v1::ReadLevel::Linearizable)
                .await
                .and_then(|rows| rows.iter().map(|values| row(values)).collect());
            self.end(read, rows);
        }
    }

    pub(super) async fn through_sqlite3(mut self, file: PathBuf, mut stop: watch::Receiver<bool>) {
        while pause(SQLITE3_PAUSE, &mut stop).await {
            let read = self.begin(Level::Local);
            let sql = QUERY.replace("?1", &read.after.to_string());
            let file = file.clone();
            let reading = tokio::task::spawn_blocking(move || {
                stock::read(&file, &sql)?
                    .iter()
                    .map(|line| parse(line))
                    .collect()
            });
            let rows = reading.await.expect("reading does not panic");
            self.end(read, rows);
        }
    }
}

async fn read_client(database: &Database, after: i64) -> Result<Vec<Row>> {
    database
        .query(QUERY, params![after])
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
