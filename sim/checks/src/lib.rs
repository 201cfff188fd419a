//! What clients did and saw, and what must hold of it.
//!
//! This crate owns the record of a run ([`History`], [`FinalState`]) and the checks over it, one property per module of [`property`].
//! It is pure: no clock, no I/O, no randomness, nothing of Halite is known to it, and the same history always gives the same
//! violations in the same order. The simulation and the black-box tests record into it and ask it.
//!
//! ```
//! use halite_checks::{Caller, FinalState, History, Insert, Inserted, Level, Outcome, SessionId, WriteId};
//!
//! let mut history = History::default();
//! let caller = Caller { session: SessionId(1), node: None, level: Level::Linearizable };
//! let write = WriteId { writer: 1, seq: 1 };
//! let ticket = history.invoke(caller, 1_000, Insert { write, parts: 1 });
//! history.returned(ticket, 2_500, Outcome::Ok(Inserted { newest: Some(1) }));
//! assert!(halite_checks::check_all(&history, &FinalState::default()).is_empty());
//! ```

mod accesses;
mod final_state;
mod history;
pub mod property;
mod registers;
#[cfg(test)]
mod script;
mod tables;
mod violation;
mod watch;
pub mod wgl;

pub use final_state::{Bank, Contents, FinalState};
pub use history::*;
pub use violation::{Violation, Witness, report};
pub use watch::Watch;

/// Everything that is wrong, whatever the workload.
pub fn check_all(history: &History, end: &FinalState) -> Vec<Violation> {
    property::ALL
        .iter()
        .flat_map(|check| check(history, end))
        .collect()
}
