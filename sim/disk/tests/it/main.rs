//! The simulated disk below real databases: what it keeps, loses and refuses, and what the pager makes of that.

mod crash_disk;
mod disk_faults;
mod power_loss;
mod support;
