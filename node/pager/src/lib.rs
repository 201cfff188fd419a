//! The pager layer of Halite: the only crate that knows SQLite's internals, and the only one with `unsafe`.
//!
//! It owns, per database file, the shim VFS, the write fence, the commit gate with page capture, the page-wise apply, the
//! checkpoints and the table of page checksums. It knows a gate as a trait ([`Gate`]) and nothing of nodes, Raft or logs.
//!
//! It must never publish a transaction that its gate has not opened for, and never let anybody else write or checkpoint the
//! file while a [`Database`] is open.
//!
//! **Nothing else in the process may open and close the database file, its `-wal` or its `-shm`**: POSIX drops all locks a
//! process holds on a file when *any* of its descriptors for that file is closed. Open connections only through
//! [`Database::reader`], [`Database::writer`], [`Database::applier`] and [`Database::snapshot`]. Looking at a file's metadata
//! (`stat`) is harmless.
//!
//! Called by the node's lanes, appliers, readers, archiver and start-up code.

pub use applier::{Applier, ApplyTarget, PageSink};
pub use captured_transaction::CapturedTransaction;
pub use checkpoint::{CheckpointMode, CheckpointOutcome};
pub use database::Database;
pub use error::{ApplyError, CaptureError, ImportError, OpenError, PagerError};
pub use gate::{CommitOutcome, Gate, GateVerdict};
pub use open_options::{AutoVacuum, OpenOptions};
pub use page_mask::masked_page_checksum;
pub use page_snapshot::PageSnapshot;
pub use scrub::ScrubReport;
pub use wal_index::WalState;
pub use writer::Writer;

mod applier;
mod blank_page;
mod capture;
mod captured_transaction;
mod checkpoint;
mod checksum_table;
mod connection;
mod database;
mod error;
mod fence;
mod gate;
mod import;
mod lower_file;
mod open_options;
mod page_mask;
mod page_snapshot;
mod registry;
mod scrub;
mod shared;
mod vfs;
mod wal_index;
mod write_transaction;
mod writer;

#[cfg(test)]
mod tests;
