//! One writer.

use std::sync::Arc;
use std::time::Duration;

use halite_checks::{Inserted, Outcome, SessionId, WriteId};
use halite_client::{Client, Database, Error, ErrorKind, Statement, params};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{RwLock, watch};

use super::LoadOptions;
use crate::history::History;

const INSERT: &str = "INSERT INTO log (writer, seq, part, parts) VALUES (?1, ?2, ?3, ?4)";
const BIG: &str = "REPLACE INTO big (writer, seq, value) VALUES (?1, ?2, randomblob(?3))";
/// A big value is larger than what fits into one log entry.
const BIG_BYTES: std::ops::Range<i64> = 2 << 20..6 << 20;

/// How a write is sent.
enum Way {
    Single,
    Batch,
    /// A batch with a value of so many bytes.
    Big(i64),
    Interactive,
}

pub(super) struct Writer {
    number: i64,
    session: SessionId,
    database: Database,
    history: Arc<History>,
    rng: StdRng,
    pause: Duration,
    big_percent: u32,
    interactive_percent: u32,
}

impl Writer {
    pub(super) fn new(
        number: i64,
        client: Client,
        options: &LoadOptions,
        history: Arc<History>,
    ) -> Self {
        Self {
            number,
            session: history.session(format!("writer {number}")),
            database: client.database(&options.database),
            history,
            rng: StdRng::seed_from_u64(options.seed ^ (number as u64) << 32),
            pause: options.pause,
            big_percent: options.big_percent,
            interactive_percent: options.interactive_percent,
        }
    }

    pub(super) async fn run(mut self, gate: Arc<RwLock<()>>, mut stop: watch::Receiver<bool>) {
        for seq in 1.. {
            {
                let _pass = gate.read().await;
                if *stop.borrow() {
                    return;
                }
                self.write(seq).await;
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn write(&mut self, seq: i64) {
        let draw = self.rng.random_range(0..100);
        let write = WriteId {
            writer: self.number,
            seq,
        };
        let several = self.rng.random_range(2..6);
        let big_bytes = self.rng.random_range(BIG_BYTES);
        let interactive = self.big_percent + self.interactive_percent;
        let (parts, way) = if draw < self.big_percent {
            (2, Way::Big(big_bytes))
        } else if draw < interactive {
            (several, Way::Interactive)
        } else if draw < interactive + 15 {
            (several, Way::Batch)
        } else {
            (1, Way::Single)
        };
        let ticket = self.history.begin_insert(self.session, write, parts);
        let ended = match way {
            Way::Single => told(self.single(write).await),
            Way::Batch => told(self.batch(write, parts, None).await),
            Way::Big(bytes) => told(self.batch(write, parts, Some(bytes)).await),
            Way::Interactive => self.interactive(write, parts).await,
        };
        let acknowledged = |newest| {
            let newest = Some(newest);
            Outcome::Ok(Inserted { newest })
        };
        let outcome = ended.map_or_else(|outcome| outcome, acknowledged);
        self.history.end_insert(ticket, outcome);
    }

    async fn single(&self, write: WriteId) -> Result<i64, Error> {
        let params = params![write.writer, write.seq, 0_i64, 1_i64];
        let result = self.database.execute(INSERT, params).await?;
        Ok(result.last_insert_rowid)
    }

    async fn batch(
        &self,
        write: WriteId,
        parts: i64,
        big_bytes: Option<i64>,
    ) -> Result<i64, Error> {
        let mut statements = Vec::new();
        if let Some(bytes) = big_bytes {
            statements.push(Statement::new(BIG, params![write.writer, write.seq, bytes]));
        }
        for part in 0..parts {
            let params = params![write.writer, write.seq, part, parts];
            statements.push(Statement::new(INSERT, params));
        }
        let results = self.database.batch(statements).await?;
        Ok(results.last().map_or(0, |result| result.last_insert_rowid))
    }

    async fn interactive(&self, write: WriteId, parts: i64) -> Result<i64, Outcome<Inserted>> {
        // What fails before the commit was not kept, whatever the error says of its own call.
        let failed = |error: Error| Outcome::Failed(error.to_string());
        let mut transaction = self.database.transaction().await.map_err(failed)?;
        let mut newest = 0;
        for part in 0..parts {
            let params = params![write.writer, write.seq, part, parts];
            let result = transaction.execute(INSERT, params).await.map_err(failed)?;
            newest = result.last_insert_rowid;
        }
        told(transaction.commit().await.map(|()| newest))
    }
}

fn told(result: Result<i64, Error>) -> Result<i64, Outcome<Inserted>> {
    result.map_err(|error| match error.kind() {
        ErrorKind::OutcomeUnknown | ErrorKind::Internal => Outcome::Unknown(error.to_string()),
        _ => Outcome::Failed(error.to_string()),
    })
}
