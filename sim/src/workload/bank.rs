//! Money that only changes hands between a few accounts, by batches and interactive transactions; and readers of all balances.

use std::collections::BTreeMap;

use halite_checks::{AccountId, Level, Outcome, ReadBalances, Transfer, TransferId};
use halite_client::{Database, Error, Params, Rows, Transaction, params};
use rand::Rng as _;

use super::{Session, Way, Ways, client_level, not_committed, read_outcome};
use crate::recorder::outcome_of;

/// All balances.
pub const SELECT: &str = "SELECT id, balance FROM accounts ORDER BY id";
/// The ledger.
pub const SELECT_LEDGER: &str = "SELECT id, \"from\", \"to\", amount FROM transfers ORDER BY id";
/// Ids of transfers are not unique to SQLite: one that is applied twice is to be seen.
const SCHEMA: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS transfers (id INTEGER NOT NULL, \"from\" INTEGER NOT NULL, \"to\" INTEGER NOT NULL, \
     amount INTEGER NOT NULL)",
];
const ADD: &str = "UPDATE accounts SET balance = balance + ?2 WHERE id = ?1";
const SET: &str = "UPDATE accounts SET balance = ?2 WHERE id = ?1";
const BALANCE: &str = "SELECT balance FROM accounts WHERE id = ?1";
const NOTE: &str = "INSERT INTO transfers (id, \"from\", \"to\", amount) VALUES (?1, ?2, ?3, ?4)";
const ACCOUNTS: u64 = 6;
const OPENING: i64 = 100;

/// Balances before the first transfer.
pub fn opening() -> BTreeMap<AccountId, i64> {
    (1..=ACCOUNTS).map(|id| (AccountId(id), OPENING)).collect()
}

/// A session that transfers money.
pub async fn write(mut session: Session) -> Option<()> {
    let database = session.connect().await?.database(&session.database);
    open(&mut session, &database).await?;
    let ways = Ways::draw(&mut session.rng);
    for count in 1.. {
        let asked = draw(&mut session, count);
        let ticket = session.recorder.invoke(session.writer(), asked);
        let outcome = match ways.pick(&mut session.rng) {
            Way::Single | Way::Batch => batch(&database, asked).await,
            Way::Interactive => interactive(&mut session, &database, asked).await,
        };
        session.recorder.returned(ticket, outcome);
        session.pause().await?;
    }
    None
}

/// The tables and the money in them come in one transaction.
async fn open(session: &mut Session, database: &Database) -> Option<()> {
    session.recorder.open_bank(opening());
    let fill = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS}) \
         INSERT OR IGNORE INTO accounts SELECT i, {OPENING} FROM n"
    );
    let [accounts, transfers] = SCHEMA;
    session
        .prepare(database, &[accounts, transfers, &fill])
        .await
}

fn draw(session: &mut Session, count: u64) -> Transfer {
    let from = session.rng.random_range(1..=ACCOUNTS);
    let onward = session.rng.random_range(1..ACCOUNTS);
    Transfer {
        id: TransferId(session.unique(count)),
        from: AccountId(from),
        to: AccountId((from + onward - 1) % ACCOUNTS + 1),
        amount: session.rng.random_range(1..30),
    }
}

async fn batch(database: &Database, asked: Transfer) -> Outcome<()> {
    let statements = [
        (ADD, params![asked.from.0.cast_signed(), -asked.amount]),
        (ADD, params![asked.to.0.cast_signed(), asked.amount]),
        (NOTE, note(asked)),
    ];
    match database.batch(statements).await {
        Ok(_) => Outcome::Ok(()),
        Err(error) => outcome_of(&error),
    }
}

fn note(asked: Transfer) -> Params {
    let Transfer {
        id,
        from,
        to,
        amount,
    } = asked;
    let [id, from, to] = [id.0, from.0, to.0].map(u64::cast_signed);
    params![id, from, to, amount]
}

/// Computes the balances itself from what it has read: whoever gets between shows.
async fn interactive(session: &mut Session, database: &Database, asked: Transfer) -> Outcome<()> {
    let mut transaction = match database.transaction().await {
        Ok(transaction) => transaction,
        Err(error) => return not_committed(&error),
    };
    match steps(session, &mut transaction, asked).await {
        Ok(true) => match transaction.commit().await {
            Ok(()) => Outcome::Ok(()),
            Err(error) => outcome_of(&error),
        },
        Ok(false) => {
            // The answer tells nothing: without a commit nothing is kept.
            let _ = transaction.rollback().await;
            Outcome::Failed("too little money".to_owned())
        }
        Err(error) => not_committed(&error),
    }
}

async fn steps(
    session: &mut Session,
    transaction: &mut Transaction,
    asked: Transfer,
) -> Result<bool, Error> {
    let mut balances = Vec::new();
    for account in [asked.from, asked.to] {
        let found = transaction
            .query(BALANCE, params![account.0.cast_signed()])
            .await?;
        let balance: i64 = match found.first() {
            Some(row) => row.get(0)?,
            None => return Ok(false),
        };
        balances.push(balance);
        session.dawdle().await;
    }
    if balances[0] < asked.amount {
        return Ok(false);
    }
    let changes = [
        (asked.from, balances[0] - asked.amount),
        (asked.to, balances[1] + asked.amount),
    ];
    for (account, balance) in changes {
        transaction
            .execute(SET, params![account.0.cast_signed(), balance])
            .await?;
        session.dawdle().await;
    }
    transaction.execute(NOTE, note(asked)).await?;
    Ok(true)
}

/// A session that reads all balances, at one level.
pub async fn read(mut session: Session, level: Level) -> Option<()> {
    session.recorder.open_bank(opening());
    let database = session
        .connect()
        .await?
        .database(&session.database)
        .with_level(client_level(level));
    loop {
        let ticket = session.recorder.invoke(session.caller(level), ReadBalances);
        let rows = database.query(SELECT, ()).await;
        let balances = rows.and_then(|rows| balances_of(&rows));
        session.recorder.returned(ticket, read_outcome(balances));
        session.pause().await?;
    }
}

fn balances_of(rows: &Rows) -> Result<BTreeMap<AccountId, i64>, Error> {
    rows.iter()
        .map(|row| Ok((AccountId(row.get(0)?), row.get(1)?)))
        .collect()
}
