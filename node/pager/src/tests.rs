//! Tests on real files; where the outside view matters, with the stock `sqlite3` program as another process.

mod support;

mod crash;
mod fence;
mod gate;
mod import;
mod large;
mod replication;
mod workload;
