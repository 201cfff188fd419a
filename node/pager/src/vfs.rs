//! The shim VFS "halite": opens the main database and the WAL of registered databases through itself, everything else (journals,
//! temporary files) straight through the VFS below; on a disk of its own the journal as well. Registered once per process; called by SQLite only.

mod shim_file;

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use libsqlite3_sys::{self as ffi, sqlite3_file, sqlite3_vfs};

use crate::connection_state::ConnectionState;
use crate::disk_calls::{self, DiskCall};
use crate::memory;
use crate::os::{FileKey, FileKind, LOWER_VFS, LowerFile};
use crate::registry;
use crate::shared::Shared;

/// Name under which the shim is registered.
pub(crate) const NAME: &CStr = c"halite";

/// The address of the VFS below, once the shim is registered.
static LOWER: OnceLock<Result<usize, c_int>> = OnceLock::new();

/// Registers the shim, once.
pub(crate) fn register() -> Result<(), rusqlite::Error> {
    let registered = *LOWER.get_or_init(|| {
        memory::register();
        // SAFETY: `LOWER_VFS` is a C string; the call initialises SQLite if need be.
        let lower = unsafe { ffi::sqlite3_vfs_find(LOWER_VFS.as_ptr()) };
        if lower.is_null() {
            return Err(ffi::SQLITE_NOTFOUND);
        }
        // SAFETY: a registered VFS is valid for the life of the process. Its methods other than xOpen neither look at the
        // identity of the VFS they are given nor change it, so a copy may share them.
        let mut shim = unsafe { *lower };
        shim.zName = NAME.as_ptr();
        shim.pNext = std::ptr::null_mut();
        shim.szOsFile += shim_file::LOWER_AT as c_int;
        shim.xOpen = Some(open);
        shim.xDelete = Some(delete);
        // SAFETY: the shim is leaked, so it stays valid for the life of the process.
        match unsafe { ffi::sqlite3_vfs_register(Box::into_raw(Box::new(shim)), 0) } {
            ffi::SQLITE_OK => Ok(lower as usize),
            code => Err(code),
        }
    });
    registered
        .map(drop)
        .map_err(|code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

/// The state the shim keeps for a connection's database, if it was opened through the shim.
pub(crate) fn connection_state(
    connection: &rusqlite::Connection,
    schema: &CStr,
) -> Result<Arc<ConnectionState>, rusqlite::Error> {
    let mut file: *mut sqlite3_file = std::ptr::null_mut();
    // SAFETY: the handle is valid while `connection` is borrowed; the op stores a file pointer at the address given.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            schema.as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast(),
        )
    };
    if code == ffi::SQLITE_OK {
        // SAFETY: SQLite's pager gave the pointer of an open file.
        if let Some(shim) = unsafe { shim_file::ShimFile::from_raw(file) } {
            return Ok(Arc::clone(shim.connection()));
        }
    }
    Err(rusqlite::Error::SqliteFailure(
        ffi::Error::new(ffi::SQLITE_MISUSE),
        None,
    ))
}

/// The lower file of a connection's database.
///
/// # Safety
/// The connection that `state` came from must still be open, and stay open while the file is used.
pub(crate) unsafe fn lower_file(state: &ConnectionState) -> Option<LowerFile> {
    // SAFETY: the identity of a connection is the address of its shim file, open as the caller promises.
    let shim =
        unsafe { shim_file::ShimFile::from_raw(std::ptr::with_exposed_provenance_mut(state.id.0)) };
    shim.map(shim_file::ShimFile::lower)
}

/// The kinds of files that the shim looks at, as flags of xOpen.
const OPEN_KINDS: c_int =
    ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;

/// The registered database that a file of this name and kind belongs to.
fn database_of(path: &[u8], kind: FileKind) -> Option<Arc<Shared>> {
    let database = path.strip_suffix(kind.suffix().as_bytes())?;
    registry::find(Path::new(OsStr::from_bytes(database)))
}

/// True for the journal of a database on a disk of its own. Others are left to the VFS below.
///
/// # Safety
/// `name` must be a C string or null.
unsafe fn is_on_disk(name: *const c_char) -> bool {
    // SAFETY: promised by the caller.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) });
    name.and_then(|name| database_of(name.to_bytes(), FileKind::Journal))
        .is_some_and(|shared| shared.disk.is_some())
}

/// Removes a file, unless the disk that it is on has no power, or it is the WAL of a database in use: SQLite removes one whose database has no page,
/// as when something has truncated the file under it, and what was committed would be gone with it.
unsafe extern "C" fn delete(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    sync_directory: c_int,
) -> c_int {
    let Some(Ok(lower)) = LOWER.get() else {
        return ffi::SQLITE_IOERR_DELETE;
    };
    let lower: *mut sqlite3_vfs = std::ptr::with_exposed_provenance_mut(*lower);
    // SAFETY: `lower` is a registered VFS.
    let Some(delete_lower) = (unsafe { (*lower).xDelete }) else {
        return ffi::SQLITE_IOERR_DELETE;
    };
    // SAFETY: SQLite gives the name as a C string.
    let path = unsafe { CStr::from_ptr(name) }.to_bytes();
    for kind in [FileKind::Wal, FileKind::Journal] {
        let Some(shared) = database_of(path, kind) else {
            continue;
        };
        if matches!(kind, FileKind::Wal) && shared.fence.is_raised() {
            return ffi::SQLITE_IOERR_DELETE;
        }
        if let Some(disk) = &shared.disk {
            if disk.is_cut() {
                return ffi::SQLITE_IOERR_DELETE;
            }
            disk.removed(&FileKey {
                database: shared.file.path.clone(),
                kind,
            });
        }
    }
    // SAFETY: arguments as SQLite gave them.
    unsafe { delete_lower(lower, name, sync_directory) }
}

unsafe extern "C" fn open(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let Some(Ok(lower)) = LOWER.get() else {
        return ffi::SQLITE_CANTOPEN;
    };
    let lower: *mut sqlite3_vfs = std::ptr::with_exposed_provenance_mut(*lower);
    // SAFETY: `lower` is a registered VFS.
    let Some(open_lower) = (unsafe { (*lower).xOpen }) else {
        return ffi::SQLITE_CANTOPEN;
    };
    let kind = match flags & OPEN_KINDS {
        ffi::SQLITE_OPEN_MAIN_DB => FileKind::Database,
        ffi::SQLITE_OPEN_WAL => FileKind::Wal,
        // SAFETY: SQLite gives the name as a C string, or none.
        ffi::SQLITE_OPEN_MAIN_JOURNAL if unsafe { is_on_disk(name) } => FileKind::Journal,
        // SAFETY: arguments as SQLite gave them; `file` has room for more than the lower VFS asks for.
        _ => return unsafe { open_lower(lower, name, file, flags, out_flags) },
    };
    // SAFETY: SQLite gives `file` as szOsFile bytes to be filled in; no methods means "do not close".
    unsafe { (*file).pMethods = std::ptr::null() };
    if name.is_null() {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: SQLite gives the name as a C string.
    let path = unsafe { CStr::from_ptr(name) }.to_bytes();
    let Some(shared) = database_of(path, kind) else {
        return ffi::SQLITE_CANTOPEN;
    };
    if shared.disk.as_ref().is_some_and(|disk| disk.is_cut()) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `file` is szOsFile bytes long, aligned for a `ShimFile` with the lower file behind it.
    let lower_file = unsafe { file.byte_add(shim_file::LOWER_AT) };
    let waits = disk_calls::begin(DiskCall::Short);
    // SAFETY: as above; the lower VFS gets as many bytes as it asks for.
    let code = unsafe { open_lower(lower, name, lower_file, flags, out_flags) };
    drop(waits);
    if code == ffi::SQLITE_OK {
        // SAFETY: the lower file has just been opened, and `file` is ours to fill in.
        unsafe { shim_file::ShimFile::install(file, lower_file, kind, shared) };
    }
    code
}
