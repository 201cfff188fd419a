//! What must hold of all nodes after every step, one file per property.

mod committed_is_immutable;
mod nothing_goes_back;
mod one_primary_per_term;
mod same_bytes;

use halite::server::LogEntryView;
use halite_proto::v1;

/// One node as it was seen.
#[derive(Debug)]
pub struct Seen {
    /// Which.
    pub node: u64,
    /// Its process: the first, the second and so on.
    pub life: u64,
    /// The term under which it takes writes, if it does.
    pub primary_term: Option<u64>,
    /// What it says of itself.
    pub status: v1::NodeStatus,
    /// What its log says is committed, and was not seen before.
    pub committed: Vec<LogEntryView>,
}

/// A property of all nodes. Remembers what it has to.
pub trait Invariant {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Looks at the nodes that run; says what is wrong.
    fn look(&mut self, nodes: &[Seen]) -> Result<(), String>;
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<one_primary_per_term::OnePrimaryPerTerm>::default(),
        Box::<committed_is_immutable::CommittedIsImmutable>::default(),
        Box::<same_bytes::SameBytes>::default(),
        Box::<nothing_goes_back::NothingGoesBack>::default(),
    ]
}
