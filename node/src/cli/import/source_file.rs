//! [`SourceFile`]: the SQLite file that is imported, as SQLite sees it at one moment.
//!
//! Pages are read through SQLite and never from the file: what is in a write-ahead log counts, and no descriptor is closed here that would drop the
//! locks of the connection. Opened by `import`, poured out by `upload`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use halite_pager::beside;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::cli::error::CliError;
use crate::cli::output::{ProgressLine, remark};
use crate::immutable::immutable_uri;

/// SQLite's own words at the beginning of every database file (https://www.sqlite.org/fileformat.html, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The header of a database file.
const HEADER_BYTES: usize = 100;
/// How long another writer of the file is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Complaints of SQLite that are shown.
const COMPLAINTS_MAX: u32 = 5;
/// Steps of SQLite between two looks at the progress line.
const CHECK_STEPS: i32 = 100_000;
const PIECE_BYTES: usize = 256 << 10;

/// See the module. Nobody else writes to the file while this lives, unless it may not be written to anyway.
#[derive(Debug)]
pub(super) struct SourceFile {
    connection: Connection,
    page_size: u32,
    page_count: u32,
    /// What SQLite complains of; empty for a sound file.
    complaints: Vec<String>,
}

impl SourceFile {
    /// Refuses what is no SQLite file, locks out writers, and lets SQLite look at the content. What is malformed is refused unless `force`.
    pub(super) fn open(path: &Path, force: bool) -> Result<Self, CliError> {
        // SQLite keeps what belongs to a file beside the file itself, and not beside a link to it.
        let real =
            std::fs::canonicalize(path).map_err(|error| CliError::io(path.display(), &error))?;
        let header = Header::read(&real)?;
        let mut complaints: Vec<String> = header.fault(&real)?.into_iter().collect();
        if !force && let [fault] = complaints.as_slice() {
            return Err(malformed(path, fault));
        }
        let mut connection = lock_out_writers(&real)?;
        // As the nodes open it: what they would not read is found here.
        set_defensive(&connection, path, true)?;
        let checked = quick_check(&mut connection, path)?;
        set_defensive(&connection, path, false)?;
        match checked {
            Checked::Sound => {}
            Checked::Not(why) => remark(&format!(
                "warning: SQLite could not check {}: {why}",
                path.display()
            )),
            Checked::Malformed(found) => complaints.extend(found),
        }
        if let Some(name) = foreign_name(&connection) {
            let why = format!(
                "{} has a schema that is not UTF-8, at {name:?}: ANALYZE, .schema and every statement that names it would fail",
                path.display()
            );
            if !force {
                return Err(CliError::new(why)
                    .help("rename it with `sqlite3 FILE` before; --force imports it as it is"));
            }
            remark(&format!("warning: {why}"));
        }
        if !complaints.is_empty() {
            if !force {
                return Err(malformed(path, &complaints.join("; ")));
            }
            // A schema that cannot be read must not keep its pages from being read.
            let tolerant = connection.pragma_update(None, "writable_schema", true);
            tolerant.map_err(|error| explained(path, &error))?;
        }
        let number = |pragma: &str| {
            connection
                .pragma_query_value(None, pragma, |row| row.get(0))
                .map_err(|error| explained(path, &error))
        };
        let (page_size, page_count) = (number("page_size")?, number("page_count")?);
        Ok(Self {
            connection,
            page_size,
            page_count,
            complaints,
        })
    }

    pub(super) fn size_bytes(&self) -> u64 {
        u64::from(self.page_size) * u64::from(self.page_count)
    }

    /// What SQLite complains of.
    pub(super) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Gives all pages, one after the other, in pieces; ends early when `give` says that nobody takes more. Blocking.
    pub(super) fn pour(&self, mut give: impl FnMut(Bytes) -> bool) -> rusqlite::Result<()> {
        let mut pages = self
            .connection
            .prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno")?;
        let mut pages = pages.query([])?;
        let mut piece = BytesMut::new();
        while let Some(row) = pages.next()? {
            piece.extend_from_slice(row.get_ref(0)?.as_blob()?);
            if piece.len() >= PIECE_BYTES && !give(piece.split().freeze()) {
                return Ok(());
            }
        }
        if !piece.is_empty() {
            give(piece.freeze());
        }
        Ok(())
    }
}

/// What the first bytes of the file say of the rest.
struct Header {
    page_size: u64,
    /// Pages of the file; `None` where the header does not say.
    page_count: Option<u64>,
    file_bytes: u64,
}

impl Header {
    fn read(path: &Path) -> Result<Self, CliError> {
        let io = |error: io::Error| CliError::io(path.display(), &error);
        let meta = std::fs::metadata(path).map_err(io)?;
        if !meta.is_file() {
            return Err(CliError::new(format!("{} is not a file", path.display())));
        }
        let mut header = Vec::with_capacity(HEADER_BYTES);
        File::open(path)
            .and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut header))
            .map_err(io)?;
        if header.is_empty() {
            let empty = CliError::new(format!(
                "{} is empty: there is nothing to import",
                path.display()
            ));
            return Err(empty.help("`halite db create NAME` makes an empty database"));
        }
        if !header.starts_with(MAGIC) {
            let other = CliError::new(format!("{} is not a SQLite database", path.display()));
            return Err(other.help("SQL text is run with `halite sql --db NAME < FILE`; encrypted databases have to be decrypted first"));
        }
        header.resize(HEADER_BYTES, 0);
        let number = |at: usize| {
            header[at..at + 4]
                .iter()
                .fold(0, |n, b| n << 8 | u64::from(*b))
        };
        let page_size = match number(16) >> 16 {
            1 => 65_536,
            size => size,
        };
        // The size counts if it was written by whoever changed the file last (file format, section 1.3.7).
        let page_count = Some(number(28)).filter(|n| *n > 0 && number(24) == number(92));
        Ok(Self {
            page_size,
            page_count,
            file_bytes: meta.len(),
        })
    }

    /// What is wrong with the length of the file. A file of which a part is in a write-ahead log or a journal has none yet.
    fn fault(&self, path: &Path) -> Result<Option<String>, CliError> {
        if !self.page_size.is_power_of_two() || !(512..=65_536).contains(&self.page_size) {
            return Err(malformed(
                path,
                &format!("its header names a page size of {}", self.page_size),
            ));
        }
        if filled_beside(path, "-wal").is_some() || filled_beside(path, "-journal").is_some() {
            return Ok(None);
        }
        let expected = self.page_count.map(|pages| pages * self.page_size);
        if let Some(expected) = expected.filter(|expected| *expected > self.file_bytes) {
            let short = format!(
                "it has {} bytes and should have {expected} by its header: its end is missing",
                self.file_bytes
            );
            return Err(
                CliError::new(format!("{} is cut off: {short}", path.display())).help(
                    "take another copy; `sqlite3 FILE .recover | sqlite3 NEW` saves what is left",
                ),
            );
        }
        Ok((!self.file_bytes.is_multiple_of(self.page_size)).then(|| {
            format!(
                "its {} bytes are not a whole number of pages of {} bytes",
                self.file_bytes, self.page_size
            )
        }))
    }
}

fn malformed(path: &Path, why: &str) -> CliError {
    CliError::new(format!("{} is malformed: {why}", path.display())).help(
        "take another copy, or save what is left with `sqlite3 FILE .recover | sqlite3 NEW`; --force imports it as it is",
    )
}

/// The first name in the schema that is not UTF-8, or is in a statement that is not, as far as it can be shown.
fn foreign_name(connection: &Connection) -> Option<String> {
    let mut schema = connection
        .prepare("SELECT name, sql FROM sqlite_schema")
        .ok()?;
    let mut rows = schema.query([]).ok()?;
    // A schema that cannot be read has been complained of.
    while let Ok(Some(row)) = rows.next() {
        let text = |column| match row.get_ref(column) {
            Ok(ValueRef::Text(bytes)) => bytes.to_vec(),
            _ => Vec::new(),
        };
        let (name, sql) = (text(0), text(1));
        if str::from_utf8(&name).is_err() || str::from_utf8(&sql).is_err() {
            return Some(String::from_utf8_lossy(&name).into_owned());
        }
    }
    None
}

fn set_defensive(connection: &Connection, path: &Path, defensive: bool) -> Result<(), CliError> {
    let set = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, defensive);
    set.map(drop).map_err(|error| explained(path, &error))
}

enum Checked {
    Sound,
    Malformed(Vec<String>),
    /// SQLite here lacks what the schema uses.
    Not(String),
}

fn quick_check(connection: &mut Connection, path: &Path) -> Result<Checked, CliError> {
    let mut line = ProgressLine::new();
    let begun = tokio::time::Instant::now();
    let show = move || {
        line.show(&format!("checking: {} s", begun.elapsed().as_secs()));
        false
    };
    let failed = |error: rusqlite::Error| explained(path, &error);
    connection
        .progress_handler(CHECK_STEPS, Some(show))
        .map_err(failed)?;
    let found = connection
        .prepare(&format!("PRAGMA quick_check({COMPLAINTS_MAX})"))
        .and_then(|mut check| {
            let rows = check.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, _>>()
        });
    connection
        .progress_handler(0, None::<fn() -> bool>)
        .map_err(failed)?;
    match found {
        Ok(rows) if rows == ["ok"] => Ok(Checked::Sound),
        Ok(rows) => Ok(Checked::Malformed(rows)),
        Err(error) => match code_of(&error) {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Ok(Checked::Malformed(vec![error.to_string()]))
            }
            Some(ErrorCode::Unknown) => Ok(Checked::Not(error.to_string())),
            _ => Err(explained(path, &error)),
        },
    }
}

/// Also of an error that names its place in the SQL.
fn code_of(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        other => other.sqlite_error_code(),
    }
}

fn lock_out_writers(path: &Path) -> Result<Connection, CliError> {
    let failed = |error: rusqlite::Error| explained(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match Connection::open_with_flags(path, flags) {
        Ok(connection) if connection.is_readonly("main").map_err(failed)? => return unlocked(path),
        Ok(connection) => connection,
        Err(_) => return unlocked(path),
    };
    connection.busy_timeout(BUSY_WAIT).map_err(failed)?;
    // Whoever closes a database last brings its write-ahead log into it: not here.
    let keep = filled_beside(path, "-wal").is_some();
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
        .map_err(failed)?;
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(failed)?;
    Ok(connection)
}

/// A file that may not be written to cannot be locked, and is taken as it is if it is whole.
fn unlocked(path: &Path) -> Result<Connection, CliError> {
    let part = filled_beside(path, "-wal").or_else(|| filled_beside(path, "-journal"));
    if let Some(part) = part {
        let message = format!(
            "{} is not whole: changes are in {}, and it cannot be written to",
            path.display(),
            part.display()
        );
        return Err(CliError::new(message)
            .help("copy both to a place where you may write, and import from there"));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(immutable_uri(path), flags).map_err(|error| explained(path, &error))
}

/// The file with `ending` beside `path`, if it is there and holds something.
fn filled_beside(path: &Path, ending: &str) -> Option<PathBuf> {
    let beside = beside(path, ending);
    std::fs::metadata(&beside)
        .is_ok_and(|meta| meta.len() > 0)
        .then_some(beside)
}

fn in_use(path: &Path) -> CliError {
    CliError::new(format!(
        "{} is in use: another program has a transaction open on it",
        path.display()
    ))
    .help("let that program finish, or stop it, and try again")
}

fn explained(path: &Path, error: &rusqlite::Error) -> CliError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => in_use(path),
        Some(ErrorCode::NotADatabase) => {
            CliError::new(format!("{} is not a SQLite database", path.display()))
        }
        _ => CliError::new(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests;
