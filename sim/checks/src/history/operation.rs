//! One operation of one session: what every workload has in common.

use std::fmt;
use std::marker::PhantomData;

use super::History;

/// Number of an operation, from 1 in the order in which operations began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// A client that does one thing after the other: a session of the client library, or a process that reads a node's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A node of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// How fresh a read was promised to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// What a node happens to have.
    Local,
    /// Everything that was acknowledged earlier than this before the read began.
    Bounded {
        /// In microseconds of the recorder's clock.
        max_lag_us: u64,
    },
    /// What the session wrote, and never less than it saw before.
    Session,
    /// Everything that was acknowledged before the read began. Operations that write have this level.
    Linearizable,
}

impl Level {
    /// Reads of this level never go back within a session.
    pub fn keeps_session_order(self) -> bool {
        matches!(self, Self::Session | Self::Linearizable)
    }
}

/// Who asks, and what he was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub session: SessionId,
    /// The node it was sent to, if the client chose one.
    pub node: Option<NodeId>,
    /// The promise.
    pub level: Level,
}

/// An instant in two measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// How many moments were recorded up to this one: the real-time order.
    pub order: u64,
    /// Microseconds of a monotonic or simulated clock; several moments may have the same.
    pub at_us: u64,
}

/// How an operation ended for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It took effect before it returned.
    Ok(T),
    /// It certainly never took effect and never will.
    Failed(String),
    /// It may take effect, once, at any time after it began.
    Unknown(String),
}

impl<T> Outcome<T> {
    /// What the client was told, if all went well.
    pub fn ok(&self) -> Option<&T> {
        match self {
            Self::Ok(answer) => Some(answer),
            _ => None,
        }
    }

    /// It was acknowledged.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok(_))
    }

    /// It is certainly not kept.
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// Something a client can ask for. The workloads of this crate implement it; nobody else does.
pub trait Request: Clone + fmt::Debug + PartialEq + fmt::Display {
    /// What it is told if all goes well.
    type Answer: Clone + fmt::Debug + PartialEq;

    /// Where a history keeps these operations.
    fn list_mut(history: &mut History) -> &mut Vec<Operation<Self>>;
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation<R: Request> {
    /// Unique in its history.
    pub id: OperationId,
    /// Who asked.
    pub caller: Caller,
    /// Before it was sent.
    pub invoked: Moment,
    /// After its client knew how it ended; `None` if it never did.
    pub returned: Option<Moment>,
    /// What was asked for.
    pub asked: R,
    /// How it ended.
    pub outcome: Outcome<R::Answer>,
}

impl<R: Request> Operation<R> {
    /// What the client was told, and when, if all went well.
    pub fn answered(&self) -> Option<(Moment, &R::Answer)> {
        self.returned.zip(self.outcome.ok())
    }
}

/// Names an operation under way to its recorder.
#[derive(Debug)]
#[must_use = "an operation whose ticket is dropped has an unknown outcome"]
pub struct Ticket<R> {
    id: OperationId,
    request: PhantomData<fn(R)>,
}

impl<R> Ticket<R> {
    pub(super) fn new(id: OperationId) -> Self {
        Self {
            id,
            request: PhantomData,
        }
    }

    /// The operation.
    pub fn id(&self) -> OperationId {
        self.id
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Bounded { max_lag_us } => write!(f, "bounded max_lag_us={max_lag_us}"),
            Self::Session => f.write_str("session"),
            Self::Linearizable => f.write_str("linearizable"),
        }
    }
}

impl<T> fmt::Display for Outcome<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(_) => f.write_str("ok"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}
