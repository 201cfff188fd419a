//! [`MemberFault`]: what an operator does to the cluster. [`DamageFault`]: what the years do to its disks.

use std::time::Duration;

use super::Who;

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberFault {
    /// Moves leadership: to somebody, or to whoever is best.
    Transfer(Option<Who>),
    /// Adds a new node as a learner, or as a voter in the end.
    Add {
        /// The latter.
        voter: bool,
    },
    /// Removes a member; its process goes on.
    Remove(Who),
    /// A machine burns down with its disks; it is removed, and a new node added.
    Replace(Who),
}

/// Bits that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageFault {
    /// In an entry of the log.
    Log {
        /// Where.
        who: Who,
        /// The process is killed before, and comes back.
        down: Option<Duration>,
    },
    /// In a database file, while the process is down.
    Pages {
        /// Where.
        who: Who,
        /// How many.
        bits: u32,
        /// How long it stays down.
        down: Duration,
    },
    /// The power goes off, and somebody keeps a copy of both disks.
    Keep {
        /// Where.
        who: Who,
        /// How long it stays down.
        down: Duration,
    },
    /// The power goes off, and both disks are put back to the copy that was kept.
    PutBack {
        /// Where.
        who: Who,
        /// How long it stays down.
        down: Duration,
    },
    /// The power goes off, and another machine runs from then on, under the same id, on copies of both disks.
    Copy {
        /// Of which.
        who: Who,
        /// How long it stays down itself.
        down: Duration,
    },
    /// Both disks are lost, and the machine comes back with empty ones under the id that it had.
    NewDisks {
        /// Where.
        who: Who,
        /// How long it stays down.
        down: Duration,
    },
}

impl MemberFault {
    /// The kind, for figures.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Transfer(_) => "transfer of leadership",
            Self::Add { voter: false } => "new learner",
            Self::Add { voter: true } => "new voter",
            Self::Remove(_) => "removal",
            Self::Replace(_) => "node lost and replaced",
        }
    }
}

impl DamageFault {
    /// The kind, for figures.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Log { .. } => "log entry damaged",
            Self::Pages { .. } => "database pages damaged",
            Self::Keep { .. } => "copy of the disks kept",
            Self::PutBack { .. } => "disks put back",
            Self::Copy { .. } => "copy of a node started",
            Self::NewDisks { .. } => "id used again",
        }
    }
}
