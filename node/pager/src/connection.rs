//! How connections are opened: flags, pragmas and settings, in one place. Called by `Database` and its parts; whoever opens a
//! connection to a database file otherwise breaks the locks (see the crate's header).

use std::path::Path;
use std::time::Duration;

use libsqlite3_sys as ffi;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use crate::functions;
use crate::vfs;

/// How long our own connections wait for each other.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What LIKE and GLOB take grows with the product of text and pattern, and nothing stops one that has begun.
const PATTERN_BYTES_MAX: i32 = 1_000;

/// Opens the connection that keeps a file open. It reads pages, not SQL: what is in them may be damaged until redo has run.
pub(crate) fn keeper(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, vfs::NAME)?;
    // Comes first: other settings read the schema.
    tolerate_bad_schema(&connection)?;
    prepare(&connection)?;
    Ok(connection)
}

/// Opens a connection that writes, without role yet.
pub(crate) fn read_write(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, vfs::NAME)?;
    prepare(&connection)?;
    // The fence settles who of our own writers comes first; waiting in SQLite as well would only delay the answer.
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

/// Lets a connection that reads pages, not SQL, work on a database whose schema cannot be read.
pub(crate) fn tolerate_bad_schema(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "writable_schema", true)
}

/// Opens a connection that can only read.
pub(crate) fn read_only(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, vfs::NAME)?;
    prepare(&connection)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    Ok(connection)
}

/// Makes `last_insert_rowid` what it is on a new connection: whoever shares one learns nothing of the inserts of others.
pub fn forget_last_insert_rowid(connection: &Connection) {
    // SAFETY: the handle is open as long as the connection is borrowed, and not closed here.
    unsafe { ffi::sqlite3_set_last_insert_rowid(connection.handle(), 0) }
}

/// Opens a connection whose main database is in memory and whose `replica` is the file.
pub(crate) fn attached(path: &Path, encoding: &str) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(":memory:", flags, vfs::NAME)?;
    // An attached database must have the text encoding of main.
    connection.pragma_update(None, "encoding", encoding)?;
    set(&connection, ffi::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    // A schema that cannot be read must not keep pages out that may repair it.
    tolerate_bad_schema(&connection)?;
    let path = path
        .to_str()
        .ok_or_else(|| rusqlite::Error::InvalidPath(path.to_owned()))?;
    connection.execute("ATTACH ?1 AS replica", [path])?;
    prepare(&connection)?;
    connection
        .execute_batch("PRAGMA replica.synchronous = NORMAL; PRAGMA replica.cache_size = -8192")?;
    Ok(connection)
}

/// Settings of all connections.
fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    functions::install(connection)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES_MAX)?;
    // A connection that closes last would checkpoint and delete the WAL: a checkpoint nobody has announced.
    set(connection, ffi::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // The bundled SQLite turns foreign keys on; stock SQLite does not.
    connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA synchronous = NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

fn set(connection: &Connection, option: i32, on: bool) -> Result<(), rusqlite::Error> {
    let mut now = 0i32;
    // SAFETY: the handle is valid while `connection` is borrowed; both options take an int and a pointer to an int.
    let code =
        unsafe { ffi::sqlite3_db_config(connection.handle(), option, i32::from(on), &raw mut now) };
    check(connection, code)
}

/// Turns a result code of the C interface into a result, with the connection's message.
pub(crate) fn check(connection: &Connection, code: i32) -> Result<(), rusqlite::Error> {
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    // SAFETY: the handle is valid while `connection` is borrowed; the message is copied at once.
    let message = unsafe { std::ffi::CStr::from_ptr(ffi::sqlite3_errmsg(connection.handle())) };
    let message = message.to_string_lossy().into_owned();
    Err(rusqlite::Error::SqliteFailure(
        ffi::Error::new(code),
        Some(message),
    ))
}

/// True if `error` is SQLite's "busy" in any variant.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}
