//! The types that Raft runs with. The payloads are opaque here.

use std::fmt;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::impls::leader_id_std::LeaderId;
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use serde::{Deserialize, Serialize};

/// The runtime under openraft: tokio, with openraft's own randomness (election timeouts, tick jitter) drawn from a seed.
///
/// The seed is task-local. Whatever starts a `Raft`, or calls a method of it that spawns (`Raft::new`,
/// `Raft::stream_append`), must run inside `Rt::scope(seed, future)`; outside of it openraft panics. Tasks that openraft
/// spawns inherit a seed of their own. Production takes the seed from the operating system, the simulation from its run.
pub type Rt = DeterministicRng<TokioRuntime>;

/// Raft's type configuration.
///
/// The leader id is openraft's *standard* one: at most one leader per term, as in the Raft paper (section 5.2), so a log id
/// is `(term, index)` and nothing else. openraft's advanced mode lets two candidates win one term after another and carries
/// the node id in each log id; it saves an election round when candidates collide, at the price of a "term" that no longer
/// names one leader, which fencing and orphan handling rely on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig {}

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Payload;
    type R = Reply;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Payload, u64, Member>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = Rt;
    type Responder<T>
        = OnComplete<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Runs once when a write that was handed to Raft is over: applied, or turned away. Runs on Raft's own task, so it must be quick.
pub struct OnComplete<T>(Box<dyn FnOnce(T) + Send>);

impl<T> OnComplete<T> {
    /// Wraps what to do.
    pub fn new(run: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(run))
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for OnComplete<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// `(term, index)` of an entry.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// One entry of the log.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// What an entry carries: nothing, a [`Payload`], or a membership.
pub type EntryPayload = openraft::alias::PayloadOf<TypeConfig>;
/// A term, the node voted for in it, and whether a quorum granted it.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, Member>;

/// A node as its peers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// gRPC address that peers connect to, `host:port`.
    pub addr: String,
    /// Name for people: logs, metrics, the CLI.
    pub name: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.addr)
    }
}

/// What a client of the log proposes: bytes that only the node can read. Cloning shares them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload(pub Bytes);

/// What applying an entry answered: bytes that only the node can read. Cloning shares them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply(pub Bytes);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({} bytes)", self.0.len())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}
