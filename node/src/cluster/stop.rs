//! How a node's part in the cluster is stopped. Waits for nobody longer than a bound: what a crash may leave, an end may leave, too. Called by the
//! server, once.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::Cluster;

/// How long a lane may take to end when the process does: a checkpoint, or a step of SQLite that nothing interrupts.
const LANE_END_MAX: Duration = Duration::from_secs(5);

impl Cluster {
    /// Ends in order: leadership is handed over, then lanes, Raft, databases, log.
    pub(crate) async fn shutdown(&self) {
        self.hand_over().await;
        self.stopping.send_replace(true);
        self.shared.databases.stop();
        // A lane that a statement holds up closes for nobody, and whoever waits for it would wait as long.
        let deadline = Instant::now() + LANE_END_MAX;
        match timeout_at(deadline, self.raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "raft did not stop cleanly"),
            Err(_) => warn!("raft did not stop in time"),
        }
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            let task_ends = task.abort_handle();
            // A task that panicked has said so already.
            if timeout_at(deadline, task).await.is_err() {
                task_ends.abort();
            }
        }
        let running = self.shared.databases.take_running();
        let ends = running.iter().map(|d| d.shutdown_within(LANE_END_MAX));
        join_all(ends).await;
        if let Err(error) = self.shared.log.close().await {
            warn!(%error, "log did not close cleanly");
        }
        info!("stopped");
    }
}
