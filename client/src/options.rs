//! What can be set about a client, with its defaults.

use std::time::Duration;

use crate::ReadLevel;
use crate::failure::Effect;
use crate::route::Need;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Longest wait for one connection.
    pub(crate) connect_timeout: Duration,
    /// Longest wait for the answer to one try.
    pub(crate) call_timeout: Duration,
    /// Longest time a call may take with all its retries.
    pub(crate) retry_deadline: Duration,
    pub(crate) read_level: ReadLevel,
    /// Reads that any member may answer go to the addresses that were given.
    pub(crate) prefers_given: bool,
    /// Calls that may be in flight at once; further callers wait.
    pub(crate) in_flight_max: usize,
    /// Largest result that is buffered when it comes in parts.
    pub(crate) result_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(5),
            retry_deadline: Duration::from_secs(10),
            read_level: ReadLevel::default(),
            prefers_given: false,
            in_flight_max: 4096,
            result_bytes_max: 256 << 20,
        }
    }
}

impl Options {
    /// Where a call of this kind goes.
    pub(crate) fn need(&self, effect: Effect, level: ReadLevel) -> Need {
        match (effect, level) {
            // A follower would have to ask the primary for its committed index.
            (Effect::Read, ReadLevel::Linearizable) => Need::Primary,
            (Effect::Read, _) => self.any_member(),
            _ => Need::Primary,
        }
    }

    /// Where a call goes that every member can answer.
    pub(crate) fn any_member(&self) -> Need {
        match self.prefers_given {
            true => Need::Given,
            false => Need::Any,
        }
    }
}
