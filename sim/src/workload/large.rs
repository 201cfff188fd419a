//! Transactions that do not fit: larger than SQLite's page cache, so that they spill into the WAL, and larger than one log entry, so
//! that they travel in chunks. Each notes itself among the rows of the set before and after its bulk: all of it is kept, or nothing.

use std::time::Duration;

use halite_checks::{Insert, Inserted, Outcome};
use halite_client::{Database, Params, params};
use rand::{Rng as _, RngCore as _};

use super::{Session, not_committed, set};

/// The bulk.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS bulk (id INTEGER PRIMARY KEY, data BLOB NOT NULL)";
/// What cannot be compressed: pages are compressed one by one, so that copies of one blob do.
const COPIES: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2) \
     INSERT INTO bulk (data) SELECT ?1 FROM n";
/// What can: many pages, and one short entry.
const ZEROS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2) \
     INSERT INTO bulk (data) SELECT zeroblob(?1) FROM n";
const EMPTY: &str = "DELETE FROM bulk";
const BLOB_BYTES: usize = 48 << 10;
/// 1.2 to 4 MiB: SQLite's cache holds 2, a log entry 1.
const BLOBS: std::ops::Range<i64> = 26..86;
/// The simulation stands still while a node writes so much: a few of them are enough.
const WRITES_MAX: i64 = 4;
/// Longest pause between two of them.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A session that writes a few of them.
pub async fn write(mut session: Session) -> Option<()> {
    let database = session.connect().await?.database(&session.database);
    session.prepare(&database, &[set::SCHEMA, SCHEMA]).await?;
    session.pause = PAUSE_MAX;
    for seq in 1..=WRITES_MAX {
        session.pause().await?;
        let asked = Insert {
            write: session.write(seq),
            parts: 2,
        };
        let statements = statements(&mut session, asked);
        let ticket = session.recorder.invoke(session.writer(), asked);
        let outcome = if session.rng.random() {
            let batch = database.batch(statements).await;
            set::told(batch.map(|results| results.last().map_or(0, |r| r.last_insert_rowid)))
        } else {
            interactive(&mut session, &database, statements).await
        };
        session.recorder.returned(ticket, outcome);
    }
    Some(())
}

type Text = (&'static str, Params);

fn statements(session: &mut Session, asked: Insert) -> Vec<Text> {
    let blobs = session.rng.random_range(BLOBS);
    let mut statements = vec![(set::INSERT, set::params(asked, 0))];
    if session.rng.random_ratio(1, 3) {
        statements.push((EMPTY, Params::new()));
    }
    statements.push(if session.rng.random_ratio(1, 4) {
        (ZEROS, params![BLOB_BYTES as i64, blobs])
    } else {
        let mut blob = vec![0; BLOB_BYTES];
        session.rng.fill_bytes(&mut blob);
        (COPIES, params![blob, blobs])
    });
    statements.push((set::INSERT, set::params(asked, 1)));
    statements
}

async fn interactive(
    session: &mut Session,
    database: &Database,
    statements: Vec<Text>,
) -> Outcome<Inserted> {
    let mut transaction = match database.transaction().await {
        Ok(transaction) => transaction,
        Err(error) => return not_committed(&error),
    };
    let mut newest = 0;
    for (sql, params) in statements {
        match transaction.execute(sql, params).await {
            Ok(result) => newest = result.last_insert_rowid,
            Err(error) => return not_committed(&error),
        }
        session.dawdle().await;
    }
    set::told(transaction.commit().await.map(|()| newest))
}
