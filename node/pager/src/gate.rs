//! [`Gate`]: who decides whether a transaction may be published, and [`CommitOutcome`]: what became of it.
//! The pager calls the gate; it never decides by itself.

use halite_ltx::Checksum;

use crate::captured_transaction::CapturedTransaction;

/// Decides over each transaction of a [`Writer`](crate::Writer), before anybody can see it.
///
/// `commit` runs on the committing thread, inside SQLite's COMMIT, and may block as long as it likes: neither the commit frame
/// nor anything else that recovery could publish has been written yet. It must not use the committing connection. A panic
/// inside ends the process.
pub trait Gate: Send {
    /// Answers for one transaction. After `Open` the transaction counts as decided: see [`CommitOutcome::FailedAfterOpen`].
    fn commit(&self, transaction: &CapturedTransaction<'_>) -> GateVerdict;
}

impl<F: Fn(&CapturedTransaction<'_>) -> GateVerdict + Send> Gate for F {
    fn commit(&self, transaction: &CapturedTransaction<'_>) -> GateVerdict {
        self(transaction)
    }
}

/// The answer of a [`Gate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateVerdict {
    /// Publish the transaction.
    Open,
    /// Roll the transaction back; COMMIT fails with `SQLITE_ABORT_ROLLBACK`.
    Refuse,
}

/// What became of the last write transaction of a [`Writer`](crate::Writer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitOutcome {
    /// The gate was not asked: nothing was changed, the transaction was rolled back or is still open, or it failed before.
    #[default]
    NotReached,
    /// The gate refused; the transaction was rolled back.
    Refused,
    /// The gate opened and the transaction is visible.
    Published {
        /// Database checksum after it.
        post_checksum: Checksum,
    },
    /// The gate opened, but the transaction could not be written (disk full, I/O error). It is not visible here although it
    /// was agreed upon: this copy of the database is behind and needs the same pages applied again.
    FailedAfterOpen,
}
