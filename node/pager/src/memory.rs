//! Memory that SQLite takes on a thread, and a limit of it for a while. SQLite bounds single values, but neither what an aggregate gathers nor how
//! many of them a statement has; and its own limits of the heap are of the whole process, where one statement would make the others fail.
//!
//! Owns the allocator that SQLite is given: the one it has by itself, with a count beside it. What is allocated on one thread and freed on another
//! moves the count of both, so only what is added during a limit says anything. Put in place before SQLite is initialised, and called by SQLite;
//! the node says when a limit begins and ends. Never fails an allocation outside of a limit.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::{Once, OnceLock};

use libsqlite3_sys::{self as ffi, sqlite3_mem_methods};

thread_local! {
    /// Bytes allocated less bytes freed.
    static TAKEN: Cell<i64> = const { Cell::new(0) };
    static TAKEN_MAX: Cell<i64> = const { Cell::new(i64::MAX) };
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// SQLite's own allocator.
struct Lower {
    malloc: unsafe extern "C" fn(c_int) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    realloc: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    size: unsafe extern "C" fn(*mut c_void) -> c_int,
}

/// Set before ours is in its place; `None` if SQLite does not tell it.
static LOWER: OnceLock<Option<Lower>> = OnceLock::new();

/// From here on SQLite may take so many bytes more on this thread; what is beyond is refused, which is `SQLITE_NOMEM` for the statement.
pub fn limit(bytes: u32) {
    TAKEN_MAX.set(TAKEN.get().saturating_add(i64::from(bytes)));
    REFUSED.set(false);
}

/// Ends the limit of this thread.
pub fn unlimit() {
    TAKEN_MAX.set(i64::MAX);
}

/// Whether the last limit of this thread was met.
pub fn was_refused() -> bool {
    REFUSED.get()
}

/// Gives SQLite the allocator. Without effect if SQLite is in use already, as in a test that has opened a connection of its own: then nothing is
/// limited.
pub(crate) fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let mut methods = MaybeUninit::<sqlite3_mem_methods>::zeroed();
        // SAFETY: the op writes the methods to the address given; all of them may be null, so what it leaves out is valid, too.
        let mut methods = unsafe {
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, methods.as_mut_ptr());
            methods.assume_init()
        };
        let found = || {
            Some(Lower {
                malloc: methods.xMalloc?,
                free: methods.xFree?,
                realloc: methods.xRealloc?,
                size: methods.xSize?,
            })
        };
        if LOWER.get_or_init(found).is_none() {
            return;
        }
        methods.xMalloc = Some(malloc);
        methods.xFree = Some(free);
        methods.xRealloc = Some(realloc);
        // SAFETY: SQLite copies the methods. It refuses them once it is initialised, so no memory of another allocator is ever given to them.
        let code = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const methods) };
        if code != ffi::SQLITE_OK {
            tracing::debug!(code, "the memory of statements is not limited");
        }
    });
}

fn lower() -> Option<&'static Lower> {
    LOWER.get().and_then(Option::as_ref)
}

fn may_take(bytes: i64) -> bool {
    let fits = bytes <= 0 || TAKEN.get().saturating_add(bytes) <= TAKEN_MAX.get();
    if !fits {
        REFUSED.set(true);
    }
    fits
}

fn count(bytes: i64) {
    TAKEN.set(TAKEN.get() + bytes);
}

impl Lower {
    /// Bytes of a block, 0 of none.
    ///
    /// # Safety
    /// `block` is null, or of this allocator and not freed.
    unsafe fn size_of(&self, block: *mut c_void) -> i64 {
        match block.is_null() {
            true => 0,
            // SAFETY: the caller's promise.
            false => i64::from(unsafe { (self.size)(block) }),
        }
    }
}

unsafe extern "C" fn malloc(bytes: c_int) -> *mut c_void {
    let Some(lower) = lower().filter(|_| may_take(i64::from(bytes))) else {
        return std::ptr::null_mut();
    };
    // SAFETY: SQLite's own request, handed on; what comes back is of this allocator, or null.
    unsafe {
        let block = (lower.malloc)(bytes);
        count(lower.size_of(block));
        block
    }
}

unsafe extern "C" fn free(block: *mut c_void) {
    let Some(lower) = lower() else {
        return;
    };
    // SAFETY: SQLite frees what it was given here, once.
    unsafe {
        count(-lower.size_of(block));
        (lower.free)(block);
    }
}

unsafe extern "C" fn realloc(block: *mut c_void, bytes: c_int) -> *mut c_void {
    let Some(lower) = lower() else {
        return std::ptr::null_mut();
    };
    // SAFETY: SQLite was given the block here. Where null comes back, the block stays as it is.
    unsafe {
        let before = lower.size_of(block);
        if !may_take(i64::from(bytes) - before) {
            return std::ptr::null_mut();
        }
        let moved = (lower.realloc)(block, bytes);
        if !moved.is_null() {
            count(lower.size_of(moved) - before);
        }
        moved
    }
}
