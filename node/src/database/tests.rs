//! Lanes, followers, readers and page diffs against the real pager.

#![allow(clippy::disallowed_methods, reason = "tests wait with a deadline")]

mod blank;
mod confirmed;
mod encoding;
mod failover;
mod following;
mod foreign_keys;
mod frameworks;
mod gate;
mod group_commit;
mod harness;
mod idempotency;
mod interactive;
mod keep;
mod last_rowid;
mod page_diff;
mod readers;
mod redo;
mod refused_sql;
