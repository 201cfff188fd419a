//! Black-box tests of Halite with real processes.

#![allow(clippy::disallowed_methods, reason = "real processes run in real time")]

mod archive;
mod catch_up;
mod clock_skew;
mod copies;
mod crash;
mod damage;
mod databases;
mod forwarding;
mod full_disk;
mod handover;
mod identity;
mod limits;
mod locks;
mod ltx_stream;
mod membership;
mod namespaces;
mod network;
mod reads;
mod real_file;
mod retries;
mod returning;
mod rolled_back;
mod seed;
mod slow_receivers;
mod soak;
mod start;
mod transactions;
mod trouble;
mod unwell;
mod unwritable;
