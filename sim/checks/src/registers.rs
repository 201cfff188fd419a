//! Everybody who saw the value of a register, in one shape: increments that were answered, reads, and each node in the end.

use std::fmt;

use crate::history::{Key, NodeId, RegisterValue};
use crate::violation::{Shown, Violation};
use crate::{FinalState, History};

/// Who saw a value.
#[derive(Clone, Copy)]
enum Source<'a> {
    Operation(&'a dyn Shown),
    Node(NodeId),
}

/// A value that somebody saw or wrote.
#[derive(Clone, Copy)]
pub(crate) struct Sighting<'a> {
    pub(crate) value: RegisterValue,
    source: Source<'a>,
}

impl<'a> Sighting<'a> {
    /// The operation, if it was one.
    pub(crate) fn operation(&self) -> Option<&'a dyn Shown> {
        match self.source {
            Source::Operation(operation) => Some(operation),
            Source::Node(_) => None,
        }
    }

    /// A violation that this proves.
    pub(crate) fn accuse(&self, property: &'static str, what: String) -> Violation {
        Violation::new(property, what).with_some(self.operation())
    }
}

impl fmt::Display for Sighting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Operation(operation) => write!(f, "{}", operation.witness().id),
            Source::Node(node) => write!(f, "{node} in the end"),
        }
    }
}

/// All of them: writes, then reads, then nodes.
pub(crate) fn sightings<'a>(history: &'a History, end: &FinalState) -> Vec<(Key, Sighting<'a>)> {
    let mut sightings = Vec::new();
    let mut add = |key, &value, source| sightings.push((key, Sighting { value, source }));
    for write in &history.registers.increments {
        if let Some((_, value)) = write.answered() {
            add(write.asked.key, value, Source::Operation(write));
        }
    }
    for read in &history.registers.reads {
        if let Some((_, value)) = read.answered() {
            add(read.asked.key, value, Source::Operation(read));
        }
    }
    for (node, contents) in &end.nodes {
        for (key, value) in contents.registers.iter().flatten() {
            add(*key, value, Source::Node(*node));
        }
    }
    sightings
}
