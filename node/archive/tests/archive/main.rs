//! Black-box tests of the archive on real directories, with files that stock Litestream wrote and with files of our own.

#![allow(
    clippy::disallowed_methods,
    reason = "waits for real processes with a deadline"
)]

mod batches;
mod contract;
mod damage;
mod file_destination;
mod histories;
mod killed_writer;
mod litestream;
mod mem_store;
mod outputs;
mod races;
mod support;
mod vectors;
