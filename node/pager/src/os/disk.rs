//! [`Disk`]: the seam below the shim. A disk sees every access to the files of its databases before it happens, and says what becomes of
//! it. Production has none, and pays one look at an option per access; a simulation puts its disk here.

use std::ffi::c_int;
use std::fmt::Debug;
use std::io;
use std::path::Path;

use super::{FileKey, OsFile};

/// What the files of databases are on, put in by [`OpenOptions::disk`](crate::OpenOptions::disk). Called on the threads of connections.
///
/// It must never open or close a file of a database that is open: SQLite would lose its locks. What it reads and writes itself goes
/// through the [`OsFile`] it is given.
pub trait Disk: Debug + Send + Sync {
    /// The power is off: nothing can be opened, locked or removed.
    fn is_cut(&self) -> bool;

    /// Asked before anything is looked at: whether a database may be opened, or created, now.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, database: &Path) -> io::Result<()>;

    /// SQLite has opened a file. `below` reads and writes it without asking this disk.
    fn open(&self, file: FileKey, below: OsFile) -> Box<dyn DiskFile>;

    /// A file is about to be removed.
    fn removed(&self, file: &FileKey);

    /// A blank database was put in place of whatever had this name: what was known of its files is void.
    fn made_anew(&self, database: &Path);
}

/// One open file on a [`Disk`]. Offsets and sizes are in bytes; the numbers returned are SQLite's result codes, `SQLITE_OK` for an access
/// that was carried out.
pub trait DiskFile: Debug + Send + Sync {
    /// The power is off.
    fn is_cut(&self) -> bool;

    /// A read: `read` carries it out, at most once.
    fn read(&self, offset: u64, bytes: usize, read: &mut dyn FnMut() -> c_int) -> c_int;

    /// A write; one past the end makes the file longer.
    fn write(&self, bytes: &[u8], offset: u64) -> c_int;

    /// The file is cut to `size`.
    fn truncate(&self, size: u64) -> c_int;

    /// What was written is to be made durable.
    fn sync(&self) -> c_int;

    /// The size of the file, or a result code.
    fn size(&self) -> Result<u64, c_int>;

    /// SQLite is about to close the file: its [`OsFile`] is of no use afterwards.
    fn close(&self);
}
