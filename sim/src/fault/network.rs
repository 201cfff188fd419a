//! [`NetworkFault`]: what can be wrong between two sides of the network.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::Who;

/// A machine of the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// A node, by its id.
    Node(u64),
    /// A client, by its number.
    Client(u64),
    /// Where membership is changed from.
    Operator,
}

impl fmt::Display for Machine {
    /// Its name in the network.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "n{id}"),
            Self::Client(number) => write!(f, "c{number}"),
            Self::Operator => f.write_str("op"),
        }
    }
}

/// One side of the network; the other side is all the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Nodes within.
    pub nodes: Vec<Who>,
    /// Clients within.
    pub clients: BTreeSet<u64>,
    /// Machines that reach both sides.
    pub between: BTreeSet<Machine>,
}

/// What happens to messages between the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// They are lost.
    Cut,
    /// Those to the inside are lost.
    CutIn,
    /// Those to the outside are lost.
    CutOut,
    /// They arrive when it is over: a process that is stopped, as it looks from outside.
    Hold,
    /// They are slow: up to this.
    Latency(Duration),
    /// As many of a hundred thousand are lost, with all that are under way on the same link.
    Loss(u32),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFault {
    /// One side.
    pub place: Place,
    /// What happens between the sides.
    pub what: LinkFault,
    /// Comes and goes this often.
    pub flaps: Option<Duration>,
    /// For how long.
    pub lasts: Duration,
}

impl NetworkFault {
    /// The kind, for figures.
    pub fn kind(&self) -> &'static str {
        if self.flaps.is_some() {
            return match self.what {
                LinkFault::Hold => "flapping stall",
                _ => "flapping partition",
            };
        }
        match (self.what, self.place.nodes.as_slice()) {
            (LinkFault::Cut, []) => "clients cut off",
            (LinkFault::Cut, [Who::Primary]) => "primary isolated",
            (LinkFault::Cut, _) => "partition",
            (LinkFault::CutIn, _) => "inbound cut",
            (LinkFault::CutOut, _) => "outbound cut",
            (LinkFault::Hold, [Who::Primary]) => "primary stalled",
            (LinkFault::Hold, _) => "stall",
            (LinkFault::Latency(_), _) => "latency",
            (LinkFault::Loss(_), _) => "loss",
        }
    }
}

impl fmt::Display for NetworkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            nodes,
            clients,
            between,
        } = &self.place;
        write!(f, "{}: {:?} of", self.kind(), self.what)?;
        for who in nodes {
            write!(f, " {who}")?;
        }
        for client in clients {
            write!(f, " c{client}")?;
        }
        if !between.is_empty() {
            f.write_str(" but for")?;
        }
        for machine in between {
            write!(f, " {machine}")?;
        }
        if let Some(period) = self.flaps {
            write!(f, " every {period:?}")?;
        }
        write!(f, " for {:?}", self.lasts)
    }
}
