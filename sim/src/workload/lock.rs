//! Locks, as applications make them of a table: taken, renewed, passed on and let go by conditional statements that mostly change nothing.
//!
//! What a statement says that changed nothing is as much of an answer as what one says that did. So everything is recorded: updates of
//! no row, renewals that leave every byte as it was, with rows and without, constraints that are violated, conflicts that are resolved into
//! what was there, transactions that only read.

use std::collections::BTreeMap;

use halite_checks::{Holder, Key, LockAnswer, LockRequest, LockStep, Outcome};
use halite_client::{Database, Error, ReadLevel, Rows, params};
use rand::Rng as _;

use super::{Session, Way, Ways, not_committed};
use crate::recorder::outcome_of;

/// All locks.
pub const SELECT_ALL: &str = "SELECT key, holder FROM locks ORDER BY key";
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS locks (id INTEGER PRIMARY KEY, key INTEGER NOT NULL UNIQUE, holder INTEGER NOT NULL)";
const SELECT: &str = "SELECT holder FROM locks WHERE key = ?1";
const INSERT: &str = "INSERT INTO locks (key, holder) VALUES (?1, ?2)";
const INSERT_OR_ROLLBACK: &str = "INSERT OR ROLLBACK INTO locks (key, holder) VALUES (?1, ?2)";
const SETTLE: &str = "INSERT INTO locks (key, holder) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET holder = holder RETURNING holder";
const UPDATE: &str = "UPDATE locks SET holder = ?3 WHERE key = ?1 AND holder = ?2";
const UPDATE_RETURNING: &str =
    "UPDATE locks SET holder = ?3 WHERE key = ?1 AND holder = ?2 RETURNING holder";
const DELETE: &str = "DELETE FROM locks WHERE key = ?1 AND holder = ?2";
/// Makes a batch of reads one that the primary has to run as a write.
const UPDATE_NOTHING: &str = "UPDATE locks SET holder = holder WHERE key < 0";
/// `SQLITE_CONSTRAINT_UNIQUE`.
const UNIQUE: i32 = 2067;
const KEYS: u64 = 3;

/// Who has which lock, as far as a session knows.
type Known = BTreeMap<Key, Option<Holder>>;

/// A session that wants locks.
pub async fn run(mut session: Session) -> Option<()> {
    let database = session.connect().await?.database(&session.database);
    session.prepare(&database, &[SCHEMA]).await?;
    let ways = Ways::draw(&mut session.rng);
    let (mut known, mut mine) = (Known::new(), BTreeMap::new());
    for count in 1.. {
        let key = Key(session.rng.random_range(1..=KEYS));
        let holder = Holder(session.unique(count));
        let step = draw(
            &mut session,
            known.get(&key).copied(),
            mine.get(&key),
            holder,
        );
        let asked = LockRequest { key, step };
        let way = ways.pick(&mut session.rng);
        let ticket = session.recorder.invoke(session.writer(), asked);
        let outcome = ask(&mut session, &database, asked, way).await;
        remember(asked, outcome.ok(), &mut known, &mut mine);
        session.recorder.returned(ticket, outcome);
        session.pause().await?;
    }
    None
}

fn draw(
    session: &mut Session,
    known: Option<Option<Holder>>,
    mine: Option<&Holder>,
    holder: Holder,
) -> LockStep {
    let draw = session.rng.random_range(0..20);
    match (mine, known) {
        (Some(&mine), _) => match draw {
            0..12 => LockStep::Pass {
                from: mine,
                to: mine,
            },
            12..14 => LockStep::Pass {
                from: mine,
                to: holder,
            },
            14..16 => LockStep::Release(mine),
            16..18 => LockStep::Settle(holder),
            _ => LockStep::Look,
        },
        (None, Some(Some(other))) if draw < 8 => LockStep::Pass {
            from: other,
            to: holder,
        },
        (None, _) => match draw {
            0..14 => LockStep::Look,
            14..17 => LockStep::Take(holder),
            _ => LockStep::Settle(holder),
        },
    }
}

fn remember(
    asked: LockRequest,
    told: Option<&LockAnswer>,
    known: &mut Known,
    mine: &mut BTreeMap<Key, Holder>,
) {
    let key = asked.key;
    let held = match (asked.step, told) {
        (LockStep::Take(holder), Some(LockAnswer::Done(true))) => Some(Some(holder)),
        (LockStep::Pass { to, .. }, Some(LockAnswer::Done(true))) => Some(Some(to)),
        (LockStep::Release(_), Some(LockAnswer::Done(true))) => Some(None),
        (_, Some(LockAnswer::Held(held))) => Some(*held),
        _ => None,
    };
    let own = mine.remove(&key);
    match held {
        None => drop(known.remove(&key)),
        Some(held) => drop(known.insert(key, held)),
    }
    let got = match asked.step {
        LockStep::Take(holder) | LockStep::Settle(holder) => Some(holder),
        LockStep::Pass { to, .. } => Some(to),
        LockStep::Release(_) | LockStep::Look => None,
    };
    if let Some(Some(held)) = held
        && (own == Some(held) || got == Some(held))
    {
        mine.insert(key, held);
    }
}

async fn ask(
    session: &mut Session,
    database: &Database,
    asked: LockRequest,
    way: Way,
) -> Outcome<LockAnswer> {
    let key = asked.key.0.cast_signed();
    match asked.step {
        LockStep::Look => look(session, database, key, way).await,
        LockStep::Settle(holder) => {
            let settled = database
                .execute(SETTLE, params![key, holder.0.cast_signed()])
                .await;
            match settled.and_then(|result| holder_of(&result.rows)) {
                Ok(Some(holder)) => Outcome::Ok(LockAnswer::Held(Some(holder))),
                // An earlier try was carried out, and what it returned is not known any more.
                Ok(None) => Outcome::Unknown("kept, without its rows".to_owned()),
                Err(error) => outcome_of(&error),
            }
        }
        LockStep::Take(holder) => {
            let sql = match session.rng.random_ratio(1, 3) {
                true => INSERT_OR_ROLLBACK,
                false => INSERT,
            };
            match database
                .execute(sql, params![key, holder.0.cast_signed()])
                .await
            {
                Ok(_) => Outcome::Ok(LockAnswer::Done(true)),
                Err(error) if error.sqlite_code() == Some(UNIQUE) => {
                    Outcome::Ok(LockAnswer::Done(false))
                }
                Err(error) => outcome_of(&error),
            }
        }
        LockStep::Release(holder) => {
            let params = params![key, holder.0.cast_signed()];
            affected(
                database
                    .execute(DELETE, params)
                    .await
                    .map(|r| r.rows_affected),
            )
        }
        LockStep::Pass { from, to } => pass(session, database, asked.key, from, to, way).await,
    }
}

async fn pass(
    session: &mut Session,
    database: &Database,
    key: Key,
    from: Holder,
    to: Holder,
    way: Way,
) -> Outcome<LockAnswer> {
    let params = || {
        params![
            key.0.cast_signed(),
            from.0.cast_signed(),
            to.0.cast_signed()
        ]
    };
    match way {
        Way::Single => affected(
            database
                .execute(UPDATE, params())
                .await
                .map(|result| result.rows_affected),
        ),
        Way::Batch => {
            let result = database.execute(UPDATE_RETURNING, params()).await;
            if let Ok(result) = &result
                && !matches!(holder_of(&result.rows), Ok(None))
                && !matches!(holder_of(&result.rows), Ok(Some(holder)) if holder == to)
            {
                let number = session.number;
                let what = format!("session {number}: {result:?} came of a pass to {}", to.0);
                session.recorder.complain(what);
            }
            affected(result.map(|result| result.rows_affected))
        }
        Way::Interactive => {
            let mut transaction = match database.transaction().await {
                Ok(transaction) => transaction,
                Err(error) => return not_committed(&error),
            };
            let changed = match transaction.execute(UPDATE, params()).await {
                Ok(result) => result.rows_affected,
                Err(error) => return not_committed(&error),
            };
            session.dawdle().await;
            affected(transaction.commit().await.map(|()| changed))
        }
    }
}

async fn look(
    session: &mut Session,
    database: &Database,
    key: i64,
    way: Way,
) -> Outcome<LockAnswer> {
    let seen = match way {
        Way::Single => {
            let strict = database.with_level(ReadLevel::Linearizable);
            strict.query(SELECT, params![key]).await
        }
        Way::Batch => {
            let batch = [(SELECT, params![key]), (UPDATE_NOTHING, params![])];
            match database.batch(batch).await {
                Ok(results) if results[0].rows.columns().is_empty() => {
                    return Outcome::Failed("kept, without its rows".to_owned());
                }
                Ok(mut results) => Ok(results.swap_remove(0).rows),
                Err(error) => Err(error),
            }
        }
        Way::Interactive => read_only(session, database, key).await,
    };
    match seen.and_then(|rows| holder_of(&rows)) {
        Ok(holder) => Outcome::Ok(LockAnswer::Held(holder)),
        // Nothing was to be written.
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

async fn read_only(session: &mut Session, database: &Database, key: i64) -> Result<Rows, Error> {
    let mut transaction = database.transaction().await?;
    let rows = transaction.query(SELECT, params![key]).await?;
    session.dawdle().await;
    transaction.commit().await?;
    Ok(rows)
}

fn affected(rows: Result<u64, Error>) -> Outcome<LockAnswer> {
    match rows {
        Ok(rows) => Outcome::Ok(LockAnswer::Done(rows > 0)),
        Err(error) => outcome_of(&error),
    }
}

fn holder_of(rows: &Rows) -> Result<Option<Holder>, Error> {
    let first = rows.first().map(|row| row.get(0));
    Ok(first.transpose()?.map(Holder))
}
