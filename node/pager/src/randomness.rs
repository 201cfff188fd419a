//! SQLite's own randomness (`random()`, `randomblob()`, the salts of the WAL, names of temporary files). It belongs to the whole
//! process, not to a connection or a VFS. Called by the simulation before it opens anything.

use libsqlite3_sys as ffi;

use crate::memory;

/// Starts SQLite's pseudo-random numbers anew from `seed`, for the whole process: the same calls in the same order get the same
/// numbers. 0 goes back to true randomness.
///
/// Call it while no thread uses SQLite. With several threads the order of their calls is still theirs.
pub fn seed_sqlite_randomness(seed: u32) {
    memory::register();
    // SAFETY: this op takes an int and a connection, here none; it exists in the bundled SQLite.
    unsafe {
        ffi::sqlite3_initialize();
        ffi::sqlite3_test_control(
            ffi::SQLITE_TESTCTRL_PRNG_SEED,
            seed.cast_signed(),
            std::ptr::null_mut::<ffi::sqlite3>(),
        );
    }
}
