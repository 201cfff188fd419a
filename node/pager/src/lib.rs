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
//! Called by the node's lanes, appliers, readers, archiver and start-up code. The simulation puts a [`Disk`] of its own below it.
//!
//! A primary and a follower, with the shortest way between them:
//!
//! ```
//! use std::sync::mpsc;
//!
//! use halite_ltx::PageNo;
//! use halite_pager::{
//!     ApplyError, ApplyTarget, CaptureError, CapturedTransaction, Database, Gate, GateVerdict, OpenOptions,
//! };
//!
//! type Entry = (ApplyTarget, Vec<(PageNo, Vec<u8>)>);
//! struct ToFollower(mpsc::Sender<Entry>);
//!
//! impl Gate for ToFollower {
//!     fn commit(&self, transaction: &CapturedTransaction<'_>) -> GateVerdict {
//!         let mut pages = Vec::new();
//!         let read = transaction.for_each_page(|pgno, page| {
//!             pages.push((pgno, page.to_vec()));
//!             Ok::<(), CaptureError>(())
//!         });
//!         let target = ApplyTarget {
//!             page_count: transaction.page_count(),
//!             expected_pre: Some(transaction.pre_checksum()),
//!             expected_post: Some(transaction.post_checksum()),
//!         };
//!         match read {
//!             Ok(()) if self.0.send((target, pages)).is_ok() => GateVerdict::Open,
//!             _ => GateVerdict::Refuse,
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let primary = Database::open(directory.path().join("primary.db"), &OpenOptions::default())?;
//! let follower = Database::open(directory.path().join("follower.db"), &OpenOptions::default())?;
//! let (send, entries) = mpsc::channel();
//! let writer = primary.writer(Box::new(ToFollower(send)))?;
//! let mut applier = follower.applier()?;
//! writer.connection().execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1)")?;
//! for (target, pages) in entries.try_iter() {
//!     applier.apply::<ApplyError>(target, |sink| {
//!         pages.iter().try_for_each(|(pgno, page)| sink.page(*pgno, page))
//!     })?;
//! }
//! assert_eq!(primary.checksum(), follower.checksum());
//! # Ok(())
//! # }
//! ```

pub use applier::{Applier, ApplyTarget, PageSink};
pub use captured_transaction::CapturedTransaction;
pub use checkpoint::{CheckpointMode, CheckpointOutcome};
pub use connection::forget_last_insert_rowid;
pub use cursor::{Cursor, Prepared};
pub use database::Database;
pub use disk_calls::{DiskCall, DiskCalls};
pub use error::{ApplyError, CaptureError, ImportError, OpenError, PagerError};
pub use gate::{CommitOutcome, Gate, GateVerdict};
pub use import::remove_left_over_copies;
pub use open_options::{AutoVacuum, OpenOptions};
pub use os::{Disk, DiskFile, FileKey, FileKind, OsFile, WalState, beside};
pub use page_mask::masked_page_checksum;
pub use page_snapshot::PageSnapshot;
pub use randomness::seed_sqlite_randomness;
pub use scrub::ScrubReport;
pub use writer::Writer;

mod applier;
mod blank_page;
mod capture;
mod captured_transaction;
mod checkpoint;
mod checksum_table;
mod connection;
mod connection_state;
mod cursor;
mod database;
mod disk_calls;
mod error;
mod fence;
mod file_state;
mod functions;
mod gate;
mod import;
pub mod memory;
mod open_options;
mod os;
mod page_mask;
mod page_snapshot;
mod randomness;
mod registry;
mod scrub;
mod shared;
mod vfs;
mod write_transaction;
mod writer;

#[cfg(test)]
mod tests;
