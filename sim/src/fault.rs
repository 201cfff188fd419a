//! [`Fault`]: what the driver can do to the cluster. Plain values; the plan draws them, the world carries them out.

mod disk;
mod members;
mod network;

use std::fmt;
use std::time::Duration;

pub use disk::{FileDiskFault, LogDiskFault, StoreFault};
pub use members::{DamageFault, MemberFault};
pub use network::{LinkFault, Machine, NetworkFault, Place};

/// A node, by its id or by what it is at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// This one.
    Node(u64),
    /// The one that takes writes. Nobody, if there is none.
    Primary,
    /// The one that plays this part in an episode. Nobody before the parts are given away.
    Cast(Part),
}

/// A part in an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Took writes when the parts were given away.
    Lead,
    /// Did not.
    First,
    /// Did not, either.
    Second,
}

/// One fault, and for how long it lasts where it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies and comes back. With `power`, the machine loses what it had not synced.
    Crash {
        /// Where.
        who: Who,
        /// Power loss, and not only the death of the process.
        power: bool,
        /// How long it stays down.
        down: Duration,
    },
    /// The same for all nodes at one moment.
    CrashAll {
        /// Power loss, and not only the death of the processes.
        power: bool,
        /// How long they stay down, one for each node that there may be.
        down: Vec<Duration>,
    },
    /// The power goes off between two accesses to the disk under SQLite.
    PowerCut {
        /// Where.
        who: Who,
        /// Accesses until then.
        accesses: u64,
        /// How long it stays down.
        down: Duration,
    },
    /// The process is asked to stop and is started again.
    Restart {
        /// Where.
        who: Who,
        /// How long it stays down.
        down: Duration,
    },
    /// Something is wrong with the network.
    Network(NetworkFault),
    /// Something is wrong with the disk under the log.
    LogDisk {
        /// Where.
        who: Who,
        /// What.
        fault: LogDiskFault,
        /// For how long.
        lasts: Duration,
    },
    /// Something is wrong with the disk under SQLite.
    FileDisk {
        /// Where.
        who: Who,
        /// Only the files of this database, by its place in the plan.
        database: Option<usize>,
        /// What.
        fault: FileDiskFault,
        /// For how long.
        lasts: Duration,
    },
    /// The wall clock is set.
    ClockJump {
        /// Where.
        who: Who,
        /// By how much, in milliseconds.
        by_ms: i64,
    },
    /// Something is wrong with the object store.
    Store {
        /// What.
        fault: StoreFault,
        /// For how long.
        lasts: Duration,
    },
    /// An operator is at work.
    Members(MemberFault),
    /// Something stored is not what it was.
    Damage(DamageFault),
}

impl Fault {
    /// The kind, for figures.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash { power: false, .. } => "kill",
            Self::Crash { power: true, .. } => "power loss",
            Self::CrashAll { power: false, .. } => "kill of all nodes",
            Self::CrashAll { power: true, .. } => "power loss of all nodes",
            Self::PowerCut { .. } => "power loss at an access",
            Self::Restart { .. } => "restart",
            Self::Network(fault) => fault.kind(),
            Self::LogDisk { fault, .. } => fault.kind(),
            Self::FileDisk { fault, .. } => fault.kind(),
            Self::ClockJump { by_ms, .. } if *by_ms < 0 => "clock set back",
            Self::ClockJump { .. } => "clock set forward",
            Self::Store { fault, .. } => fault.kind(),
            Self::Members(fault) => fault.kind(),
            Self::Damage(fault) => fault.kind(),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "n{id}"),
            Self::Primary => f.write_str("the primary"),
            Self::Cast(part) => write!(f, "{part:?}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Crash { who, down, .. } => write!(f, "{kind} of {who} for {down:?}"),
            Self::CrashAll { down, .. } => write!(f, "{kind} for {down:?}"),
            Self::PowerCut {
                who,
                accesses,
                down,
            } => write!(f, "{kind} of {who} after {accesses} accesses for {down:?}"),
            Self::Restart { who, down } => write!(f, "restart of {who} after {down:?}"),
            Self::Network(fault) => fault.fmt(f),
            Self::LogDisk { who, fault, lasts } => {
                write!(f, "{kind} at {who}: {fault:?} for {lasts:?}")
            }
            Self::FileDisk {
                who,
                database,
                fault,
                lasts,
            } => {
                write!(f, "{kind} at {who}: {fault:?} for {lasts:?}")?;
                database.map_or(Ok(()), |place| write!(f, " of database {place} alone"))
            }
            Self::Store { fault, lasts } => write!(f, "{kind}: {fault:?} for {lasts:?}"),
            Self::Members(fault) => write!(f, "{kind}: {fault:?}"),
            Self::Damage(fault) => write!(f, "{kind}: {fault:?}"),
            Self::ClockJump { who, by_ms } => write!(f, "clock of {who} set by {by_ms} ms"),
        }
    }
}
