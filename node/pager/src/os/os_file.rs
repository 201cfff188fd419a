//! [`OsFile`]: an open file of the VFS below the shim, for the [`Disk`](super::Disk) it is on. Safe to keep after SQLite has closed
//! the file: every access fails then.

use std::ffi::c_int;
use std::sync::Arc;

use libsqlite3_sys as ffi;
use parking_lot::Mutex;

use super::LowerFile;

/// An open file, past the rule of the disk. Clones are the same file. Errors are SQLite's result codes.
#[derive(Clone, Debug)]
pub struct OsFile {
    /// `None` once it is closed.
    open: Arc<Mutex<Option<LowerFile>>>,
}

impl OsFile {
    /// # Safety
    /// `file` must stay open until [`closed`](Self::closed) is called.
    pub(crate) unsafe fn new(file: LowerFile) -> Self {
        OsFile {
            open: Arc::new(Mutex::new(Some(file))),
        }
    }

    /// SQLite is about to close the file. Waits for accesses that are under way.
    pub(crate) fn closed(&self) {
        *self.open.lock() = None;
    }

    /// Whether both are one open file.
    pub fn is(&self, other: &OsFile) -> bool {
        Arc::ptr_eq(&self.open, &other.open)
    }

    /// Reads at `offset`, in bytes; past the end of the file the rest is zero.
    ///
    /// # Errors
    /// A result code.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), c_int> {
        self.with(ffi::SQLITE_IOERR_READ, |file| {
            file.read(buffer, offset.cast_signed())
        })
    }

    /// Writes at `offset`, in bytes.
    ///
    /// # Errors
    /// A result code; a part may have been written.
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<(), c_int> {
        self.with(ffi::SQLITE_IOERR_WRITE, |file| {
            ok(file.write(bytes, offset.cast_signed()))
        })
    }

    /// Cuts the file to `size` bytes.
    ///
    /// # Errors
    /// A result code.
    pub fn truncate(&self, size: u64) -> Result<(), c_int> {
        self.with(ffi::SQLITE_IOERR_TRUNCATE, |file| {
            ok(file.truncate(size.cast_signed()))
        })
    }

    /// Size in bytes.
    ///
    /// # Errors
    /// A result code.
    pub fn size(&self) -> Result<u64, c_int> {
        self.with(ffi::SQLITE_IOERR_FSTAT, LowerFile::size)
    }

    fn with<T>(
        &self,
        closed: c_int,
        access: impl FnOnce(LowerFile) -> Result<T, c_int>,
    ) -> Result<T, c_int> {
        match *self.open.lock() {
            Some(file) => access(file),
            None => Err(closed),
        }
    }
}

fn ok(code: c_int) -> Result<(), c_int> {
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(code),
    }
}
