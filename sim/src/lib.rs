//! Deterministic simulation of Halite clusters.
//!
//! The real node, client and pager code runs on simulated time and a simulated network, with real SQLite files on a disk that can lose
//! power. A seed decides everything; the same seed gives the same trace, byte for byte.

pub mod fault;
pub mod figures;
pub mod file;
pub mod host;
pub mod invariant;
pub mod network;
pub mod node;
pub mod plan;
pub mod recorder;
pub mod run;
pub mod search;
pub mod seeds;
pub mod stopwatch;
pub mod trace;
pub mod workload;
pub mod world;
