//! Transactions over lists that only grow: each step appends a value nobody else appends, or reads a whole list.
//!
//! What is read tells the order of all appends before it, so the order in which transactions took effect can be inferred.

use std::fmt;

use super::{History, Key, Operation, Request};

/// A value in a list; no two appends of a run to one list have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(pub u64);

/// One step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Put a value at the end of a list.
    Append {
        /// The list.
        key: Key,
        /// The value.
        element: Element,
    },
    /// Read a list.
    Read {
        /// The list.
        key: Key,
    },
}

/// One transaction. The answer is what its reads found, in the order of its steps of that kind.
///
/// A transaction that appends is promised to be strictly serializable, whatever its level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListTransaction {
    /// What it does, in order.
    pub steps: Vec<Step>,
}

impl ListTransaction {
    /// It changes something.
    pub fn appends(&self) -> bool {
        let append = |step: &Step| matches!(step, Step::Append { .. });
        self.steps.iter().any(append)
    }
}

impl Request for ListTransaction {
    type Answer = Vec<Vec<Element>>;

    fn list_mut(history: &mut History) -> &mut Vec<Operation<Self>> {
        &mut history.lists
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { key, element } => write!(f, "append {element} to {key}"),
            Self::Read { key } => write!(f, "read {key}"),
        }
    }
}

impl fmt::Display for ListTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.steps.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{step}")?;
        }
        Ok(())
    }
}
