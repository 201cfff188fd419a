//! Databases that come and go while the cluster runs.
//!
//! It keeps its own account of what each of them holds, and complains when one holds something else.

use std::time::Duration;

use halite_client::{Client, Database, ErrorKind, ReadLevel, params};
use rand::Rng as _;

use super::Session;

/// Databases of this name are created again and again, with other contents at the same positions.
pub const AGAIN: &str = "again";
/// Pause between two changes.
const PAUSE: Duration = Duration::from_millis(700);
/// A change that is not acknowledged is tried again so often. Each of them can be repeated.
const TRIES: u32 = 20;
const ROWS_MAX: i64 = 12;

/// A session that creates, fills, reads and drops one database after the other.
pub async fn run(mut session: Session) -> Option<()> {
    let client = session.connect().await?;
    session.pause = PAUSE;
    for count in 1.. {
        session.pause().await?;
        let name = if session.rng.random() {
            format!("{AGAIN}{}", session.number)
        } else {
            format!("extra{}", session.unique(count))
        };
        if !create(&mut session, &client, &name).await? {
            continue;
        }
        let database = client.database(&name).with_level(ReadLevel::Linearizable);
        fill(&mut session, &database).await?;
        session.pause().await?;
        drop_it(&mut session, &client, &name).await?;
    }
    None
}

/// True if it is there now.
async fn create(session: &mut Session, client: &Client, name: &str) -> Option<bool> {
    let page_size = 512 << session.rng.random_range(0..6);
    for _ in 0..TRIES {
        let created = client.admin().create_database(name, page_size, true).await;
        session.note(&format!("create {name}"), &created);
        if created.is_ok() {
            return Some(true);
        }
        session.pause().await?;
    }
    Some(false)
}

async fn drop_it(session: &mut Session, client: &Client, name: &str) -> Option<()> {
    for _ in 0..TRIES {
        let dropped = client.admin().drop_database(name, true).await;
        session.note(&format!("drop {name}"), &dropped);
        if dropped.is_ok() {
            break;
        }
        session.pause().await?;
    }
    Some(())
}

/// A new database is empty; then it holds all that was acknowledged, and nothing that was not asked for.
async fn fill(session: &mut Session, database: &Database) -> Option<()> {
    if let Some(tables) = count(session, database, "sqlite_schema").await
        && tables > 0
    {
        let what = format!("{} was new and had {tables} tables", database.name());
        session.recorder.complain(what);
    }
    let created = database.execute("CREATE TABLE t (n INTEGER)", ()).await;
    session.note(&format!("fill {}", database.name()), &created.map(|_| ()));
    let (mut acknowledged, mut asked) = (0, 0);
    for n in 0..session.rng.random_range(1..ROWS_MAX) {
        asked += 1;
        let inserted = database
            .execute("INSERT INTO t VALUES (?1)", params![n])
            .await;
        acknowledged += i64::from(inserted.is_ok());
        if session.rng.random_ratio(1, 3)
            && let Some(found) = count(session, database, "t").await
            && !(acknowledged..=asked).contains(&found)
        {
            session.recorder.complain(format!(
                "{} held {found} rows: acknowledged={acknowledged} asked={asked}",
                database.name()
            ));
        }
        session.pause_within(Duration::from_millis(30)).await?;
    }
    Some(())
}

async fn count(session: &Session, database: &Database, table: &str) -> Option<i64> {
    let sql = format!("SELECT count(*) FROM {table}");
    match database.query(&sql, ()).await {
        Ok(rows) => rows.first()?.get(0).ok(),
        Err(error) => {
            // Its creation was not acknowledged.
            let missing_table = matches!(error.kind(), ErrorKind::Sql { code: 1, .. });
            session.note(&sql, &Err::<(), _>(error));
            (missing_table && table == "t").then_some(0)
        }
    }
}
