//! Running one [`v1::Statement`] on a connection: preparing, binding, stepping, and what SQLite's errors mean to the caller.
//!
//! Called by the lane and the reader threads, with the connection's guard armed. Knows nothing of transactions or batches.

use std::time::Duration;

use bytes::Bytes;
use halite_pager::{Cursor, Prepared, memory};
use halite_proto::v1;
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Statement, ffi};

use super::guard::{Guard, MEMORY_BYTES_MAX, Refusal};
use super::{failure, pragma};

/// SQL longer than this is not kept prepared.
const CACHED_SQL_MAX: usize = 16 << 10;
/// What a value costs beside its bytes when results are limited.
const VALUE_OVERHEAD: usize = 16;
/// Largest value of a caller's SQL: SQLite refuses a larger one before it takes memory for it.
pub(super) const VALUE_BYTES_MAX: i32 = 32 << 20;
/// What SQLite says when a connection that is older than an import finds text of another encoding. Callers cannot attach anything.
const ANOTHER_ENCODING: &str = "attached databases must use the same text encoding";
/// The lane has connections opened anew as soon as the import is visible.
const RENEWED_SOON: Duration = Duration::from_millis(20);
/// Until another node may lead whose file is sound.
const MADE_ROOM_SOON: Duration = Duration::from_millis(500);
const DAMAGED: &str = "a page of the database file on this node is not what was committed: a node whose copy is sound takes over, if there is one";
/// Largest row that is handed out. It travels in one message, which may hold 64 MiB.
const ROW_BYTES_MAX: usize = 48 << 20;

/// Prepares a statement and binds its arguments, as a value that keeps the connection; given back, with the error, if that fails.
pub(super) fn open(
    connection: Box<Connection>,
    guard: &Guard,
    statement: &v1::Statement,
) -> Result<Cursor, (Box<Connection>, v1::Error)> {
    let cached = match guard.check().and_then(|()| is_kept(statement)) {
        Ok(cached) => cached,
        Err(error) => return Err((connection, error)),
    };
    let sql = match pragma::in_effect(&connection, guard, &statement.sql) {
        Ok(sql) => sql,
        Err(error) => return Err((connection, error)),
    };
    let mut cursor = Cursor::open(connection, &sql, cached)
        .map_err(|(connection, error)| (connection, explain(error, guard)))?;
    let bound = arguments(cursor.statement(), statement).and_then(|arguments| {
        arguments
            .into_iter()
            .try_for_each(|(index, value)| cursor.bind(index, value))
            .map_err(BindError::Sqlite)
    });
    match bound {
        Ok(()) => Ok(cursor),
        Err(error) => Err((cursor.close(), error.explained(guard))),
    }
}

/// Prepares a statement and binds its arguments.
fn prepare<'c>(
    connection: &'c Connection,
    guard: &Guard,
    statement: &v1::Statement,
) -> Result<Prepared<'c>, v1::Error> {
    guard.check()?;
    let cached = is_kept(statement)?;
    let sql = pragma::in_effect(connection, guard, &statement.sql)?;
    let mut prepared =
        Prepared::new(connection, &sql, cached).map_err(|error| explain(error, guard))?;
    let arguments = arguments(&prepared, statement).map_err(|error| error.explained(guard))?;
    for (index, value) in arguments {
        prepared
            .raw_bind_parameter(index, ToSqlOutput::Borrowed(value))
            .map_err(|error| explain(error, guard))?;
    }
    Ok(prepared)
}

/// Whether a statement is kept prepared. Those whose meaning depends on who asks never are, since the authorizer is asked when they are prepared
/// only.
fn is_kept(statement: &v1::Statement) -> Result<bool, v1::Error> {
    if let Some(offset) = statement.sql.find('\0') {
        // SQLite would take it for the end.
        return Err(failure::invalid(format!(
            "the SQL text holds a NUL character offset={offset}: bind it as a parameter, or write char(0)"
        )));
    }
    let keyword = first_keyword(&statement.sql);
    if keyword.is_empty() {
        return Err(failure::invalid("the SQL text holds no statement"));
    }
    Ok(is_cacheable(keyword) && statement.sql.len() <= CACHED_SQL_MAX)
}

enum BindError {
    Invalid(v1::Error),
    Sqlite(rusqlite::Error),
}

impl BindError {
    fn explained(self, guard: &Guard) -> v1::Error {
        match self {
            BindError::Invalid(error) => error,
            BindError::Sqlite(error) => explain(error, guard),
        }
    }
}

/// Which parameter gets which value: each one, or it is an error.
fn arguments<'a>(
    prepared: &Statement<'_>,
    statement: &'a v1::Statement,
) -> Result<Vec<(usize, ValueRef<'a>)>, BindError> {
    let wanted = prepared.parameter_count();
    let given = statement.args.len();
    if given > wanted {
        let message = format!("too many arguments wanted={wanted} given={given}");
        return Err(BindError::Invalid(failure::invalid(message)));
    }
    let by_place = statement.args.iter().enumerate();
    let mut arguments: Vec<_> = by_place
        .map(|(at, value)| (at + 1, value_ref(Some(value))))
        .collect();
    if statement.named_args.is_empty() {
        if given < wanted {
            let message = format!("too few arguments wanted={wanted} given={given}");
            return Err(BindError::Invalid(failure::invalid(message)));
        }
        return Ok(arguments);
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
        arguments.push((index, value_ref(named.value.as_ref())));
        bound[index - 1] = true;
    }
    match bound.iter().position(|bound| !bound) {
        None => Ok(arguments),
        Some(at) => {
            let name = prepared.parameter_name(at + 1).unwrap_or("?");
            let message = format!("parameter has no value index={} name={name:?}", at + 1);
            Err(BindError::Invalid(failure::invalid(message)))
        }
    }
}

fn value_ref(value: Option<&v1::Value>) -> ValueRef<'_> {
    use v1::value::Kind;
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::Null(_)) => ValueRef::Null,
        Some(Kind::Integer(integer)) => ValueRef::Integer(*integer),
        Some(Kind::Real(real)) => ValueRef::Real(*real),
        Some(Kind::Text(text)) => ValueRef::Text(text.as_bytes()),
        Some(Kind::Blob(blob)) => ValueRef::Blob(blob),
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
    // What is in the file already is copied, whatever its size.
    let value_bytes_max = if is_vacuum(&statement.sql) {
        i32::MAX
    } else {
        VALUE_BYTES_MAX
    };
    connection
        .set_limit(Limit::SQLITE_LIMIT_LENGTH, value_bytes_max)
        .map_err(|error| explain(error, guard))?;
    let mut prepared = prepare(connection, guard, statement)?;
    let read_only = only_reads(&prepared, &statement.sql);
    let total_before = connection.total_changes();
    let mut result = v1::StatementResult::default();
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next().map_err(|error| match full(&error) {
        // Nothing is wrong with the disk.
        true if is_out_of_rowids(connection) => failure::sql(error.to_string(), ffi::SQLITE_FULL),
        _ => explain(error, guard),
    })? {
        let (row, bytes) = read_row(row)?;
        *budget = budget.checked_sub(bytes).ok_or_else(|| {
            failure::invalid(
                "the rows are too many for one answer of a write: read them with a query",
            )
        })?;
        result.rows.push(row);
    }
    drop(rows);
    result.columns = columns(&prepared);
    // The count of the statement before is still there after one that counts nothing, such as CREATE TABLE.
    if !read_only && connection.total_changes() != total_before {
        result.rows_affected = connection.changes();
    }
    Ok(Ran { result, read_only })
}

fn full(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(ffi::SQLITE_FULL)
}

/// A table with AUTOINCREMENT has had the largest rowid there is, which SQLite tells as it tells a full disk.
fn is_out_of_rowids(connection: &Connection) -> bool {
    let used_up = "SELECT 1 FROM sqlite_sequence WHERE seq = 9223372036854775807";
    connection
        .prepare(used_up)
        .and_then(|mut used_up| used_up.exists(()))
        .unwrap_or(false)
}

/// It cannot change the database. EXPLAIN counts as what it explains to SQLite, and never runs it.
pub(super) fn only_reads(prepared: &Statement<'_>, sql: &str) -> bool {
    (prepared.readonly() || prepared.is_explain() != 0) && !pragma::is_optimize(sql)
}

/// Names of the result columns. Asked after the first step only: until then a statement from the cache has the columns that there were when it
/// was prepared, and the step prepares it anew where the schema has changed since.
pub(super) fn columns(prepared: &Statement<'_>) -> Vec<String> {
    prepared.column_names().map(str::to_owned).collect()
}

/// Takes a row over; also returns what it costs in bytes.
pub(super) fn read_row(row: &Row<'_>) -> Result<(v1::Row, usize), v1::Error> {
    use v1::value::Kind;
    let width = row.as_ref().column_count();
    let value = |column| {
        row.get_ref(column).map_err(|error| {
            failure::internal(format!("column cannot be read column={column}: {error}"))
        })
    };
    let mut bytes = VALUE_OVERHEAD * (width + 1);
    for column in 0..width {
        if let ValueRef::Text(data) | ValueRef::Blob(data) = value(column)? {
            bytes += data.len();
        }
    }
    if bytes > ROW_BYTES_MAX {
        return Err(failure::sql(
            format!(
                "row too big, read it in parts with substr(): bytes={bytes} bytes_max={ROW_BYTES_MAX}"
            ),
            ffi::SQLITE_TOOBIG,
        ));
    }
    let mut values = Vec::with_capacity(width);
    for column in 0..width {
        let value = value(column)?;
        let kind = match value {
            ValueRef::Null => Kind::Null(v1::Null {}),
            ValueRef::Integer(integer) => Kind::Integer(integer),
            ValueRef::Real(real) => Kind::Real(real),
            ValueRef::Text(text) => {
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
            ValueRef::Blob(blob) => Kind::Blob(Bytes::copy_from_slice(blob)),
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
    match guard.take_refusal() {
        Some(Refusal::NotHere(why)) => return failure::invalid(why),
        Some(Refusal::AsSqlite(words)) => return failure::sql(words, ffi::SQLITE_ERROR),
        None => {}
    }
    if message.starts_with(ANOTHER_ENCODING) {
        return failure::unavailable(
            "the text of the database has another encoding since a moment, and the connection is opened anew",
            RENEWED_SOON,
        );
    }
    match code & 0xff {
        ffi::SQLITE_INTERRUPT => guard.interrupted(),
        ffi::SQLITE_FULL => failure::disk_full(code),
        ffi::SQLITE_TOOBIG => failure::sql(format!("{message}: bytes_max={VALUE_BYTES_MAX}"), code),
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => {
            guard.suspect();
            failure::corrupt(message)
        }
        _ if code == ffi::SQLITE_IOERR_DATA => failure::unavailable(DAMAGED, MADE_ROOM_SOON),
        _ if is_out_of_memory(code) && memory::was_refused() => failure::sql(
            format!("{message}: one call may take {MEMORY_BYTES_MAX} bytes of it"),
            ffi::SQLITE_NOMEM,
        ),
        ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN | ffi::SQLITE_NOMEM | ffi::SQLITE_PROTOCOL => {
            // Where temporary files go is no part of the database.
            if code != ffi::SQLITE_IOERR_GETTEMPPATH {
                guard.note_disk_refusal(&message);
            }
            v1::Error {
                sqlite_code: code,
                ..failure::internal(message)
            }
        }
        _ => failure::sql(message, code),
    }
}

fn is_out_of_memory(code: i32) -> bool {
    [ffi::SQLITE_NOMEM, ffi::SQLITE_IOERR_NOMEM].contains(&code)
}

fn is_cacheable(keyword: &str) -> bool {
    [
        "select", "insert", "update", "delete", "replace", "with", "values",
    ]
    .iter()
    .any(|cacheable| keyword.eq_ignore_ascii_case(cacheable))
}

/// The statement cannot run inside a transaction.
pub(super) fn is_vacuum(sql: &str) -> bool {
    first_keyword(sql).eq_ignore_ascii_case("vacuum")
}

/// The statement is not run, but told how it would be.
pub(super) fn is_explain(sql: &str) -> bool {
    first_keyword(sql).eq_ignore_ascii_case("explain")
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
