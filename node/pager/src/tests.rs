//! Tests on real files; where the outside view matters, with the stock `sqlite3` program as another process.

mod support;

mod crash;
mod damage;
mod fence;
mod gate;
mod import;
mod large;
mod replication;
mod workload;

/// Lanes, appliers and snapshots move to threads of their own; databases are shared.
#[test]
fn handles_can_be_moved_between_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<crate::Writer>();
    send::<crate::Applier>();
    send::<crate::PageSnapshot>();
    send::<crate::Database>();
    sync::<crate::Database>();
}
