//! [`Stopwatch`]: real time, for the process that searches. Nothing that is simulated may use it.

#![allow(
    clippy::disallowed_methods,
    reason = "the search over seeds runs in real time"
)]

use std::time::{Duration, Instant};

/// See the module.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since it was started.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Waits before something is asked again.
    pub fn pause(duration: Duration) {
        std::thread::sleep(duration);
    }
}
