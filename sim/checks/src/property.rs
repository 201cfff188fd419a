//! The properties, one module each. All are called through [`check_all`](crate::check_all), or by name by who wants one of them.

pub mod acknowledged_is_kept;
pub mod bank_ledger;
pub mod bank_total;
pub mod bounded_lag;
pub mod failed_is_not_kept;
pub mod linearizable;
pub mod linearizable_locks;
pub mod linearizable_registers;
pub mod list_append;
pub mod liveness;
pub mod lost_update;
pub mod nodes_agree;
pub mod nothing_invented;
pub mod nothing_torn;
pub mod nothing_twice;
pub mod nothing_vanishes;
pub mod session_guarantees;

use crate::{FinalState, History, Violation};

/// A property: everything in a run that breaks it.
pub type Check = fn(&History, &FinalState) -> Vec<Violation>;

/// All properties that need no more than a history and the final state.
pub const ALL: &[Check] = &[
    acknowledged_is_kept::check,
    nothing_twice::check,
    nothing_torn::check,
    failed_is_not_kept::check,
    nothing_invented::check,
    nothing_vanishes::check,
    nodes_agree::check,
    session_guarantees::check,
    linearizable::check,
    bounded_lag::check,
    bank_total::check,
    bank_ledger::check,
    lost_update::check,
    linearizable_registers::check,
    linearizable_locks::check,
    list_append::check,
];
