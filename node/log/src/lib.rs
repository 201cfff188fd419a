//! `halite-log`: the Raft log, the vote and the node's own small durable facts, on one RocksDB.
//!
//! The fsync of this log **is** the durability of the cluster: SQLite's WAL is only a cache of it. So the crate promises
//! that an append it reported as flushed is read back after any crash, byte for byte, or that opening the log fails with
//! an error that says what is missing. It never answers with less, and never with something else.
//!
//! # What it owns
//!
//! * [`TypeConfig`]: the types Raft runs with. [`Payload`] and [`Reply`] are opaque bytes here; the node gives them meaning.
//! * [`LogStore`]: openraft's log storage, the node's [`MetaKey`] values and the index up to which this disk is flushed.
//! * [`MemDisk`]: a disk for the simulation, with power loss, slow and failing flushes. The store above it is the same code.
//!
//! # What it must never do
//!
//! Interpret a payload, talk to the network, decide when entries may be purged, or read a clock.
//!
//! # Who calls it
//!
//! openraft (through its storage traits), and the node: appliers and gates wait for [`LogStore::flushed`], checkpoints
//! write [`MetaKey`] values, redo and the archiver read ranges.
//!
//! # How a write travels
//!
//! ```text
//!  append ──► in-memory tail (readable at once) ──► bounded queue ──► writer: ONE batch, ONE fsync
//!  save_vote, truncate_after, purge, save_committed, meta_put ──────►┘            │
//!                             callbacks, flushed index, in-memory state ◄─────────┘
//! ```
//!
//! Everything that writes goes through the one queue, so the order on disk is the order of the calls. The writer takes all that
//! has queued up while the previous fsync ran: many appends share one.
//!
//! # When the disk fails
//!
//! A write or fsync that fails is reported to every operation of its batch, and the store refuses all later ones with
//! [`LogError::Failed`]: after a failed fsync nobody knows what the disk holds, and a later success must not paper over it.
//! openraft answers a storage error by shutting its core down (`Fatal::StorageError`); it does not retry. The node then
//! shuts that `Raft` down, and when the cause is gone (space was freed, the device is back) calls [`LogStore::recover`],
//! which opens the database anew, reads back what is really there, and lets a new `Raft` start on the same store.

mod backend;
mod entry_record;
mod error;
mod flushed_mark;
mod mem_disk;
mod meta_key;
mod raft_types;
mod size_index;
mod store;
mod stored_value;
mod tail;
mod writer;

pub use error::{LogError, OpenError};
pub use mem_disk::{Crash, FlushFate, FlushInfo, MemDisk, MemDiskImage};
pub use meta_key::{InvalidMetaKey, MetaKey};
pub use raft_types::{
    Entry, EntryPayload, LogId, Member, Membership, OnComplete, Payload, Reply, Rt, TypeConfig,
    Vote,
};
pub use store::{LogOptions, LogReader, LogStats, LogStore, MetaChange, RangeReader};
