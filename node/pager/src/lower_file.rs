//! [`LowerFile`]: one open file of the VFS below the shim. All bytes the shim reads and writes itself pass here, so this is
//! where another lower layer (such as one that loses unsynced writes) is put in. Called by the VFS and by redo.

use std::ffi::{c_int, c_void};

use libsqlite3_sys::{self as ffi, sqlite3_file, sqlite3_io_methods};

/// Name of the VFS below the shim.
pub(crate) const LOWER_VFS: &std::ffi::CStr = c"unix";

/// An open file of the lower VFS. Copies name the same file; whoever holds one must know that it is still open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LowerFile(*mut sqlite3_file);

// SAFETY: a descriptor of the lower VFS has no thread affinity; its positional reads and writes and its shared-memory calls
// are safe from any thread while it is open.
unsafe impl Send for LowerFile {}
// SAFETY: as above; a shared reference only copies the pointer.
unsafe impl Sync for LowerFile {}

impl LowerFile {
    /// # Safety
    /// `file` must have been opened by the lower VFS and must stay open as long as the value is used.
    pub(crate) unsafe fn new(file: *mut sqlite3_file) -> Self {
        LowerFile(file)
    }

    pub(crate) fn raw(self) -> *mut sqlite3_file {
        self.0
    }

    pub(crate) fn methods(self) -> &'static sqlite3_io_methods {
        // SAFETY: per `new` the file is open, so its method table is set; the tables of a VFS are static.
        unsafe { &*(*self.0).pMethods }
    }

    /// Reads at `offset`; past the end of the file the rest is zero.
    pub(crate) fn read(self, buffer: &mut [u8], offset: i64) -> Result<(), c_int> {
        let Some(read) = self.methods().xRead else {
            return Err(ffi::SQLITE_IOERR_READ);
        };
        let amount = c_int::try_from(buffer.len()).map_err(|_| ffi::SQLITE_IOERR_READ)?;
        // SAFETY: the file is open and the buffer is `amount` bytes long.
        match unsafe { read(self.0, buffer.as_mut_ptr().cast::<c_void>(), amount, offset) } {
            // The lower VFS has filled the rest with zeros.
            ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ => Ok(()),
            code => Err(code),
        }
    }

    pub(crate) fn write(self, bytes: &[u8], offset: i64) -> c_int {
        let Some(write) = self.methods().xWrite else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        let Ok(amount) = c_int::try_from(bytes.len()) else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        // SAFETY: the file is open and `bytes` is `amount` bytes long.
        unsafe { write(self.0, bytes.as_ptr().cast::<c_void>(), amount, offset) }
    }

    pub(crate) fn sync(self) -> c_int {
        match self.methods().xSync {
            // SAFETY: the file is open.
            Some(sync) => unsafe { sync(self.0, ffi::SQLITE_SYNC_NORMAL) },
            None => ffi::SQLITE_IOERR_FSYNC,
        }
    }

    pub(crate) fn size(self) -> Result<u64, c_int> {
        let Some(size) = self.methods().xFileSize else {
            return Err(ffi::SQLITE_IOERR_FSTAT);
        };
        let mut bytes = 0i64;
        // SAFETY: the file is open and `bytes` outlives the call.
        match unsafe { size(self.0, &mut bytes) } {
            ffi::SQLITE_OK => Ok(bytes.unsigned_abs()),
            code => Err(code),
        }
    }

    /// Takes or gives back locks of the shared memory; `flags` as in `sqlite3_io_methods.xShmLock`.
    pub(crate) fn shm_lock(self, offset: c_int, count: c_int, flags: c_int) -> c_int {
        match self.methods().xShmLock {
            // SAFETY: the file is open; the lower VFS answers an error if it has no shared memory.
            Some(lock) => unsafe { lock(self.0, offset, count, flags) },
            None => ffi::SQLITE_IOERR_SHMLOCK,
        }
    }

    /// Maps a region of the shared memory without extending it; null if it does not exist.
    pub(crate) fn shm_map(self, region: c_int, bytes: c_int) -> Result<*mut c_void, c_int> {
        let Some(map) = self.methods().xShmMap else {
            return Err(ffi::SQLITE_IOERR_SHMMAP);
        };
        let mut address = std::ptr::null_mut();
        // SAFETY: the file is open and `address` outlives the call.
        match unsafe { map(self.0, region, bytes, 0, &mut address) } {
            ffi::SQLITE_OK => Ok(address),
            code => Err(code),
        }
    }
}
