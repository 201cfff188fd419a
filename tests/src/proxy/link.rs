//! One direction between two nodes: its conditions, and its bandwidth shared by all connections.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Conditions, lock};

#[derive(Debug, Default)]
pub(super) struct Link {
    conditions: watch::Sender<Conditions>,
    /// When the last byte let through will have passed.
    busy_until: Mutex<Option<Instant>>,
}

impl Link {
    pub(super) fn set(&self, conditions: Conditions) {
        self.conditions.send_replace(conditions);
    }

    /// When a piece that comes now is to arrive.
    pub(super) fn due(&self) -> Instant {
        let Conditions { delay, jitter, .. } = *self.conditions.borrow();
        Instant::now() + delay + jitter.mul_f64(rand::random())
    }

    /// Waits until nothing holds bytes back.
    pub(super) async fn open(&self) {
        let mut conditions = self.conditions.subscribe();
        // The sender is this link's own.
        let _ = conditions.wait_for(|conditions| !conditions.cut).await;
    }

    /// Takes the bandwidth that so many bytes need, and waits until they have passed.
    pub(super) async fn pass(&self, bytes: usize) {
        let Some(per_second) = self.conditions.borrow().bytes_per_second else {
            return;
        };
        let needed = Duration::from_secs_f64(bytes as f64 / f64::from(per_second.max(1)));
        let passed = {
            let mut busy_until = lock(&self.busy_until);
            let now = Instant::now();
            let passed = busy_until.map_or(now, |until| until.max(now)) + needed;
            *busy_until = Some(passed);
            passed
        };
        tokio::time::sleep_until(passed).await;
    }
}
