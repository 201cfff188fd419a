//! SQLite without Halite: the same library, on one connection to a file of its own.

use std::path::Path;

use anyhow::Result;
use halite_client::Value;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection};

use super::fixture::Group;
use super::said::{Answer, Counts, Refusal, Rowid, Said};

pub(super) struct Yardstick {
    connection: Connection,
}

impl Yardstick {
    pub(super) fn open(file: &Path) -> Result<Self> {
        let connection = Connection::open(file)?;
        // What SQLite is compiled with by others.
        connection.pragma_update(None, "foreign_keys", false)?;
        Ok(Self { connection })
    }

    /// What each statement of a group is answered with.
    pub(super) fn answers(&self, group: &Group) -> Vec<Said> {
        let statements = group.statements.iter();
        statements
            .map(|statement| match self.answer(&statement.sql) {
                Ok(answer) => Said::Answer(answer),
                Err(error) => Said::Refusal(refusal(error)),
            })
            .collect()
    }

    fn answer(&self, sql: &str) -> rusqlite::Result<Answer> {
        let (rowid_before, total_before) = (
            self.connection.last_insert_rowid(),
            self.connection.total_changes(),
        );
        let Some(mut statement) = Batch::new(&self.connection, sql).next()? else {
            return Ok(Answer::default());
        };
        let width = statement.column_count();
        let columns = statement.column_names();
        let columns = columns.into_iter().map(str::to_owned).collect();
        let mut found = statement.raw_query();
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let values = (0..width).map(|at| row.get_ref(at).map(value));
            rows.push(values.collect::<Result<_, _>>()?);
        }
        drop(found);
        drop(statement);
        let changed = self.connection.total_changes() != total_before;
        let rowid = self.connection.last_insert_rowid();
        let counts = Counts {
            changes: if changed {
                self.connection.changes()
            } else {
                0
            },
            rowid: match rowid == rowid_before {
                true => Rowid::Stood(rowid),
                false => Rowid::Moved(rowid),
            },
        };
        Ok(Answer {
            columns,
            rows,
            counts: Some(counts),
        })
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        // What is not UTF-8 differs from whatever comes over the wire.
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(blob) => Value::from(blob),
    }
}

fn refusal(error: rusqlite::Error) -> Refusal {
    match error {
        rusqlite::Error::SqliteFailure(error, message) => Refusal {
            code: error.extended_code,
            message: message.unwrap_or_else(|| error.to_string()),
        },
        rusqlite::Error::SqlInputError {
            error, msg, offset, ..
        } => Refusal {
            code: error.extended_code,
            message: match offset {
                0.. => format!("{msg} offset={offset}"),
                _ => msg,
            },
        },
        other => Refusal {
            code: 0,
            message: other.to_string(),
        },
    }
}
