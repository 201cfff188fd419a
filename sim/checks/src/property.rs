//! The properties, one module each.

use crate::{FinalState, History, Violation};

/// A property: everything in a run that breaks it.
pub type Check = fn(&History, &FinalState) -> Vec<Violation>;

/// All properties that need no more than a history and the final state.
pub const ALL: &[Check] = &[];
