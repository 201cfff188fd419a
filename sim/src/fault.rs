//! [`Fault`]: what the driver can do to the cluster. Plain values; the plan draws them, the world carries them out.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// One fault, and for how long it lasts where it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies and comes back. With `power`, the machine loses what it had not synced.
    Crash {
        /// Where.
        node: u64,
        /// Power loss, and not only the death of the process.
        power: bool,
        /// How long it stays down.
        down: Duration,
    },
    /// The process is asked to stop and is started again.
    Restart {
        /// Where.
        node: u64,
        /// How long it stays down.
        down: Duration,
    },
    /// Nothing passes between `side` and the others.
    Partition {
        /// Nodes of one side.
        side: BTreeSet<u64>,
        /// For how long.
        lasts: Duration,
    },
}

impl Fault {
    /// The kind, for figures.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash { power: false, .. } => "kill",
            Self::Crash { power: true, .. } => "power loss",
            Self::Restart { .. } => "restart",
            Self::Partition { .. } => "partition",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { node, down, .. } => write!(f, "{} of n{node} for {down:?}", self.kind()),
            Self::Restart { node, down } => write!(f, "restart of n{node} after {down:?}"),
            Self::Partition { side, lasts } => write!(f, "partition of {side:?} for {lasts:?}"),
        }
    }
}
