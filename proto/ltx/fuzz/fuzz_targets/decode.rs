//! Arbitrary bytes through every reader of the crate; see `entry.rs`.

#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::check(data));
