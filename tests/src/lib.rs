//! What the black-box tests stand on: clusters of real processes, load with a recorded history, and what checks both.
//!
//! | module | owns |
//! |---|---|
//! | [`program`] | the `halite` program |
//! | [`scratch`] | the directory of one test, kept when it fails; which tests may run side by side |
//! | [`cluster`] | a cluster under test: waiting for states, comparing files |
//! | [`direct`] | calls to one named node, which the client library would route elsewhere |
//! | [`disk`] | disks that fill up, files that cannot be written |
//! | [`faketime`] | wall clocks that are wrong |
//! | [`history`] | what writers were told and readers saw, and whether it is as promised |
//! | [`litestream`] | the stock `litestream` program |
//! | [`load`] | writers and readers that record |
//! | [`files`] | copies of data directories |
//! | [`ltx_copy`] | a copy of a database made of streamed transactions |
//! | [`netns`] | network namespaces, where packets are dropped |
//! | [`pages`] | files, page by page |
//! | [`proxy`] | the network between nodes, with faults |
//! | [`slow_disk`] | disks that are slow or hang: a library before the nodes' writes and syncs |
//! | [`stock`] | the `sqlite3` program |
//! | [`wait`] | conditions with a deadline |
//!
//! Nothing here looks into a node: everything goes through the client library, the command line, the files and signals.

#![allow(clippy::disallowed_methods, reason = "real processes run in real time")]

pub mod cluster;
pub mod direct;
pub mod disk;
pub mod faketime;
pub mod files;
pub mod history;
pub mod litestream;
pub mod load;
pub mod ltx_copy;
pub mod netns;
pub mod pages;
pub mod program;
pub mod proxy;
pub mod scratch;
pub mod slow_disk;
pub mod stock;
pub mod wait;
