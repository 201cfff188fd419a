//! Deterministic simulation of Halite clusters.
//!
//! The real node, client and pager code runs on simulated time and a simulated network, with real SQLite files on disks that can lose
//! power. A seed decides everything; the same seed gives the same run, byte for byte. This crate searches for seeds that break a promise
//! of Halite, and repeats those that once did.
//!
//! ```text
//! cargo run --release -p halite-sim -- --seed 7 --verbose     one run, step by step
//! cargo run --release -p halite-sim -- --seeds 0..1000        a search, on all cores
//! cargo run --release -p halite-sim -- --seeds 5000.. --time-limit 600 --keep-going
//! ```
//!
//! # What is real and what is not
//!
//! | part | in the simulation |
//! |---|---|
//! | node, client, Raft, gRPC, HTTP/2 | the code of production |
//! | time | tokio's paused clock, one per host, moved by [turmoil](https://docs.rs/turmoil) |
//! | network | turmoil: every message is delayed, and cut where the run says so. A lost segment is not sent again: the connection hangs until keep-alive ends it |
//! | threads (lanes, readers, blocking jobs) | real ones in lockstep: whoever hands work over waits until the thread waits in turn ([`host`]) |
//! | SQLite and its files | real, below the shim VFS lies `halite_sim_disk::CrashDisk`: a power loss keeps, drops or tears each unsynced sector |
//! | log | `halite_log` with all of its code but RocksDB, on `MemDisk`: a power loss takes unsynced batches |
//! | archive | `halite_archive::MemStore` |
//! | randomness | seeded: Raft's timeouts, ids, clients, SQLite's |
//!
//! A process that is stopped by SIGSTOP cannot be simulated, since turmoil moves the clocks of all hosts; a stalled network comes near to it,
//! and the black-box tests do it for real.
//!
//! # How a run goes
//!
//! [`plan`] draws cluster, load and faults. [`world`] starts nodes ([`node`]) and clients ([`workload`]), steps the network a millisecond at a
//! time, carries out the [faults](fault), and looks at the [invariants](invariant) every five milliseconds. Then everything heals: the
//! cluster has to serve again, to come to rest, to hold the same pages on all nodes, and to hold what the histories of the clients say
//! (`halite_checks`).
//!
//! [`sometimes`] lists rare states that a search has to reach; [`episode`] leads to some of them on purpose. What a plan does not change is set
//! as in the product: the options come from its default configuration.
//!
//! # Seen to fail
//!
//! [`planted`] lists bugs that are compiled in for the purpose, and the seed that finds each.
//!
//! # When a seed fails
//!
//! The program prints the last steps and what did not hold. `--seed N --verbose` shows every step, `RUST_LOG=info` adds what the nodes
//! log. Keep the seed with its reason in `sim/regress/seeds`, and what it found in a test beside the code: another day's plans draw other
//! runs from the same seed.

pub mod disks;
pub mod episode;
pub mod export;
pub mod fault;
pub mod figures;
pub mod file;
pub mod host;
pub mod invariant;
pub mod network;
pub mod node;
pub mod operator;
#[doc = include_str!("../planted/bugs.md")]
pub mod planted {}
pub mod plan;
pub mod recorder;
pub mod run;
pub mod search;
pub mod seeds;
pub mod sometimes;
pub mod stopwatch;
pub mod trace;
pub mod workload;
pub mod world;
