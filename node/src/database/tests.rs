//! Lanes, followers, readers and page diffs against the real pager.

mod group_commit;
mod harness;
