//! Opening a database: creation, conversion, fence, first scan; and removing one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use halite_ltx::{PageNo, PageSize};
use libsqlite3_sys as ffi;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode};

use super::Database;
use crate::blank_page::{blank_page, is_blank};
use crate::checksum_table::ChecksumTable;
use crate::connection;
use crate::connection_state::Role;
use crate::error::OpenError;
use crate::file_state::Committed;
use crate::open_options::OpenOptions;
use crate::os::{WalIndex, beside};
use crate::page_mask::masked_page_checksum;
use crate::registry;
use crate::shared::Shared;
use crate::vfs;

/// Files that SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// Pause between two attempts to take the fence: other programs hold these locks for one transaction or one checkpoint.
const FENCE_RETRY_MS: i32 = 2;

impl Database {
    /// Opens a database, creating it if there is none (or an empty file), converts it to WAL mode, takes the fence and computes
    /// the checksum of every page of the committed state, the WAL included.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Arc<Self>, OpenError> {
        open(path.as_ref(), options).map(Arc::new)
    }

    /// Removes the files of a database that is not open in this process (and must not be in any other), if they exist.
    pub fn remove(path: impl AsRef<Path>) -> Result<(), OpenError> {
        remove(path.as_ref())
    }
}

/// Leaves the registry again unless the database was opened.
struct Entry(Option<Arc<Shared>>);

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            registry::leave(&shared.file.path);
        }
    }
}

fn open(path: &Path, options: &OpenOptions) -> Result<Database, OpenError> {
    let path = absolute(path)?;
    let sqlite = |source| sqlite_error(&path, source);
    vfs::register().map_err(sqlite)?;
    let shared = registry::enter(&path, options.disk.clone())
        .ok_or_else(|| OpenError::AlreadyOpen { path: path.clone() })?;
    let mut entry = Entry(Some(Arc::clone(&shared)));
    if let Some(disk) = &options.disk {
        disk.admit(&path).map_err(|source| OpenError::Io {
            path: path.clone(),
            source,
        })?;
    }
    let page_size = match existing_page_size(&path)? {
        Some(page_size) => page_size,
        None => {
            create(&path, options).map_err(|source| OpenError::Io {
                path: path.clone(),
                source,
            })?;
            options.page_size
        }
    };
    // Nothing has been written through the shim yet, so this cannot have been set.
    let page_size = *shared.file.page_size.get_or_init(|| page_size);
    let keeper = open_keeper(&shared, options)?;
    let table = match raise_fence(&shared, &keeper, options)
        .and_then(|()| scan(&keeper, page_size).map_err(sqlite))
    {
        Ok(table) => table,
        Err(error) => {
            // The keeper's file is about to close.
            shared.fence.lower();
            return Err(error);
        }
    };
    *shared.file.committed.lock() = Some(Committed {
        table,
        publishing: false,
    });
    entry.0 = None;
    Ok(Database {
        shared,
        keeper: Mutex::new(Some(keeper)),
        page_size,
        options: options.clone(),
    })
}

fn remove(path: &Path) -> Result<(), OpenError> {
    let path = absolute(path)?;
    // Entered for as long as it takes, so that nobody opens it meanwhile.
    let shared = registry::enter(&path, None)
        .ok_or_else(|| OpenError::AlreadyOpen { path: path.clone() })?;
    let _entry = Entry(Some(shared));
    let logs = COMPANIONS.iter().map(|suffix| beside(&path, suffix));
    // The logs go first: a database without its WAL is an older state, a WAL without its database is a trap.
    for file in logs.chain([path.clone()]) {
        match std::fs::remove_file(&file) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::Io { path: file, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The one name by which SQLite and the registry know the file.
fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path
                .file_name()
                .ok_or(io::ErrorKind::InvalidInput.into())
                .map_err(io)?;
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            Ok(parent.canonicalize().map_err(io)?.join(name))
        }
        found => found.map_err(io),
    }
}

/// Checks the header of an existing file; `None` if there is none, or an empty one.
fn existing_page_size(path: &Path) -> Result<Option<PageSize>, OpenError> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    // No connection to this file exists in the process yet, so closing it here costs no lock.
    let mut header = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut header).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(io(error)),
    };
    if header.is_empty() {
        for log in ["-wal", "-journal"].map(|suffix| beside(path, suffix)) {
            match std::fs::metadata(&log) {
                Ok(found) if found.len() > 0 => {
                    return Err(OpenError::StrayLog {
                        log,
                        bytes: found.len(),
                    });
                }
                _ => {}
            }
        }
        return Ok(None);
    }
    page_size_of(&header, path).map(Some)
}

/// Page size that the header of a database file tells.
pub(crate) fn page_size_of(header: &[u8], path: &Path) -> Result<PageSize, OpenError> {
    let path = path.to_owned();
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return Err(OpenError::NotADatabase { path });
    }
    if header[19] > 2 {
        return Err(OpenError::TooNew {
            path,
            read_version: header[19],
        });
    }
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65536,
        other => u32::from(other),
    };
    PageSize::try_from(page_size).map_err(|source| OpenError::BadPageSize { path, source })
}

/// Creates a blank database so that it is there entirely or not at all.
fn create(path: &Path, options: &OpenOptions) -> io::Result<()> {
    for suffix in COMPANIONS {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let new = beside(path, ".halite-new");
    let mut file = File::create(&new)?;
    file.write_all(&blank_page(options.page_size, options.auto_vacuum))?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&new, path)?;
    if let Some(disk) = &options.disk {
        disk.made_anew(path);
    }
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Opens the first connection: it recovers what a crash left and sees to it that the file is in WAL mode.
fn open_keeper(shared: &Shared, options: &OpenOptions) -> Result<Connection, OpenError> {
    let path = &shared.file.path;
    let sqlite = |source| sqlite_error(path, source);
    let keeper = connection::keeper(path).map_err(sqlite)?;
    keeper.busy_timeout(options.lock_timeout).map_err(sqlite)?;
    let journal_mode: String = keeper
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(sqlite)?;
    if journal_mode != "wal" {
        return Err(OpenError::NotWal {
            path: path.clone(),
            journal_mode,
        });
    }
    // A read opens the WAL and maps the wal-index.
    keeper
        .query_row(
            "SELECT count(*) FROM sqlite_dbpage WHERE pgno = 1",
            [],
            |_| Ok(()),
        )
        .map_err(sqlite)?;
    Ok(keeper)
}

/// Takes the fence, waiting for other programs' transactions to end.
fn raise_fence(
    shared: &Shared,
    keeper: &Connection,
    options: &OpenOptions,
) -> Result<(), OpenError> {
    let sqlite = |source| sqlite_error(&shared.file.path, source);
    let code_error = |code| sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
    let state = vfs::connection_state(keeper, c"main").map_err(sqlite)?;
    // SAFETY: the keeper is open, and the fence is lowered before it closes.
    let file = unsafe { vfs::lower_file(&state) }.ok_or_else(|| code_error(ffi::SQLITE_MISUSE))?;
    // SAFETY: the keeper has just read, so its shared memory is mapped; the index is not used once the keeper is closed.
    let index = unsafe { WalIndex::new(file) };
    let mut tries = options.lock_timeout.as_millis() / u128::from(FENCE_RETRY_MS.unsigned_abs());
    loop {
        match shared.fence.raise(file) {
            ffi::SQLITE_OK => break,
            code if code & 0xff == ffi::SQLITE_BUSY => {
                tries = tries.checked_sub(1).ok_or_else(|| OpenError::Locked {
                    path: shared.file.path.clone(),
                })?;
                // SAFETY: sleeps through the VFS, as SQLite's own busy handler does.
                unsafe { ffi::sqlite3_sleep(FENCE_RETRY_MS) };
            }
            code => return Err(code_error(code)),
        }
    }
    *state.role.lock() = Role::Keeper;
    // The keeper must never wait for readers in a checkpoint.
    keeper
        .busy_timeout(std::time::Duration::ZERO)
        .map_err(sqlite)?;
    let _ = shared.file.index.set(index);
    Ok(())
}

/// Computes the checksum of every page of the committed state.
fn scan(keeper: &Connection, page_size: PageSize) -> Result<ChecksumTable, rusqlite::Error> {
    let mut table = ChecksumTable::new(page_size);
    let mut blank = false;
    let mut pages = keeper.prepare("SELECT pgno, data FROM sqlite_dbpage")?;
    let mut rows = pages.query([])?;
    while let Some(row) = rows.next()? {
        let pgno = PageNo::new(row.get(0)?);
        let page = row.get_ref(1)?.as_blob()?;
        blank = pgno == PageNo::FIRST && is_blank(page_size, page);
        table.push(masked_page_checksum(pgno, page));
    }
    Ok(if blank {
        ChecksumTable::new(page_size)
    } else {
        table
    })
}

fn sqlite_error(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        _ => OpenError::Sqlite { path, source },
    }
}
