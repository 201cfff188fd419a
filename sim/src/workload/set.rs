//! Rows that are only ever inserted, by single statements, batches and interactive transactions; and readers at every level.

use std::time::Duration;

use halite_checks::{Caller, Insert, Inserted, Level, Outcome, ReadRows, Row, SessionId, WriteId};
use halite_client::{Database, Error, ReadLevel, Rows, Statement, params};
use rand::Rng as _;

use super::Session;
use crate::recorder::outcome_of;

/// The table.
pub const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, writer INTEGER NOT NULL, seq INTEGER NOT NULL, \
     part INTEGER NOT NULL, parts INTEGER NOT NULL)";
/// The whole table, or what is new in it.
pub const SELECT: &str = "SELECT id, writer, seq, part, parts FROM log WHERE id > ?1 ORDER BY id";
const INSERT: &str = "INSERT INTO log (writer, seq, part, parts) VALUES (?1, ?2, ?3, ?4)";

/// A session that writes.
pub async fn write(mut session: Session) -> Option<()> {
    let database = session.connect().await?.database(&session.database);
    while database.execute(SCHEMA, ()).await.is_err() {
        session.pause().await?;
    }
    let caller = Caller {
        session: SessionId(session.number),
        node: None,
        level: Level::Linearizable,
    };
    for seq in 1.. {
        let write = WriteId {
            writer: session.number.cast_signed(),
            seq,
        };
        let draw = session.rng.random_range(0..10);
        let parts = if draw < 6 {
            1
        } else {
            session.rng.random_range(2..6)
        };
        let ticket = session.recorder.invoke(caller, Insert { write, parts });
        let outcome = match draw {
            0..6 => told(single(&database, write).await),
            6..8 => told(batch(&database, write, parts).await),
            _ => interactive(&database, write, parts).await,
        };
        session.recorder.returned(ticket, outcome);
        session.pause().await?;
    }
    None
}

async fn single(database: &Database, write: WriteId) -> Result<i64, Error> {
    let params = params![write.writer, write.seq, 0_i64, 1_i64];
    Ok(database.execute(INSERT, params).await?.last_insert_rowid)
}

async fn batch(database: &Database, write: WriteId, parts: i64) -> Result<i64, Error> {
    let statements = (0..parts)
        .map(|part| Statement::new(INSERT, params![write.writer, write.seq, part, parts]))
        .collect::<Vec<_>>();
    let results = database.batch(statements).await?;
    Ok(results.last().map_or(0, |result| result.last_insert_rowid))
}

async fn interactive(database: &Database, write: WriteId, parts: i64) -> Outcome<Inserted> {
    // What fails before the commit is not kept, whatever the error says of its own call.
    let failed = |error: Error| Outcome::Failed(error.to_string());
    let mut transaction = match database.transaction().await {
        Ok(transaction) => transaction,
        Err(error) => return failed(error),
    };
    let mut newest = 0;
    for part in 0..parts {
        let params = params![write.writer, write.seq, part, parts];
        match transaction.execute(INSERT, params).await {
            Ok(result) => newest = result.last_insert_rowid,
            Err(error) => return failed(error),
        }
    }
    told(transaction.commit().await.map(|()| newest))
}

fn told(result: Result<i64, Error>) -> Outcome<Inserted> {
    match result {
        Ok(newest) => Outcome::Ok(Inserted {
            newest: Some(newest),
        }),
        Err(error) => outcome_of(&error),
    }
}

/// A session that reads, at one level.
pub async fn read(mut session: Session, level: Level) -> Option<()> {
    let database = session
        .connect()
        .await?
        .database(&session.database)
        .with_level(client_level(level));
    let caller = Caller {
        session: SessionId(session.number),
        node: None,
        level,
    };
    let mut newest = 0;
    loop {
        // Mostly what is new, sometimes everything.
        let after = if session.rng.random_ratio(1, 8) {
            0
        } else {
            newest
        };
        let ticket = session.recorder.invoke(caller, ReadRows { after });
        let outcome = match database.query(SELECT, params![after]).await {
            Ok(rows) => match rows_of(&rows) {
                Ok(rows) => {
                    if level.keeps_session_order() {
                        newest = rows.last().map_or(newest, |row| row.id);
                    }
                    Outcome::Ok(rows)
                }
                Err(error) => Outcome::Unknown(error.to_string()),
            },
            Err(error) => Outcome::Failed(error.to_string()),
        };
        session.recorder.returned(ticket, outcome);
        session.pause().await?;
    }
}

fn client_level(level: Level) -> ReadLevel {
    match level {
        Level::Local => ReadLevel::Local,
        Level::Bounded { max_lag_us } => ReadLevel::Bounded(Duration::from_micros(max_lag_us)),
        Level::Session => ReadLevel::Session,
        Level::Linearizable => ReadLevel::Linearizable,
    }
}

fn rows_of(rows: &Rows) -> Result<Vec<Row>, Error> {
    rows.iter()
        .map(|row| {
            Ok(Row {
                id: row.get(0)?,
                write: WriteId {
                    writer: row.get(1)?,
                    seq: row.get(2)?,
                },
                part: row.get(3)?,
                parts: row.get(4)?,
            })
        })
        .collect()
}
