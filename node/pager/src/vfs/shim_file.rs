//! [`ShimFile`]: an open main database or WAL file. It decides per call: pass on, refuse, or let the fence or the write
//! transaction answer. Called by SQLite only, except for the accessors.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use halite_ltx::PageNo;
use libsqlite3_sys::{self as ffi, sqlite3_file, sqlite3_int64, sqlite3_io_methods};
use parking_lot::Mutex;

use crate::connection_state::{ConnectionState, Role};
use crate::fence::{ConnectionId, FENCED_SLOTS};
use crate::gate::CommitOutcome;
use crate::os::{DiskFile, FileKey, FileKind, LowerFile, OsFile};
use crate::shared::Shared;

/// Where in SQLite's allocation the file of the lower VFS starts.
pub(super) const LOWER_AT: usize = size_of::<ShimFile>().next_multiple_of(16);

#[repr(C)]
pub(super) struct ShimFile {
    base: sqlite3_file,
    kind: FileKind,
    lower: LowerFile,
    /// The rule of the disk that the file is on, and what the disk reaches the file with.
    disk: Option<(Box<dyn DiskFile>, OsFile)>,
    shared: Arc<Shared>,
    connection: Arc<ConnectionState>,
}

impl ShimFile {
    /// # Safety
    /// `file` must have room for a `ShimFile` and not be initialised; `lower` must be open and stay open until `close`.
    pub(super) unsafe fn install(
        file: *mut sqlite3_file,
        lower: *mut sqlite3_file,
        kind: FileKind,
        shared: Arc<Shared>,
    ) {
        let connection = Arc::new(ConnectionState {
            id: ConnectionId(file as usize),
            role: Mutex::new(Role::Reader),
            outcome: Mutex::new(CommitOutcome::NotReached),
        });
        // SAFETY: promised by the caller.
        let mut lower = unsafe { LowerFile::new(lower) };
        let disk = shared.disk.as_ref().map(|disk| {
            let key = FileKey {
                database: shared.file.path.clone(),
                kind,
            };
            // SAFETY: the shim's `close` calls `closed` before it closes the file.
            let below = unsafe { OsFile::new(lower) };
            (disk.open(key, below.clone()), below)
        });
        if let Some((rule, _)) = &disk {
            // SAFETY: both belong to the shim file made here, which closes the file before it lets go of the rule.
            lower = unsafe { lower.on(&**rule) };
        }
        let shim = ShimFile {
            base: sqlite3_file { pMethods: &METHODS },
            kind,
            lower,
            disk,
            shared,
            connection,
        };
        // SAFETY: promised by the caller.
        unsafe { file.cast::<ShimFile>().write(shim) };
    }

    /// # Safety
    /// `file` must be null or an open file of some VFS, and stay open while the reference is used.
    pub(super) unsafe fn from_raw<'a>(file: *mut sqlite3_file) -> Option<&'a ShimFile> {
        // SAFETY: promised by the caller; only files of the shim have its method table.
        unsafe {
            let ours = !file.is_null() && std::ptr::eq((*file).pMethods, &raw const METHODS);
            ours.then(|| &*file.cast::<ShimFile>())
        }
    }

    pub(super) fn connection(&self) -> &Arc<ConnectionState> {
        &self.connection
    }

    pub(super) fn lower(&self) -> LowerFile {
        self.lower
    }

    /// What comes of a read of the database file: whoever writes must not go on from a page that the disk, or somebody, has changed. It would
    /// reach every node with the next transaction.
    fn judge(&self, bytes: &[u8], offset: i64, code: c_int) -> c_int {
        let page_size = self.shared.file.page_size().get() as usize;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if bytes.len() != page_size
            || !offset.is_multiple_of(page_size)
            || !matches!(*self.connection.role.lock(), Role::Writer(_))
        {
            return code;
        }
        let Ok(before) = u32::try_from(offset / page_size) else {
            return code;
        };
        let pgno = PageNo::new(before.saturating_add(1));
        if self.shared.file.is_committed(pgno, bytes) {
            return code;
        }
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::DamageUnnoticed) {
            return code;
        }
        let path = self.shared.file.path.display();
        tracing::error!(%path, page = pgno.get(), "a page of the database file is not what was committed");
        self.shared.file.suspect.store(true, Ordering::SeqCst);
        ffi::SQLITE_IOERR_DATA
    }

    fn write(&self, bytes: &[u8], offset: i64) -> c_int {
        if !self.shared.fence.is_raised() {
            return self.lower.write(bytes, offset);
        }
        match self.kind {
            FileKind::Journal => self.lower.write(bytes, offset),
            FileKind::Wal => {
                self.shared
                    .transaction
                    .lock()
                    .write(&self.shared.file, self.lower, bytes, offset)
            }
            FileKind::Database => {
                // In WAL mode only a checkpoint writes here, and only the keeper runs checkpoints.
                let keeper = matches!(*self.connection.role.lock(), Role::Keeper);
                if !keeper || !self.shared.fence.is_checkpointing() {
                    return ffi::SQLITE_READONLY;
                }
                #[cfg(test)]
                if self
                    .shared
                    .file
                    .faults
                    .main_after
                    .fetch_sub(1, Ordering::SeqCst)
                    <= 0
                    && let Some(code) =
                        crate::write_transaction::take_fault(&self.shared.file.faults.main)
                {
                    return code;
                }
                self.shared.file.main_unsynced.store(true, Ordering::SeqCst);
                self.lower.write(bytes, offset)
            }
        }
    }

    fn shm_lock(&self, offset: c_int, count: c_int, flags: c_int) -> c_int {
        if flags & ffi::SQLITE_SHM_LOCK != 0 && self.lower.is_cut() {
            return ffi::SQLITE_IOERR_SHMLOCK;
        }
        let fenced_end = (offset + count).min(FENCED_SLOTS);
        if offset >= fenced_end || !self.shared.fence.is_raised() {
            return self.lower.shm_lock(offset, count, flags);
        }
        if flags & ffi::SQLITE_SHM_SHARED != 0 {
            // No connection of ours shares these slots in earnest (see `sqlite3_snapshot_open`).
            return if flags & ffi::SQLITE_SHM_LOCK != 0 {
                ffi::SQLITE_BUSY
            } else {
                ffi::SQLITE_OK
            };
        }
        let slots = (
            offset.unsigned_abs() as usize,
            fenced_end.unsigned_abs() as usize,
        );
        let rest = offset + count - fenced_end;
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
            let code = if rest > 0 {
                self.lower.shm_lock(fenced_end, rest, flags)
            } else {
                ffi::SQLITE_OK
            };
            if slots.0 == 0 {
                self.shared.transaction.lock().end(&self.shared.file);
            }
            self.shared
                .fence
                .release(self.connection.id, slots.0, slots.1);
            return code;
        }
        if !self.shared.fence.acquire(
            self.connection.id,
            self.connection.writes(),
            slots.0,
            slots.1,
        ) {
            return ffi::SQLITE_BUSY;
        }
        if rest > 0 {
            let code = self.lower.shm_lock(fenced_end, rest, flags);
            if code != ffi::SQLITE_OK {
                self.shared
                    .fence
                    .release(self.connection.id, slots.0, slots.1);
                return code;
            }
        }
        if slots.0 == 0 {
            self.shared
                .transaction
                .lock()
                .begin(&self.connection, self.lower);
        }
        ffi::SQLITE_OK
    }
}

/// Method table of all shim files. Version 2: shared memory, but no memory-mapped pages, which would go round the shim.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// # Safety
/// `file` must be a file that `install` filled in and that is not closed yet, which SQLite guarantees for every method call.
unsafe fn shim<'a>(file: *mut sqlite3_file) -> &'a ShimFile {
    // SAFETY: promised by the caller.
    unsafe { &*file.cast::<ShimFile>() }
}

/// Calls a method of the lower file with the arguments SQLite gave, or gives up with `$missing`.
macro_rules! pass_on {
    ($file:expr, $method:ident, $missing:expr $(, $argument:expr)*) => {{
        // SAFETY: SQLite calls methods on open files only.
        let lower = unsafe { shim($file) }.lower;
        match lower.methods().$method {
            // SAFETY: the arguments are those SQLite gave for the same method of the upper file.
            Some(method) => unsafe { method(lower.raw() $(, $argument)*) },
            None => $missing,
        }
    }};
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite calls methods on open files only.
    let closing = unsafe { shim(file) };
    if let Some((rule, below)) = &closing.disk {
        rule.close();
        below.closed();
    }
    let code = pass_on!(file, xClose, ffi::SQLITE_OK);
    // SAFETY: SQLite calls this once and never uses the file again.
    unsafe {
        (*file).pMethods = std::ptr::null();
        std::ptr::drop_in_place(file.cast::<ShimFile>());
    }
    code
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    buffer: *mut c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite calls methods on open files only, and gives room for `amount` bytes at `buffer`.
    let (shim, code) = unsafe {
        (
            shim(file),
            shim(file).lower.read_into(buffer, amount, offset),
        )
    };
    // The lower VFS has filled what is past the end of the file with zeros.
    if shim.kind != FileKind::Database
        || !matches!(code, ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ)
    {
        return code;
    }
    let Ok(amount) = usize::try_from(amount) else {
        return code;
    };
    // SAFETY: `amount` bytes at `buffer` were filled.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), amount) };
    shim.judge(bytes, offset, code)
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    buffer: *const c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let Ok(amount) = usize::try_from(amount) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: SQLite calls methods on open files only, and gives `amount` readable bytes at `buffer`.
    let (shim, bytes) = unsafe {
        (
            shim(file),
            std::slice::from_raw_parts(buffer.cast::<u8>(), amount),
        )
    };
    shim.write(bytes, offset)
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls methods on open files only.
    let shim = unsafe { shim(file) };
    if shim.kind == FileKind::Database {
        shim.shared.file.main_unsynced.store(true, Ordering::SeqCst);
    }
    shim.lower.truncate(size)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite calls methods on open files only.
    let shim = unsafe { shim(file) };
    #[cfg(feature = "planted-bugs")]
    if halite_planted::on(halite_planted::Bug::CheckpointUnsynced)
        && shim.kind == FileKind::Database
    {
        shim.shared.file.main_synced(ffi::SQLITE_OK);
        return ffi::SQLITE_OK;
    }
    let code = shim.lower.sync(flags);
    if shim.kind == FileKind::Database {
        shim.shared.file.main_synced(code);
    }
    code
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    // SAFETY: SQLite calls methods on open files only, and gives an address for the size.
    unsafe {
        match shim(file).lower.size() {
            Ok(bytes) => {
                *size = bytes.cast_signed();
                ffi::SQLITE_OK
            }
            Err(code) => code,
        }
    }
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite calls methods on open files only.
    if unsafe { shim(file) }.lower.is_cut() {
        return ffi::SQLITE_IOERR_LOCK;
    }
    pass_on!(file, xLock, ffi::SQLITE_IOERR_LOCK, level)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    pass_on!(file, xUnlock, ffi::SQLITE_IOERR_UNLOCK, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, held: *mut c_int) -> c_int {
    pass_on!(
        file,
        xCheckReservedLock,
        ffi::SQLITE_IOERR_CHECKRESERVEDLOCK,
        held
    )
}

unsafe extern "C" fn file_control(
    file: *mut sqlite3_file,
    op: c_int,
    argument: *mut c_void,
) -> c_int {
    pass_on!(file, xFileControl, ffi::SQLITE_NOTFOUND, op, argument)
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    pass_on!(file, xSectorSize, 4096)
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    pass_on!(file, xDeviceCharacteristics, 0)
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    address: *mut *mut c_void,
) -> c_int {
    pass_on!(
        file,
        xShmMap,
        ffi::SQLITE_IOERR_SHMMAP,
        region,
        bytes,
        extend,
        address
    )
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: SQLite calls methods on open files only.
    unsafe { shim(file) }.shm_lock(offset, count, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    pass_on!(file, xShmBarrier, ())
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    pass_on!(file, xShmUnmap, ffi::SQLITE_OK, delete)
}
