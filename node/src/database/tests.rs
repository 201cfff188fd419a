//! Lanes, followers, readers and page diffs against the real pager.

#![allow(clippy::disallowed_methods, reason = "tests wait with a deadline")]

mod confirmed;
mod failover;
mod following;
mod gate;
mod group_commit;
mod harness;
mod idempotency;
mod interactive;
mod page_diff;
mod readers;
mod redo;
mod refused_sql;
