//! What is at stake in a power loss, and what becomes of it: the question to the simulation, and its answer. Plain values.

use std::path::Path;

use halite_pager::FileKind;

/// A change that was made and not synced: the state of one sector after one write to it, or a size of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsynced<'a> {
    /// Path of the database, absolute, whichever of its files is meant.
    pub database: &'a Path,
    /// The file.
    pub file: FileKind,
    /// Place of the change among those of its file, counted from 0, oldest first.
    pub number: usize,
    /// How many changes of its file are at stake.
    pub total: usize,
    /// A sync of this change has failed.
    pub sync_failed: bool,
    /// What was changed.
    pub change: UnsyncedChange,
}

/// The kind of a change; offsets and sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnsyncedChange {
    /// A sector was written, in whole or in part. A write over several sectors is as many changes.
    Sector {
        /// Start of the sector.
        offset: u64,
        /// Length of the sector.
        bytes: usize,
    },
    /// The file became longer or shorter. Sizes reach the disk in order: if one is kept, so are all before it.
    Size {
        /// Before.
        from: u64,
        /// After.
        to: u64,
    },
}

/// What becomes of a change in a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Survival {
    /// It was on disk: the sector is as it was after the write, earlier writes to it included.
    Keep,
    /// It was not: the sector is as it was before, or as a later change leaves it.
    Drop,
    /// As many bytes from the start of the sector were on disk, the rest not. A size cannot be torn: it is dropped.
    Tear(usize),
}
