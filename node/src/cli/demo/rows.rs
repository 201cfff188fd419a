//! The demo's own tables in the cluster: how a write is made, read while the demo runs, and read back in the end.

use std::collections::BTreeMap;

use halite_client::{Error, Row, Statement, params};
use rusqlite::Connection;

use super::ledger::WriteId;

/// Rows that a reader takes at once.
const TAIL_ROWS_MAX: i64 = 2000;
/// Every so manieth write of a writer goes into the full-text index, too.
const SEARCHABLE_EVERY: i64 = 4;

/// Names of the demo's tables: one row for each write, the number of writes of each writer, and a full-text index.
///
/// Neither a primary key nor a unique index would let a write be there twice, so there is none over (writer, seq).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tables {
    writes: String,
    counters: String,
    search: String,
}

impl Tables {
    /// Names that begin like none of those that are taken.
    pub(super) fn beside(taken: &[String]) -> Self {
        let free = |prefix: &String| {
            !taken
                .iter()
                .any(|name| name.to_ascii_lowercase().starts_with(prefix.as_str()))
        };
        let numbered = (2_u32..).map(|number| format!("halite_demo{number}"));
        let prefix = std::iter::once("halite_demo".to_owned())
            .chain(numbered)
            .find(free)
            .unwrap_or_default();
        Self {
            writes: format!("{prefix}_writes"),
            counters: format!("{prefix}_counters"),
            search: format!("{prefix}_search"),
        }
    }

    pub(super) fn writes(&self) -> &str {
        &self.writes
    }

    /// One transaction that makes the tables.
    pub(super) fn create(&self, writers: &[i64]) -> Vec<Statement> {
        let Self {
            writes,
            counters,
            search,
        } = self;
        let mut statements = vec![
            Statement::from(format!("CREATE TABLE {writes}(id INTEGER PRIMARY KEY, writer INTEGER NOT NULL, seq INTEGER NOT NULL, note TEXT NOT NULL)").as_str()),
            Statement::from(format!("CREATE INDEX {writes}_by_note ON {writes}(note)").as_str()),
            Statement::from(format!("CREATE TABLE {counters}(writer INTEGER PRIMARY KEY, writes INTEGER NOT NULL)").as_str()),
            Statement::from(format!("CREATE VIRTUAL TABLE {search} USING fts5(note)").as_str()),
        ];
        statements.extend(writers.iter().map(|writer| {
            Statement::new(format!("INSERT INTO {counters} VALUES (?1, 0)"), [*writer])
        }));
        statements
    }

    /// One write: a transaction of two or three statements, of which all or none may be kept.
    pub(super) fn write(&self, write: WriteId) -> Vec<Statement> {
        let WriteId { writer, seq } = write;
        let note = write.note();
        let mut statements = vec![
            Statement::new(
                format!(
                    "INSERT INTO {}(writer, seq, note) VALUES (?1, ?2, ?3)",
                    self.writes
                ),
                params![writer, seq, note.clone()],
            ),
            Statement::new(
                format!(
                    "UPDATE {} SET writes = writes + 1 WHERE writer = ?1",
                    self.counters
                ),
                [writer],
            ),
        ];
        if is_searchable(write) {
            statements.push(Statement::new(
                format!("INSERT INTO {}(note) VALUES (?1)", self.search),
                [note],
            ));
        }
        statements
    }

    /// How many writes of `?1` there are.
    pub(super) fn counter_query(&self) -> String {
        format!("SELECT writes FROM {} WHERE writer = ?1", self.counters)
    }

    /// In one read: how many rows there are up to `?1`, and the rows after it. For [`tail`].
    pub(super) fn tail_query(&self) -> String {
        let writes = &self.writes;
        format!(
            "SELECT 0, count(*), 0 FROM {writes} WHERE id <= ?1 \
             UNION ALL SELECT * FROM (SELECT id, writer, seq FROM {writes} WHERE id > ?1 ORDER BY id LIMIT {TAIL_ROWS_MAX})"
        )
    }

    /// What all of it came to, read from a copy of the database. Blocks.
    pub(super) fn read_back(&self, copy: &Connection) -> rusqlite::Result<Found> {
        let mut found = Found::default();
        let mut rows = copy.prepare(&format!(
            "SELECT id, writer, seq, note FROM {}",
            self.writes
        ))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let write = WriteId {
                writer: row.get(1)?,
                seq: row.get(2)?,
            };
            if row.get::<_, String>(3)? != write.note() {
                found.garbled.push(write);
            }
            found.rows.insert(row.get(0)?, write);
        }
        let mut counters =
            copy.prepare(&format!("SELECT writer, writes FROM {}", self.counters))?;
        let counters = counters.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.counters = counters.collect::<rusqlite::Result<_>>()?;
        // A word of the note is looked up: the full-text index has to find what its table holds.
        let mut search = copy.prepare(&format!(
            "SELECT count(*) FROM {search} WHERE {search} MATCH ?1",
            search = self.search
        ))?;
        for write in found.rows.values().filter(|write| is_searchable(**write)) {
            let phrase = format!("\"{}\"", write.note());
            if search.query_row([phrase], |row| row.get::<_, i64>(0))? != 1 {
                found.not_searchable.push(*write);
            }
        }
        Ok(found)
    }
}

fn is_searchable(write: WriteId) -> bool {
    write.seq % SEARCHABLE_EVERY == 0
}

/// The answer to [`Tables::tail_query`]: the count, and the rows.
pub(super) fn tail<'a>(
    mut rows: impl Iterator<Item = &'a Row>,
) -> Result<(i64, Vec<(i64, WriteId)>), Error> {
    let count = rows.next().map_or(Ok(0), |row| row.get(1))?;
    let rows = rows.map(|row| {
        let write = WriteId {
            writer: row.get(1)?,
            seq: row.get(2)?,
        };
        Ok((row.get(0)?, write))
    });
    Ok((count, rows.collect::<Result<_, Error>>()?))
}

/// What a copy of the database holds of the demo.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rows: BTreeMap<i64, WriteId>,
    /// With another text than was written.
    garbled: Vec<WriteId>,
    /// Not found exactly once by the full-text index.
    not_searchable: Vec<WriteId>,
    counters: BTreeMap<i64, i64>,
}

impl Found {
    /// Every row has its text, every transaction is there as a whole: row, counter and full-text index agree.
    pub(super) fn is_whole(&self) -> Result<String, String> {
        if let Some(write) = self.garbled.first() {
            let count = self.garbled.len();
            return Err(format!(
                "{count} rows hold another text than was written ({write}, ...)"
            ));
        }
        if let Some(write) = self.not_searchable.first() {
            let count = self.not_searchable.len();
            return Err(format!(
                "{count} rows are not in the full-text index exactly once ({write}, ...)"
            ));
        }
        let mut rows: BTreeMap<i64, i64> =
            self.counters.keys().map(|writer| (*writer, 0)).collect();
        for write in self.rows.values() {
            *rows.entry(write.writer).or_default() += 1;
        }
        match rows
            .iter()
            .find(|(writer, rows)| self.counters.get(writer) != Some(rows))
        {
            None => Ok(
                "no transaction is there in part: rows, counters and full-text index agree"
                    .to_owned(),
            ),
            Some((writer, rows)) => Err(format!(
                "writer {writer} has {rows} rows, but its counter says {:?}",
                self.counters.get(writer)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(seq: i64) -> WriteId {
        WriteId { writer: 1, seq }
    }

    /// As the cluster would have it after `writes`.
    fn database(tables: &Tables, writes: &[WriteId]) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let Tables {
            writes: rows,
            counters,
            search,
        } = tables;
        connection
            .execute_batch(&format!(
                "CREATE TABLE {rows}(id INTEGER PRIMARY KEY, writer, seq, note); CREATE TABLE {counters}(writer INTEGER PRIMARY KEY, writes); \
                 CREATE VIRTUAL TABLE {search} USING fts5(note); INSERT INTO {counters} VALUES (1, {})",
                writes.len()
            ))
            .unwrap();
        for write in writes {
            let insert = format!("INSERT INTO {rows}(writer, seq, note) VALUES (?1, ?2, ?3)");
            connection
                .execute(&insert, (write.writer, write.seq, write.note()))
                .unwrap();
            if is_searchable(*write) {
                let insert = format!("INSERT INTO {search} VALUES (?1)");
                connection.execute(&insert, [write.note()]).unwrap();
            }
        }
        connection
    }

    #[test]
    fn names_never_collide() {
        let beside = |taken: &[&str]| {
            let taken: Vec<String> = taken.iter().map(|name| (*name).to_owned()).collect();
            Tables::beside(&taken).writes
        };
        assert_eq!(beside(&[]), "halite_demo_writes");
        assert_eq!(
            beside(&["user", "Halite_Demo_Writes"]),
            "halite_demo2_writes"
        );
        assert_eq!(
            beside(&["halite_demo_x", "halite_demo2_y"]),
            "halite_demo3_writes"
        );
    }

    #[test]
    fn what_is_whole_is_told_from_what_is_not() {
        let tables = Tables::beside(&[]);
        let writes: Vec<WriteId> = (0..9).map(write).collect();
        let connection = database(&tables, &writes);
        let found = tables.read_back(&connection).unwrap();
        assert_eq!(found.rows.len(), 9);
        assert!(found.is_whole().is_ok(), "{found:?}");
        for (damage, want) in [
            (
                "UPDATE halite_demo_writes SET note = 'x' WHERE seq = 3",
                "1 rows hold another text",
            ),
            (
                "DELETE FROM halite_demo_writes WHERE seq = 3",
                "8 rows, but its counter says Some(9)",
            ),
            ("DELETE FROM halite_demo_counters", "counter says None"),
            (
                "DELETE FROM halite_demo_search WHERE rowid = 1",
                "1 rows are not in the full-text index",
            ),
            (
                "INSERT INTO halite_demo_search SELECT * FROM halite_demo_search",
                "3 rows are not in the full-text index",
            ),
        ] {
            let connection = database(&tables, &writes);
            connection.execute_batch(damage).unwrap();
            let fault = tables
                .read_back(&connection)
                .unwrap()
                .is_whole()
                .unwrap_err();
            assert!(fault.contains(want), "{damage}: {fault}");
        }
    }
}
