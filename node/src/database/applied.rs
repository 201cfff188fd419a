//! [`Applied`], [`Mark`], [`Health`] and [`Status`]: where a database stands on this node. Values only.

use halite_ltx::Position;

/// The state that readers of this node see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// TXID and checksum.
    pub position: Position,
    /// Raft index of the entry that led here; 0 before the first.
    pub raft_index: u64,
    /// Term of that entry; 0 if it is not known.
    pub raft_term: u64,
    /// Size in pages.
    pub page_count: u32,
}

impl Applied {
    /// Before the first transaction.
    pub const ZERO: Applied = Applied {
        position: Position::ZERO,
        raft_index: 0,
        raft_term: 0,
        page_count: 0,
    };
}

/// A committed transaction: where it leads to, and the entry that committed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// TXID and checksum after it.
    pub position: Position,
    /// Raft term of the entry; 0 if it is not known.
    pub term: u64,
    /// Raft index of the entry.
    pub index: u64,
}

/// Whether the database can follow its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Fine,
    /// A committed entry could not be written here (disk full, I/O error): it is tried again until it works. A primary should hand
    /// leadership over.
    Behind {
        /// What SQLite or the system said.
        why: String,
        /// Reads may go on. False while the file was not yet brought to where it was before the start.
        readable: bool,
    },
    /// The file is not what the log says: nothing is applied until a page diff is installed.
    NeedsRepair {
        /// What was found.
        why: String,
        /// Reads may go on: what is visible was committed. False if the file's content is unproven.
        readable: bool,
    },
    /// An entry made the lane panic: the database stays where it is until an operator has it tried again, or a page diff leads past the
    /// entry.
    Parked {
        /// Which entry, and what the panic said.
        why: String,
        /// Reads at level `local` may go on: what is visible was committed.
        readable: bool,
    },
}

impl Health {
    /// Empty when all is well, otherwise what is wrong.
    pub fn trouble(&self) -> &str {
        match self {
            Health::Fine => "",
            Health::Behind { why, .. }
            | Health::NeedsRepair { why, .. }
            | Health::Parked { why, .. } => why,
        }
    }

    /// It does not pass by itself.
    pub fn needs_repair(&self) -> bool {
        matches!(self, Health::NeedsRepair { .. } | Health::Parked { .. })
    }

    /// Reads may be served.
    pub fn readable(&self) -> bool {
        match self {
            Health::Fine => true,
            Health::Behind { readable, .. }
            | Health::NeedsRepair { readable, .. }
            | Health::Parked { readable, .. } => *readable,
        }
    }
}

/// What a database says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    /// What readers see.
    pub applied: Applied,
    /// Whether it can follow.
    pub health: Health,
    /// Bytes of the WAL in use.
    pub wal_bytes: u64,
    /// Write jobs waiting for the lane.
    pub queued_jobs: usize,
    /// Batches committed by this node since it opened the database.
    pub batches: u64,
    /// Jobs in these batches.
    pub batched_jobs: u64,
}
