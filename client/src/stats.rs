//! Counters of one client.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a client has done so far, and how deep its queues are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Tries sent over pipelined streams.
    pub calls_sent: u64,
    /// Messages that carried them: `calls_sent / messages_sent` is how well calls are coalesced.
    pub messages_sent: u64,
    /// Messages received on pipelined streams.
    pub messages_received: u64,
    /// Tries beyond the first of their call.
    pub retries: u64,
    /// Connections that were established.
    pub connections: u64,
    /// Calls that wait for an answer now.
    pub calls_in_flight: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) calls_sent: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) retries: Counter,
    pub(crate) connections: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
