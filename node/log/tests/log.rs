//! Black-box tests of the log store, on RocksDB in a temporary directory and on the simulated disk.

#[path = "log/support.rs"]
mod support;

#[path = "log/suite.rs"]
mod suite;

#[path = "log/store.rs"]
mod store;

#[path = "log/durability.rs"]
mod durability;

#[path = "log/damage.rs"]
mod damage;

#[path = "log/mem_disk.rs"]
mod mem_disk;

#[path = "log/raft.rs"]
mod raft;

#[path = "log/model.rs"]
mod model;
