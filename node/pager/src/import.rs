//! Import: the content of any SQLite file as one transaction of a [`Writer`]. Works on a private copy of the file, because opening
//! the original could recover or checkpoint it. Called by the node before a database takes writes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use halite_ltx::PageSize;
use libsqlite3_sys as ffi;
use rusqlite::{Connection, OpenFlags};

use crate::connection;
use crate::database::page_size_of;
use crate::error::ImportError;
use crate::os::beside;
use crate::registry;
use crate::writer::Writer;

/// Files that make up a database at rest. The wal-index is left behind: it is rebuilt.
const PARTS: [&str; 3] = ["", "-wal", "-journal"];

/// Between the name of a database and the numbers of a copy that is imported into it.
const COPY_MARK: &str = ".import-";

/// Removes the copies that imports into the databases of a directory have left behind, as a killed process does. None may be under way there.
///
/// # Errors
/// The file system's.
pub fn remove_left_over_copies(directory: &Path) -> io::Result<()> {
    let files = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    for file in files {
        let file = file?;
        if file.file_name().to_string_lossy().contains(COPY_MARK) && file.file_type()?.is_dir() {
            tracing::info!(copy = %file.path().display(), "removing what an import has left behind");
            std::fs::remove_dir_all(file.path())?;
        }
    }
    Ok(())
}

/// A private copy of a database, removed when dropped.
struct PrivateCopy {
    directory: PathBuf,
}

impl PrivateCopy {
    fn make(source: &Path, near: &Path) -> Result<Self, ImportError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = beside(near, &format!("{COPY_MARK}{}-{number}", std::process::id()));
        let io = |path: &Path, source| ImportError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir(&directory).map_err(|error| io(&directory, error))?;
        let copy = PrivateCopy { directory };
        for suffix in PARTS {
            let part = beside(source, suffix);
            match std::fs::copy(&part, beside(&copy.path(), suffix)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !suffix.is_empty() => {}
                Err(error) => return Err(io(&part, error)),
            }
        }
        Ok(copy)
    }

    fn path(&self) -> PathBuf {
        self.directory.join("copy.db")
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "cannot remove the private copy of an import");
        }
    }
}

/// Page size of any SQLite file, so that a blank database for it can be made. The file must not be open in this process.
pub(crate) fn source_page_size(source: &Path) -> Result<PageSize, ImportError> {
    if registry::contains(source) {
        return Err(ImportError::IsOpen {
            path: source.to_owned(),
        });
    }
    let mut header = Vec::new();
    File::open(source)
        .and_then(|file| file.take(100).read_to_end(&mut header))
        .map_err(|error| ImportError::Io {
            path: source.to_owned(),
            source: error,
        })?;
    page_size_of(&header, source).map_err(|_| ImportError::NotADatabase {
        path: source.to_owned(),
    })
}

impl Writer {
    /// Page size that a database must have to [`import`](Self::import) this file.
    pub fn import_page_size(source: impl AsRef<Path>) -> Result<PageSize, ImportError> {
        source_page_size(source.as_ref())
    }

    /// Replaces the whole content by that of another SQLite file, of any journal mode, with a hot WAL or journal or not, as one
    /// transaction through the gate. Page 1 keeps being in WAL mode and gets a new schema cookie; all other pages are copied as
    /// they are. Nobody may write to the source meanwhile.
    pub fn import(&mut self, source: impl AsRef<Path>) -> Result<(), ImportError> {
        let source = source.as_ref();
        let found = source_page_size(source)?;
        let database = self.database().page_size();
        if found != database {
            return Err(ImportError::PageSize { found, database });
        }
        let copy = PrivateCopy::make(source, self.database().path())?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let from = Connection::open_with_flags(copy.path(), flags)?;
        back_up(&from, self.connection())?;
        Ok(())
    }
}

/// Copies all pages in one step, so in one transaction.
fn back_up(from: &Connection, to: &Connection) -> Result<(), rusqlite::Error> {
    // SAFETY: both handles are valid while the connections are borrowed; the names are C strings.
    let backup = unsafe {
        ffi::sqlite3_backup_init(
            to.handle(),
            c"main".as_ptr(),
            from.handle(),
            c"main".as_ptr(),
        )
    };
    if backup.is_null() {
        // SAFETY: the handle is valid.
        return connection::check(to, unsafe { ffi::sqlite3_extended_errcode(to.handle()) });
    }
    // SAFETY: `backup` was made above and is finished exactly once.
    let (step, finish) = unsafe {
        (
            ffi::sqlite3_backup_step(backup, -1),
            ffi::sqlite3_backup_finish(backup),
        )
    };
    match step {
        ffi::SQLITE_DONE => connection::check(to, finish),
        ffi::SQLITE_OK => Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_BUSY),
            None,
        )),
        step => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(step), None)),
    }
}
