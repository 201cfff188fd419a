//! Transactions that append to lists and read them, by batches and interactive transactions; and readers of several lists at once.

use std::collections::BTreeMap;

use halite_checks::{Element, Key, Level, ListTransaction, Outcome, Step};
use halite_client::{Database, Error, Params, Rows, params};
use rand::Rng as _;

use super::{Session, Way, Ways, client_level, not_committed, read_outcome};
use crate::recorder::outcome_of;

/// All lists.
pub const SELECT_ALL: &str = "SELECT key, elements FROM lists ORDER BY key";
const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS lists (key INTEGER PRIMARY KEY, elements TEXT NOT NULL)";
const APPEND: &str = "INSERT INTO lists (key, elements) VALUES (?1, ?2) \
     ON CONFLICT (key) DO UPDATE SET elements = elements || ',' || excluded.elements";
const SELECT: &str = "SELECT elements FROM lists WHERE key = ?1";
const SELECT_THREE: &str = "SELECT key, elements FROM lists WHERE key IN (?1, ?2, ?3)";
/// Lists in use at a time.
const KEYS: u64 = 4;
/// After so many transactions of a session one list is left and a new one begun: long ones are read again and again.
const TRANSACTIONS_PER_KEY: u64 = 30;
const STEPS_MAX: usize = 5;

/// A session that appends and reads.
pub async fn write(mut session: Session) -> Option<()> {
    let database = session.connect().await?.database(&session.database);
    session.prepare(&database, &[SCHEMA]).await?;
    let ways = Ways::draw(&mut session.rng);
    for count in 0.. {
        let steps = draw(&mut session, count);
        let asked = ListTransaction {
            steps: steps.clone(),
        };
        let ticket = session.recorder.invoke(session.writer(), asked);
        let outcome = match ways.pick(&mut session.rng) {
            Way::Single | Way::Batch => batch(&database, &steps).await,
            Way::Interactive => interactive(&mut session, &database, &steps).await,
        };
        session.recorder.returned(ticket, outcome);
        session.pause().await?;
    }
    None
}

/// At least one step appends.
fn draw(session: &mut Session, count: u64) -> Vec<Step> {
    let steps = session.rng.random_range(1..=STEPS_MAX);
    let appends = session.rng.random_range(0..steps);
    (0..steps)
        .map(|step| {
            let key = draw_key(session, count);
            if step == appends || session.rng.random_ratio(1, 2) {
                let number = count * STEPS_MAX as u64 + step as u64;
                let element = Element(session.unique(number + 1));
                Step::Append { key, element }
            } else {
                Step::Read { key }
            }
        })
        .collect()
}

fn draw_key(session: &mut Session, count: u64) -> Key {
    Key(count / TRANSACTIONS_PER_KEY + session.rng.random_range(1..=KEYS))
}

fn statement(step: &Step) -> (&'static str, Params) {
    match step {
        Step::Append { key, element } => {
            (APPEND, params![key.0.cast_signed(), element.0.to_string()])
        }
        Step::Read { key } => (SELECT, params![key.0.cast_signed()]),
    }
}

async fn batch(database: &Database, steps: &[Step]) -> Outcome<Vec<Vec<Element>>> {
    let results = match database.batch(steps.iter().map(statement)).await {
        Ok(results) => results,
        Err(error) => return outcome_of(&error),
    };
    let mut lists = Vec::new();
    for (step, result) in steps.iter().zip(&results) {
        if let Step::Read { .. } = step {
            if result.rows.columns().is_empty() {
                // An earlier try was carried out, and what it read is not known any more.
                return Outcome::Unknown("kept, without its rows".to_owned());
            }
            match list_of(&result.rows) {
                Ok(list) => lists.push(list),
                Err(error) => return Outcome::Unknown(error.to_string()),
            }
        }
    }
    Outcome::Ok(lists)
}

async fn interactive(
    session: &mut Session,
    database: &Database,
    steps: &[Step],
) -> Outcome<Vec<Vec<Element>>> {
    let mut transaction = match database.transaction().await {
        Ok(transaction) => transaction,
        Err(error) => return not_committed(&error),
    };
    let mut lists = Vec::new();
    for step in steps {
        let (sql, params) = statement(step);
        let done = match step {
            Step::Append { .. } => transaction.execute(sql, params).await.map(|_| ()),
            Step::Read { .. } => {
                let read = transaction.query(sql, params).await;
                read.and_then(|rows| list_of(&rows))
                    .map(|list| lists.push(list))
            }
        };
        if let Err(error) = done {
            return not_committed(&error);
        }
        session.dawdle().await;
    }
    match transaction.commit().await {
        Ok(()) => Outcome::Ok(lists),
        Err(error) => outcome_of(&error),
    }
}

fn list_of(rows: &Rows) -> Result<Vec<Element>, Error> {
    let Some(row) = rows.first() else {
        return Ok(Vec::new());
    };
    Ok(parse(&row.get::<String>(0)?))
}

/// A list as its row has it. What is no number is 0, which nobody appends.
pub fn parse(elements: &str) -> Vec<Element> {
    elements
        .split(',')
        .map(|element| Element(element.parse().unwrap_or(0)))
        .collect()
}

/// A session that reads three lists in one statement, at one level.
pub async fn read(mut session: Session, level: Level) -> Option<()> {
    let database = session
        .connect()
        .await?
        .database(&session.database)
        .with_level(client_level(level));
    for count in 0.. {
        let keys = [(); 3].map(|()| draw_key(&mut session, count));
        let steps = keys.map(|key| Step::Read { key }).to_vec();
        let ticket = session
            .recorder
            .invoke(session.caller(level), ListTransaction { steps });
        let [a, b, c] = keys.map(|key| key.0.cast_signed());
        let params = params![a, b, c];
        let rows = if level == Level::Linearizable && session.rng.random_ratio(1, 4) {
            in_transaction(&database, params).await
        } else {
            database.query(SELECT_THREE, params).await
        };
        let lists = rows.and_then(|rows| lists_of(&rows));
        let asked_for = lists.map(|lists| {
            let list = |key| lists.get(key).cloned().unwrap_or_default();
            keys.iter().map(list).collect()
        });
        let outcome = read_outcome(asked_for);
        session.recorder.returned(ticket, outcome);
        session.pause().await?;
    }
    None
}

/// A transaction that only reads: once it has committed, it was at the primary, and saw all that had been acknowledged.
async fn in_transaction(database: &Database, params: Params) -> Result<Rows, Error> {
    let mut transaction = database.transaction().await?;
    let rows = transaction.query(SELECT_THREE, params).await?;
    transaction.commit().await?;
    Ok(rows)
}

fn lists_of(rows: &Rows) -> Result<BTreeMap<Key, Vec<Element>>, Error> {
    rows.iter()
        .map(|row| {
            let elements: String = row.get(1)?;
            Ok((Key(row.get(0)?), parse(&elements)))
        })
        .collect()
}
