//! Black-box tests of the format: files that stock Litestream wrote, properties, and damage of every kind.

#[path = "../../fuzz/entry.rs"]
mod entry;

mod compaction;
mod damage;
mod headers;
mod index;
mod round_trip;
mod samples;
mod text;
mod vectors;
