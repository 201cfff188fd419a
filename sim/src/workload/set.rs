//! Rows that are only ever inserted, by single statements, batches and interactive transactions; and readers at every level.

use halite_checks::{Insert, Inserted, Level, Outcome, ReadRows, Row, WriteId};
use halite_client::{Database, Error, Params, Rows, params};
use rand::Rng as _;

use super::{Session, Way, Ways, client_level, not_committed, read_outcome};
use crate::recorder::outcome_of;

/// The table.
pub const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, writer INTEGER NOT NULL, seq INTEGER NOT NULL, \
     part INTEGER NOT NULL, parts INTEGER NOT NULL)";
/// The whole table, or what is new in it.
pub const SELECT: &str = "SELECT id, writer, seq, part, parts FROM log WHERE id > ?1 ORDER BY id";
/// One row.
pub const INSERT: &str = "INSERT INTO log (writer, seq, part, parts) VALUES (?1, ?2, ?3, ?4)";

/// A session that writes.
pub async fn write(mut session: Session) -> Option<()> {
    let database = session.connect().await?.database(&session.database);
    session.prepare(&database, &[SCHEMA]).await?;
    let ways = Ways::draw(&mut session.rng);
    for seq in 1.. {
        let write = session.write(seq);
        let way = ways.pick(&mut session.rng);
        let parts = match way {
            Way::Single => 1,
            Way::Batch | Way::Interactive => session.rng.random_range(1..6),
        };
        let asked = Insert { write, parts };
        let ticket = session.recorder.invoke(session.writer(), asked);
        let outcome = match way {
            Way::Single => told(single(&database, write).await),
            Way::Batch => told(batch(&database, asked).await),
            Way::Interactive => interactive(&mut session, &database, asked).await,
        };
        session.recorder.returned(ticket, outcome);
        session.pause().await?;
    }
    None
}

impl Session {
    /// A write of this session.
    pub fn write(&self, seq: i64) -> WriteId {
        WriteId {
            writer: self.number.cast_signed(),
            seq,
        }
    }
}

/// Inserts the one row of a write.
///
/// # Errors
/// The client's.
pub async fn single(database: &Database, write: WriteId) -> Result<i64, Error> {
    let params = params(Insert { write, parts: 1 }, 0);
    Ok(database.execute(INSERT, params).await?.last_insert_rowid)
}

async fn batch(database: &Database, asked: Insert) -> Result<i64, Error> {
    let results = database
        .batch((0..asked.parts).map(|part| (INSERT, params(asked, part))))
        .await?;
    Ok(results.last().map_or(0, |result| result.last_insert_rowid))
}

/// What [`INSERT`] wants for one row of a write.
pub fn params(asked: Insert, part: i64) -> Params {
    let Insert { write, parts } = asked;
    params![write.writer, write.seq, part, parts]
}

async fn interactive(
    session: &mut Session,
    database: &Database,
    asked: Insert,
) -> Outcome<Inserted> {
    let mut transaction = match database.transaction().await {
        Ok(transaction) => transaction,
        Err(error) => return not_committed(&error),
    };
    let mut newest = 0;
    for part in 0..asked.parts {
        match transaction.execute(INSERT, params(asked, part)).await {
            Ok(result) => newest = result.last_insert_rowid,
            Err(error) => return not_committed(&error),
        }
        session.dawdle().await;
    }
    if session.rng.random_ratio(1, 16) {
        // Whether the node hears of it or not: nobody will ever ask for the commit.
        drop(transaction);
        return Outcome::Failed("rolled back".to_owned());
    }
    told(transaction.commit().await.map(|()| newest))
}

/// What a writer was told.
pub fn told(result: Result<i64, Error>) -> Outcome<Inserted> {
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
    let mut newest = 0;
    loop {
        // Mostly what is new, sometimes everything.
        let after = if session.rng.random_ratio(1, 8) {
            0
        } else {
            newest
        };
        let ticket = session
            .recorder
            .invoke(session.caller(level), ReadRows { after });
        let outcome = rows_after(&database, after).await;
        if let (true, Some(rows)) = (level.keeps_session_order(), outcome.ok()) {
            newest = rows.last().map_or(newest, |row| row.id);
        }
        session.recorder.returned(ticket, outcome);
        session.pause().await?;
    }
}

/// The rows with greater ids.
pub async fn rows_after(database: &Database, after: i64) -> Outcome<Vec<Row>> {
    let rows = database.query(SELECT, params![after]).await;
    read_outcome(rows.and_then(|rows| rows_of(&rows)))
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
