//! [`LowerFile`]: one open file of the VFS below the shim. All bytes the shim reads and writes itself pass here, so this is
//! where a [`Disk`](super::Disk) is put in between. Called by the VFS and by redo.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use libsqlite3_sys::{self as ffi, sqlite3_file, sqlite3_io_methods};

use super::DiskFile;
use crate::disk_calls::{self, DiskCall};

/// Name of the VFS below the shim.
pub(crate) const LOWER_VFS: &std::ffi::CStr = c"unix";

/// An open file of the lower VFS. Copies name the same file; whoever holds one must know that it is still open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LowerFile {
    file: *mut sqlite3_file,
    /// The rule of the disk that the file is on.
    disk: Option<NonNull<dyn DiskFile>>,
}

// SAFETY: a descriptor of the lower VFS has no thread affinity; its positional reads and writes and its shared-memory calls
// are safe from any thread while it is open.
unsafe impl Send for LowerFile {}
// SAFETY: as above; a shared reference only copies the pointer.
unsafe impl Sync for LowerFile {}

impl LowerFile {
    /// # Safety
    /// `file` must have been opened by the lower VFS and must stay open as long as the value is used.
    pub(crate) unsafe fn new(file: *mut sqlite3_file) -> Self {
        LowerFile { file, disk: None }
    }

    /// The same file, under the rule of a disk.
    ///
    /// # Safety
    /// `disk` must live as long as the file is open.
    pub(crate) unsafe fn on(self, disk: &(dyn DiskFile + 'static)) -> Self {
        LowerFile {
            disk: Some(NonNull::from(disk)),
            ..self
        }
    }

    fn disk(&self) -> Option<&dyn DiskFile> {
        // SAFETY: per `on` it lives as long as the file is open, which whoever holds this knows it is.
        self.disk.map(|disk| unsafe { disk.as_ref() })
    }

    /// True if the file is on a disk whose power is off.
    pub(crate) fn is_cut(&self) -> bool {
        self.disk().is_some_and(|disk| disk.is_cut())
    }

    pub(crate) fn raw(self) -> *mut sqlite3_file {
        self.file
    }

    pub(crate) fn methods(self) -> &'static sqlite3_io_methods {
        // SAFETY: per `new` the file is open, so its method table is set; the tables of a VFS are static.
        unsafe { &*(*self.file).pMethods }
    }

    /// Reads as `sqlite3_io_methods.xRead`.
    ///
    /// # Safety
    /// `buffer` must have room for `amount` bytes.
    pub(crate) unsafe fn read_into(self, buffer: *mut c_void, amount: c_int, offset: i64) -> c_int {
        let Some(read) = self.methods().xRead else {
            return ffi::SQLITE_IOERR_READ;
        };
        let _waits = disk_calls::begin(DiskCall::Short);
        // SAFETY: the file is open; the rest is promised by the caller.
        let mut read = || unsafe { read(self.file, buffer, amount, offset) };
        match self.disk() {
            Some(disk) => {
                let bytes = usize::try_from(amount).unwrap_or(0);
                disk.read(offset.unsigned_abs(), bytes, &mut read)
            }
            None => read(),
        }
    }

    /// Reads at `offset`; past the end of the file the rest is zero.
    pub(crate) fn read(self, buffer: &mut [u8], offset: i64) -> Result<(), c_int> {
        let amount = c_int::try_from(buffer.len()).map_err(|_| ffi::SQLITE_IOERR_READ)?;
        // SAFETY: the buffer is `amount` bytes long.
        match unsafe { self.read_into(buffer.as_mut_ptr().cast::<c_void>(), amount, offset) } {
            // The lower VFS has filled the rest with zeros.
            ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ => Ok(()),
            code => Err(code),
        }
    }

    pub(crate) fn write(self, bytes: &[u8], offset: i64) -> c_int {
        let _waits = disk_calls::begin(DiskCall::Short);
        if let Some(disk) = self.disk() {
            return disk.write(bytes, offset.unsigned_abs());
        }
        let Some(write) = self.methods().xWrite else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        let Ok(amount) = c_int::try_from(bytes.len()) else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        // SAFETY: the file is open and `bytes` is `amount` bytes long.
        unsafe { write(self.file, bytes.as_ptr().cast::<c_void>(), amount, offset) }
    }

    pub(crate) fn truncate(self, size: i64) -> c_int {
        let _waits = disk_calls::begin(DiskCall::Sync);
        if let Some(disk) = self.disk() {
            return disk.truncate(size.unsigned_abs());
        }
        match self.methods().xTruncate {
            // SAFETY: the file is open.
            Some(truncate) => unsafe { truncate(self.file, size) },
            None => ffi::SQLITE_IOERR_TRUNCATE,
        }
    }

    /// `flags` as in `sqlite3_io_methods.xSync`.
    pub(crate) fn sync(self, flags: c_int) -> c_int {
        let _waits = disk_calls::begin(DiskCall::Sync);
        if let Some(disk) = self.disk() {
            return disk.sync();
        }
        match self.methods().xSync {
            // SAFETY: the file is open.
            Some(sync) => unsafe { sync(self.file, flags) },
            None => ffi::SQLITE_IOERR_FSYNC,
        }
    }

    pub(crate) fn size(self) -> Result<u64, c_int> {
        let _waits = disk_calls::begin(DiskCall::Short);
        if let Some(disk) = self.disk() {
            return disk.size();
        }
        let Some(size) = self.methods().xFileSize else {
            return Err(ffi::SQLITE_IOERR_FSTAT);
        };
        let mut bytes = 0i64;
        // SAFETY: the file is open and `bytes` outlives the call.
        match unsafe { size(self.file, &mut bytes) } {
            ffi::SQLITE_OK => Ok(bytes.unsigned_abs()),
            code => Err(code),
        }
    }

    /// Takes or gives back locks of the shared memory; `flags` as in `sqlite3_io_methods.xShmLock`.
    pub(crate) fn shm_lock(self, offset: c_int, count: c_int, flags: c_int) -> c_int {
        match self.methods().xShmLock {
            // SAFETY: the file is open; the lower VFS answers an error if it has no shared memory.
            Some(lock) => unsafe { lock(self.file, offset, count, flags) },
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
        match unsafe { map(self.file, region, bytes, 0, &mut address) } {
            ffi::SQLITE_OK => Ok(address),
            code => Err(code),
        }
    }
}
