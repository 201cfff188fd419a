//! Running one [`v1::Statement`] on a connection: preparing, binding, stepping, and what SQLite's errors mean to the caller.
//!
//! Called by the lane and the reader threads, with the connection's guard armed. Knows nothing of transactions or batches.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use halite_proto::v1;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Row, ffi};

use super::failure;
use super::guard::Guard;

/// SQL longer than this is not kept prepared.
const CACHED_SQL_MAX: usize = 16 << 10;
/// What a value costs beside its bytes when results are limited.
const VALUE_OVERHEAD: usize = 16;

/// A statement ready to be stepped. Statements whose meaning depends on who asks are never kept prepared, since the authorizer
/// is asked when they are prepared only.
pub(super) enum Prepared<'c> {
    Cached(CachedStatement<'c>),
    Plain(rusqlite::Statement<'c>),
}

impl<'c> Deref for Prepared<'c> {
    type Target = rusqlite::Statement<'c>;

    fn deref(&self) -> &Self::Target {
        match self {
            Prepared::Cached(statement) => statement,
            Prepared::Plain(statement) => statement,
        }
    }
}

impl DerefMut for Prepared<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Prepared::Cached(statement) => statement,
            Prepared::Plain(statement) => statement,
        }
    }
}

/// Prepares a statement and binds its arguments.
pub(super) fn prepare<'c>(
    connection: &'c Connection,
    guard: &Guard,
    statement: &v1::Statement,
) -> Result<Prepared<'c>, v1::Error> {
    let keyword = first_keyword(&statement.sql);
    if keyword.is_empty() {
        return Err(failure::invalid("the SQL text holds no statement"));
    }
    let explain = |error| explain(error, guard);
    let mut prepared = if is_cacheable(keyword) && statement.sql.len() <= CACHED_SQL_MAX {
        Prepared::Cached(connection.prepare_cached(&statement.sql).map_err(explain)?)
    } else {
        Prepared::Plain(connection.prepare(&statement.sql).map_err(explain)?)
    };
    bind(&mut prepared, statement).map_err(|error| error.unwrap_or_else(explain))?;
    Ok(prepared)
}

enum BindError {
    Invalid(v1::Error),
    Sqlite(rusqlite::Error),
}

impl BindError {
    fn unwrap_or_else(self, explain: impl FnOnce(rusqlite::Error) -> v1::Error) -> v1::Error {
        match self {
            BindError::Invalid(error) => error,
            BindError::Sqlite(error) => explain(error),
        }
    }
}

fn bind(prepared: &mut Prepared<'_>, statement: &v1::Statement) -> Result<(), BindError> {
    let wanted = prepared.parameter_count();
    let given = statement.args.len();
    if given > wanted {
        let message = format!("too many arguments wanted={wanted} given={given}");
        return Err(BindError::Invalid(failure::invalid(message)));
    }
    for (at, value) in statement.args.iter().enumerate() {
        bind_value(prepared, at + 1, Some(value)).map_err(BindError::Sqlite)?;
    }
    if statement.named_args.is_empty() {
        if given < wanted {
            let message = format!("too few arguments wanted={wanted} given={given}");
            return Err(BindError::Invalid(failure::invalid(message)));
        }
        return Ok(());
    }
    let mut bound = vec![false; wanted];
    bound[..given].fill(true);
    for named in &statement.named_args {
        let index = prepared
            .parameter_index(&named.name)
            .map_err(BindError::Sqlite)?
            .ok_or_else(|| {
                BindError::Invalid(failure::invalid(format!(
                    "no such parameter name={:?}",
                    named.name
                )))
            })?;
        bind_value(prepared, index, named.value.as_ref()).map_err(BindError::Sqlite)?;
        bound[index - 1] = true;
    }
    match bound.iter().position(|bound| !bound) {
        None => Ok(()),
        Some(at) => {
            let name = prepared.parameter_name(at + 1).unwrap_or("?");
            let message = format!("parameter has no value index={} name={name:?}", at + 1);
            Err(BindError::Invalid(failure::invalid(message)))
        }
    }
}

fn bind_value(
    prepared: &mut Prepared<'_>,
    index: usize,
    value: Option<&v1::Value>,
) -> rusqlite::Result<()> {
    use v1::value::Kind;
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::Null(_)) => prepared.raw_bind_parameter(index, rusqlite::types::Null),
        Some(Kind::Integer(integer)) => prepared.raw_bind_parameter(index, integer),
        Some(Kind::Real(real)) => prepared.raw_bind_parameter(index, real),
        Some(Kind::Text(text)) => prepared.raw_bind_parameter(index, text.as_str()),
        Some(Kind::Blob(blob)) => prepared.raw_bind_parameter(index, blob.as_ref()),
    }
}

/// What running a statement gave.
pub(super) struct Ran {
    pub(super) result: v1::StatementResult,
    /// SQLite says that it cannot have changed anything.
    pub(super) read_only: bool,
}

/// Runs a statement to its end and keeps its rows, as long as they fit into `budget` (bytes, counted down).
pub(super) fn run(
    connection: &Connection,
    guard: &Guard,
    statement: &v1::Statement,
    budget: &mut usize,
) -> Result<Ran, v1::Error> {
    let mut prepared = prepare(connection, guard, statement)?;
    let read_only = prepared.readonly();
    let total_before = connection.total_changes();
    let mut result = v1::StatementResult {
        columns: columns(&prepared),
        ..v1::StatementResult::default()
    };
    let width = prepared.column_count();
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next().map_err(|error| explain(error, guard))? {
        let (row, bytes) = read_row(row, width)?;
        *budget = budget.checked_sub(bytes).ok_or_else(|| {
            failure::invalid(
                "the rows are too many for one answer of a write: read them with a query",
            )
        })?;
        result.rows.push(row);
    }
    drop(rows);
    // The count of the statement before is still there after one that counts nothing, such as CREATE TABLE.
    if !read_only && connection.total_changes() != total_before {
        result.rows_affected = connection.changes();
    }
    Ok(Ran { result, read_only })
}

/// Names of the result columns.
pub(super) fn columns(prepared: &Prepared<'_>) -> Vec<String> {
    prepared.column_names().map(str::to_owned).collect()
}

/// Takes a row over; also returns what it costs in bytes.
pub(super) fn read_row(row: &Row<'_>, width: usize) -> Result<(v1::Row, usize), v1::Error> {
    use v1::value::Kind;
    let mut values = Vec::with_capacity(width);
    let mut bytes = VALUE_OVERHEAD;
    for column in 0..width {
        let value = row.get_ref(column).map_err(|error| {
            failure::internal(format!("column cannot be read column={column}: {error}"))
        })?;
        bytes += VALUE_OVERHEAD;
        let kind = match value {
            ValueRef::Null => Kind::Null(v1::Null {}),
            ValueRef::Integer(integer) => Kind::Integer(integer),
            ValueRef::Real(real) => Kind::Real(real),
            ValueRef::Text(text) => {
                bytes += text.len();
                let text = std::str::from_utf8(text).map_err(|_| {
                    failure::sql(
                        format!(
                            "text is not UTF-8, read it with CAST(... AS BLOB) column={column}"
                        ),
                        ffi::SQLITE_MISMATCH,
                    )
                })?;
                Kind::Text(text.to_owned())
            }
            ValueRef::Blob(blob) => {
                bytes += blob.len();
                Kind::Blob(Bytes::copy_from_slice(blob))
            }
        };
        values.push(v1::Value { kind: Some(kind) });
    }
    Ok((v1::Row { values }, bytes))
}

/// What an error of SQLite, met while running a caller's statement, means to the caller.
pub(super) fn explain(error: rusqlite::Error, guard: &Guard) -> v1::Error {
    let (code, message) = match &error {
        rusqlite::Error::SqliteFailure(failure, message) => (
            failure.extended_code,
            message.clone().unwrap_or_else(|| failure.to_string()),
        ),
        rusqlite::Error::SqlInputError {
            error, msg, offset, ..
        } => {
            let at = if *offset >= 0 {
                format!(" offset={offset}")
            } else {
                String::new()
            };
            (error.extended_code, format!("{msg}{at}"))
        }
        rusqlite::Error::MultipleStatement => {
            return failure::invalid(
                "the SQL text holds more than one statement: send them one by one, or as a batch",
            );
        }
        other => return failure::invalid(other.to_string()),
    };
    if let Some(why) = guard.take_refusal() {
        return failure::invalid(why);
    }
    match code & 0xff {
        ffi::SQLITE_INTERRUPT if guard.expired() => {
            failure::deadline_exceeded("the statement ran longer than its deadline allows")
        }
        ffi::SQLITE_INTERRUPT => failure::not_primary(None),
        ffi::SQLITE_FULL => failure::disk_full(code),
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => failure::corrupt(message),
        ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN | ffi::SQLITE_NOMEM | ffi::SQLITE_PROTOCOL => {
            v1::Error {
                sqlite_code: code,
                ..failure::internal(message)
            }
        }
        _ => failure::sql(message, code),
    }
}

fn is_cacheable(keyword: &str) -> bool {
    [
        "select", "insert", "update", "delete", "replace", "with", "values",
    ]
    .iter()
    .any(|cacheable| keyword.eq_ignore_ascii_case(cacheable))
}

/// The statement inserts, or may: its rowid is of interest.
pub(super) fn is_insert(sql: &str) -> bool {
    let keyword = first_keyword(sql);
    ["insert", "replace", "with"]
        .iter()
        .any(|insert| keyword.eq_ignore_ascii_case(insert))
}

/// The statement cannot run inside a transaction.
pub(super) fn is_vacuum(sql: &str) -> bool {
    first_keyword(sql).eq_ignore_ascii_case("vacuum")
}

/// The first word of a statement, comments and white space passed over; empty if there is none.
fn first_keyword(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{feff}');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else {
            break;
        }
    }
    let end = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_keyword_passes_over_comments() {
        let cases = [
            ("SELECT 1", "SELECT"),
            ("  \n\t vacuum;", "vacuum"),
            ("-- hi\n/* x */ INSERT INTO t", "INSERT"),
            ("-- only a comment", ""),
            ("/* never closed", ""),
            ("", ""),
            ("(SELECT 1)", ""),
            ("VALUES(1)", "VALUES"),
        ];
        for (sql, keyword) in cases {
            assert_eq!(first_keyword(sql), keyword, "{sql}");
        }
    }
}
