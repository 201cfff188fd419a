//! The disk of a simulated machine below SQLite's files: [`CrashDisk`]. It forgets what was not synced when the power goes, tears sectors, and
//! lets accesses fail, as a seed says.
//!
//! It must never be part of what is shipped: the pager knows only the seam, [`halite_pager::Disk`]. Called by the simulation, and by tests
//! that need a disk which fails.

pub use crash_disk::CrashDisk;
pub use error::RestoreError;
pub use fault::{DiskAction, DiskError, DiskFate, DiskOperation, FaultCounts};
pub use unsynced::{Survival, Unsynced, UnsyncedChange};

mod change_list;
mod crash_disk;
mod disk_file;
mod disk_state;
mod error;
mod fault;
mod unsynced;
