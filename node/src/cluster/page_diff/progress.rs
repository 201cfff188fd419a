//! [`Progress`]: when something was last heard of a transfer. However long it takes, it goes on while something comes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// See the module. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Something has come or gone.
    pub(super) fn made(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Resolves when nothing was made for so long.
    pub(super) async fn stalled(&self, patience: Duration) {
        loop {
            let until = *self.0.lock() + patience;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_transfer_goes_on_while_something_comes_however_slowly() {
        let progress = Progress::new();
        let start = Instant::now();
        let slow = async {
            for _ in 0..100 {
                tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
                progress.made();
            }
        };
        tokio::select! {
            () = slow => {}
            () = progress.stalled(PATIENCE) => panic!("given up after {:?}", start.elapsed()),
        }
        let last = Instant::now();
        progress.stalled(PATIENCE).await;
        assert_eq!(last.elapsed(), PATIENCE);
    }
}
