//! Counters that are read and written in one transaction, by interactive transactions and by single statements; and readers of one counter.

use halite_checks::{Increment, Key, Level, Outcome, ReadRegister, RegisterValue, Tag};
use halite_client::{Database, Error, Params, Row, Transaction, params};
use rand::Rng as _;

use super::{Session, Way, Ways, client_level, not_committed, read_outcome};
use crate::recorder::outcome_of;

/// All registers.
pub const SELECT_ALL: &str = "SELECT value, tag, replaced, key FROM registers ORDER BY key";
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS registers (key INTEGER PRIMARY KEY, value INTEGER NOT NULL, tag INTEGER NOT NULL, \
     replaced INTEGER NOT NULL)";
const SELECT: &str = "SELECT value, tag, replaced FROM registers WHERE key = ?1";
const WRITE: &str =
    "INSERT OR REPLACE INTO registers (value, tag, replaced, key) VALUES (?2, ?3, ?4, ?1)";
const INCREMENT: &str = "INSERT INTO registers (key, value, tag, replaced) VALUES (?1, 1, ?2, 0) \
     ON CONFLICT (key) DO UPDATE SET value = value + 1, tag = excluded.tag, replaced = tag RETURNING value, tag, replaced";
const KEYS: u64 = 4;

/// A session that increments.
pub async fn write(mut session: Session) -> Option<()> {
    let database = session.connect().await?.database(&session.database);
    session.prepare(&database, &[SCHEMA]).await?;
    let ways = Ways::draw(&mut session.rng);
    for count in 1.. {
        let asked = Increment {
            key: draw(&mut session),
            tag: Tag(session.unique(count)),
        };
        let ticket = session.recorder.invoke(session.writer(), asked);
        let outcome = match ways.pick(&mut session.rng) {
            Way::Single | Way::Batch => single(&database, asked).await,
            Way::Interactive => interactive(&mut session, &database, asked).await,
        };
        session.recorder.returned(ticket, outcome);
        session.pause().await?;
    }
    None
}

fn draw(session: &mut Session) -> Key {
    Key(session.rng.random_range(1..=KEYS))
}

async fn single(database: &Database, asked: Increment) -> Outcome<RegisterValue> {
    let params = params![asked.key.0.cast_signed(), asked.tag.0.cast_signed()];
    match database.execute(INCREMENT, params).await {
        Ok(result) => match result.rows.first().map(value_of) {
            Some(Ok(written)) => Outcome::Ok(written),
            Some(Err(error)) => Outcome::Unknown(error.to_string()),
            // An earlier try was carried out, and what it returned is not known any more.
            None => Outcome::Unknown("kept, without its rows".to_owned()),
        },
        Err(error) => outcome_of(&error),
    }
}

async fn interactive(
    session: &mut Session,
    database: &Database,
    asked: Increment,
) -> Outcome<RegisterValue> {
    let mut transaction = match database.transaction().await {
        Ok(transaction) => transaction,
        Err(error) => return not_committed(&error),
    };
    let written = match steps(session, &mut transaction, asked).await {
        Ok(written) => written,
        Err(error) => return not_committed(&error),
    };
    match transaction.commit().await {
        Ok(()) => Outcome::Ok(written),
        Err(error) => outcome_of(&error),
    }
}

async fn steps(
    session: &mut Session,
    transaction: &mut Transaction,
    asked: Increment,
) -> Result<RegisterValue, Error> {
    let key = asked.key.0.cast_signed();
    let found = transaction.query(SELECT, params![key]).await?;
    session.dawdle().await;
    let next = found.first().map_or(Ok(RegisterValue::INITIAL), value_of)?;
    let next = next.next(asked.tag);
    transaction.execute(WRITE, params_of(key, next)).await?;
    session.dawdle().await;
    Ok(next)
}

fn params_of(key: i64, written: RegisterValue) -> Params {
    let RegisterValue {
        value,
        tag,
        replaced,
    } = written;
    params![key, value, tag.0.cast_signed(), replaced.0.cast_signed()]
}

fn value_of(row: &Row) -> Result<RegisterValue, Error> {
    Ok(RegisterValue {
        value: row.get(0)?,
        tag: Tag(row.get(1)?),
        replaced: Tag(row.get(2)?),
    })
}

/// A session that reads, at one level.
pub async fn read(mut session: Session, level: Level) -> Option<()> {
    let database = session
        .connect()
        .await?
        .database(&session.database)
        .with_level(client_level(level));
    loop {
        let key = draw(&mut session);
        let ticket = session
            .recorder
            .invoke(session.caller(level), ReadRegister { key });
        let rows = database.query(SELECT, params![key.0.cast_signed()]).await;
        let value = rows.and_then(|rows| rows.first().map_or(Ok(RegisterValue::INITIAL), value_of));
        session.recorder.returned(ticket, read_outcome(value));
        session.pause().await?;
    }
}
