//! What must hold of all nodes after every step, one file per property.

mod committed_is_immutable;
mod committed_on_quorum;
mod indexes_in_order;
mod log_matching;
mod nothing_goes_back;
mod numbered_once;
mod one_primary_per_term;
mod same_bytes;
mod sound_unless_damaged;
mod takes_part;
mod votes_are_kept;

use std::collections::BTreeMap;

use halite::server::{DatabaseView, LogEntryView, LogView, PageDiffsView, TransactionView};
use halite_proto::v1;

/// One node as it was seen.
#[derive(Debug)]
pub struct Seen {
    /// Which.
    pub node: u64,
    /// Its start: the first, the second and so on.
    pub start: u64,
    /// The term under which it takes writes, if it does.
    pub primary_term: Option<u64>,
    /// What it says of itself.
    pub status: v1::NodeStatus,
    /// Who belongs to the cluster, as it knows it.
    pub topology: v1::Topology,
    /// Its databases, as it knows them itself.
    pub databases: Vec<DatabaseView>,
    /// What page diffs have brought to it.
    pub page_diffs: PageDiffsView,
    /// The disk under its databases has failed or lied at some time, which is not the same as to lose power.
    pub damaged: bool,
    /// Its log has lied.
    pub log_damaged: bool,
    /// Its disks were put back to an older copy, or are new.
    pub disks_are_others: bool,
    /// What its log says is committed, and was not seen before.
    pub committed: Vec<LogEntryView>,
    /// The transactions among those, with their indexes. Not one that lacks a part, since the part was refused and the rest was not: all nodes
    /// pass over it, its caller is told that it was not written, and its number is free.
    pub transactions: Vec<(u64, TransactionView)>,
    /// Its log.
    pub log: Log,
}

impl Seen {
    /// The last index of which the node knows that it is committed. After a start it has to be told again, of what it had not applied.
    pub fn known_committed(&self) -> u64 {
        self.status.committed_index.max(self.status.applied_index)
    }
}

/// The log of a node.
#[derive(Debug)]
pub struct Log {
    /// Where it begins and ends.
    pub ends: LogView,
    /// Terms of its newest entries.
    pub terms: BTreeMap<u64, u64>,
    /// Entries that were not there before.
    pub appended: Vec<Appended>,
}

/// An entry that has come into a log.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Of what it carries.
    pub digest: u64,
    /// The transaction that it closes.
    pub transaction: Option<TransactionView>,
    /// The database of whose transaction it is a part, which a later entry closes.
    pub chunk_of: Option<u64>,
    /// Another entry was there.
    pub replaces: bool,
    /// Term of the entry before it, where that is still there.
    pub term_before: Option<u64>,
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
        Box::<sound_unless_damaged::SoundUnlessDamaged>::default(),
        Box::<takes_part::TakesPart>::default(),
        Box::<nothing_goes_back::NothingGoesBack>::default(),
        Box::<numbered_once::NumberedOnce>::default(),
        Box::<votes_are_kept::VotesAreKept>::default(),
        Box::<indexes_in_order::IndexesInOrder>::default(),
        Box::<log_matching::LogMatching>::default(),
        Box::<committed_on_quorum::CommittedOnQuorum>::default(),
    ]
}
