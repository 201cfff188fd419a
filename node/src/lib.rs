//! Halite: highly available SQLite.
//!
//! A cluster of nodes keeps page-identical copies of ordinary SQLite files. See the architecture chapter in [`docs`].
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | settings: file, environment, flags |
//! | [`cli`] | the command line |
//! | [`local_cluster`] | a cluster of processes on loopback, for demo, bench and tests |
//! | [`server`] | start and stop of a node, in order |
//! | `api` | what clients speak: gRPC |
//! | `cluster` | Raft, roles, membership, the ordered apply |
//! | `database` | lanes, readers, positions: one SQLite file each |
//! | `archiver` | committed LTX to destinations |
//!
//! Dependencies point one way: cli → server → api → cluster → database. What they need from each other upwards comes in through
//! small traits.

pub mod cli;
pub mod config;
pub mod docs;
pub mod local_cluster;
pub mod server;
pub mod telemetry;

pub(crate) mod api;
pub mod archiver;
pub mod cluster;
pub mod database;
mod immutable;
mod lasting;
mod piece_stream;
mod staging_file;
