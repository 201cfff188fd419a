//! How fresh a read has to be.

use std::time::Duration;

use halite_proto::v1 as wire;

/// How fresh a read has to be, from cheapest to strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadLevel {
    /// Whatever the node that answers has applied.
    Local,
    /// The node that answers was caught up at most this long ago.
    Bounded(Duration),
    /// At least everything this session has written or seen: read-your-writes and monotonic reads.
    #[default]
    Session,
    /// Everything acknowledged to anyone before the call began.
    Linearizable,
}

impl ReadLevel {
    pub(crate) fn wire(self) -> wire::ReadLevel {
        match self {
            ReadLevel::Local => wire::ReadLevel::Local,
            ReadLevel::Bounded(_) => wire::ReadLevel::Bounded,
            ReadLevel::Session => wire::ReadLevel::Session,
            ReadLevel::Linearizable => wire::ReadLevel::Linearizable,
        }
    }

    pub(crate) fn max_lag_ms(self) -> u32 {
        match self {
            ReadLevel::Bounded(max_lag) => saturating_ms(max_lag),
            _ => 0,
        }
    }
}

/// Whole milliseconds for the wire, at least 1: there 0 means "the default".
pub(crate) fn saturating_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis())
        .unwrap_or(u32::MAX)
        .max(1)
}
