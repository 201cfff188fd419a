//! Counters that are read and written in one interactive transaction: `registers(key PRIMARY KEY, value, tag, replaced)`.

use std::fmt;

use super::{History, Key, Operation, Request};

/// Names one write of a register; no two operations have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

impl Tag {
    /// Before the first write.
    pub const NONE: Self = Self(0);
}

/// What a register holds. The value 0 and no tags before its first write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegisterValue {
    /// One more than that of the write it replaced.
    pub value: i64,
    /// The write that put it there.
    pub tag: Tag,
    /// The write that it replaced.
    pub replaced: Tag,
}

impl RegisterValue {
    /// Before the first write.
    pub const INITIAL: Self = Self {
        value: 0,
        tag: Tag::NONE,
        replaced: Tag::NONE,
    };

    /// What an increment that finds this writes.
    pub fn next(self, tag: Tag) -> Self {
        Self {
            value: self.value + 1,
            tag,
            replaced: self.tag,
        }
    }
}

/// Read a register and write one more, in one interactive transaction. The answer is what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increment {
    /// The register.
    pub key: Key,
    /// Never [`Tag::NONE`].
    pub tag: Tag,
}

/// Read a register. The answer is what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRegister {
    /// The register.
    pub key: Key,
}

/// Operations of this workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RegisterHistory {
    /// Writes.
    pub increments: Vec<Operation<Increment>>,
    /// Reads.
    pub reads: Vec<Operation<ReadRegister>>,
}

impl Request for Increment {
    type Answer = RegisterValue;

    fn list_mut(history: &mut History) -> &mut Vec<Operation<Self>> {
        &mut history.registers.increments
    }
}

impl Request for ReadRegister {
    type Answer = RegisterValue;

    fn list_mut(history: &mut History) -> &mut Vec<Operation<Self>> {
        &mut history.registers.reads
    }
}

impl fmt::Display for RegisterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            value,
            tag,
            replaced,
        } = self;
        write!(f, "value {value} of tag {} after tag {}", tag.0, replaced.0)
    }
}

impl fmt::Display for Increment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "increment {} with tag {}", self.key, self.tag.0)
    }
}

impl fmt::Display for ReadRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {}", self.key)
    }
}
