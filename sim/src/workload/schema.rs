//! Changes of the schema and VACUUM, in the midst of everything else. Its tables are its own; indexes it also puts on those of others.
//!
//! It records nothing: the others must not notice. It only looks whether its own tables hold what it put there.

use halite_client::{Database, ErrorKind, params};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::Session;

/// Tables of its own at a time.
const TABLES: u64 = 3;
/// Columns of tables that may be there.
const INDEXABLE: [&str; 4] = [
    "log (writer, seq)",
    "accounts (balance)",
    "registers (tag)",
    "transfers (\"from\", amount)",
];

/// A session that changes the schema.
pub async fn run(mut session: Session) -> Option<()> {
    let database = session.connect().await?.database(&session.database);
    let full_text = session.rng.random();
    loop {
        session.pause().await?;
        let table = format!(
            "own{}_{}",
            session.number,
            session.rng.random_range(0..TABLES)
        );
        let sql = match session.rng.random_range(0..12) {
            0 | 1 => {
                rebuild(&mut session, &database, &table).await;
                continue;
            }
            2 => {
                look(&session, &database, &table).await;
                continue;
            }
            3 => "VACUUM".to_owned(),
            4 => "ANALYZE".to_owned(),
            5 => format!("DROP TABLE IF EXISTS {table}"),
            6 => {
                let column = session.rng.random_range(0..1_000);
                format!("ALTER TABLE {table} ADD COLUMN c{column} TEXT DEFAULT 'none'")
            }
            7 => format!("CREATE INDEX IF NOT EXISTS {table}_size ON {table} (size)"),
            8 => format!("DROP INDEX IF EXISTS {table}_size"),
            9 if full_text => format!("CREATE VIRTUAL TABLE {table}_text USING fts5 (body)"),
            9 => format!("ALTER TABLE {table} RENAME COLUMN padding TO padding"),
            10 => match INDEXABLE.choose(&mut session.rng) {
                Some(columns) => format!("CREATE INDEX IF NOT EXISTS {table}_other ON {columns}"),
                None => continue,
            },
            _ => format!("DROP INDEX IF EXISTS {table}_other"),
        };
        let done = database.execute(&sql, ()).await.map(|_| ());
        session.note(&sql, &done);
    }
}

/// Makes a table anew and fills it: it holds `size` rows that each say so, or it is not there.
async fn rebuild(session: &mut Session, database: &Database, table: &str) {
    let size = session.rng.random_range(1..60_i64);
    let statements = [
        (format!("DROP TABLE IF EXISTS {table}"), params![]),
        (
            format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, size INTEGER, padding BLOB)"),
            params![],
        ),
        (
            format!(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                 INSERT INTO {table} (size, padding) SELECT ?1, zeroblob(400) FROM n"
            ),
            params![size],
        ),
    ];
    let done = database.batch(statements).await.map(|_| ());
    session.note(&format!("rebuild {table}"), &done);
}

async fn look(session: &Session, database: &Database, table: &str) {
    let sql = format!("SELECT count(*), min(size), max(size) FROM {table}");
    let rows = match database.query(&sql, ()).await {
        Ok(rows) => rows,
        // It was not made yet.
        Err(error) if matches!(error.kind(), ErrorKind::Sql { code: 1, .. }) => return,
        Err(error) => return session.note(&sql, &Err::<(), _>(error)),
    };
    let found: Vec<Option<i64>> = (0..3)
        .filter_map(|column| rows.first()?.get(column).ok())
        .collect();
    if found.iter().any(|value| *value != found[0]) {
        session.recorder.complain(format!(
            "{table} of {} holds {found:?}: rows, least and greatest number of rows they speak of",
            session.database
        ));
    }
}
