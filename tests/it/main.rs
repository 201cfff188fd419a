//! Black-box tests of Halite with real processes.

#![allow(clippy::disallowed_methods, reason = "real processes run in real time")]

mod catch_up;
mod clock_skew;
mod crash;
mod damage;
mod databases;
mod full_disk;
mod handover;
mod identity;
mod membership;
mod namespaces;
mod network;
mod reads;
mod real_file;
mod retries;
mod seed;
mod soak;
mod start;
mod transactions;
mod unwritable;
