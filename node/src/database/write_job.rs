//! [`WriteJob`]: one caller's write, to be run in a batch with others. Values only.

use std::time::Instant;

use halite_proto::v1;

use super::ReplyTo;
use super::guard::Terms;

/// The idempotency key of a write: one client for as long as it lives, and one of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey {
    /// 16 random bytes.
    pub client_id: [u8; 16],
    /// Unique per client over all retries.
    pub call_id: u64,
}

/// Statements to be run as one transaction: all or nothing.
///
/// The answer comes once: results when the quorum has them, or an error that says whether anything can have been written.
pub struct WriteJob {
    /// Idempotency key; `None` if the caller will not retry.
    pub key: Option<CallKey>,
    /// All calls of this client below this one have been answered to it.
    pub answered_below: u64,
    /// One or more.
    pub statements: Vec<v1::Statement>,
    /// Until when SQL may run; a job still waiting then is answered as not written.
    pub deadline: Instant,
    /// An earlier try may have reached the cluster.
    pub retry: bool,
    /// SQL of it ran here before, and was rolled back with the transaction it was part of.
    pub begun: bool,
    /// Where the answer goes.
    pub reply: ReplyTo,
}

impl WriteJob {
    pub(super) fn terms(&self) -> Terms {
        Terms::of_call(self.deadline, &self.reply)
    }
}
