//! What happens to bytes on their way.

use std::time::Duration;

/// Of one direction between two nodes. By default they pass as they come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conditions {
    /// How long they travel.
    pub delay: Duration,
    /// Up to this much longer, drawn for each piece; never out of order.
    pub jitter: Duration,
    /// As many in a second, over all connections together.
    pub bytes_per_second: Option<u32>,
    /// They are held back until this ends.
    pub cut: bool,
}

impl Conditions {
    /// Nothing passes.
    pub fn cut() -> Self {
        Self {
            cut: true,
            ..Self::default()
        }
    }

    /// Everything is late.
    pub fn delayed(delay: Duration, jitter: Duration) -> Self {
        Self {
            delay,
            jitter,
            ..Self::default()
        }
    }

    /// Little passes at a time.
    pub fn narrow(bytes_per_second: u32) -> Self {
        Self {
            bytes_per_second: Some(bytes_per_second),
            ..Self::default()
        }
    }
}
