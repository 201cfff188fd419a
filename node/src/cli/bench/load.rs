//! The load: clients that each wait for an answer before they call again.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::super::error::CliError;
use super::latencies::{Latencies, Quantiles};
use super::plan::Window;

/// What a step came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) per_s: f64,
    pub(super) latency: Quantiles,
}

/// Runs `operation` over and over, `clients` at a time, and measures the answers that come within the window. The first call that
/// fails ends it. Dropping the future ends the load.
pub(super) async fn closed_loop<O, F>(
    clients: u32,
    window: Window,
    operation: O,
) -> Result<Measured, CliError>
where
    O: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), CliError>> + Send,
{
    let begin = Instant::now() + window.warm_up;
    let end = begin + window.measured;
    let latencies = Arc::new(Mutex::new(Latencies::new()));
    let mut tasks: JoinSet<Result<(), CliError>> = JoinSet::new();
    for _ in 0..clients {
        let operation = operation.clone();
        let latencies = Arc::clone(&latencies);
        tasks.spawn(async move {
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return Ok(());
                }
                operation().await?;
                let answered = Instant::now();
                if answered >= begin && answered < end {
                    latencies.lock().record(answered - sent);
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| broken(&error))??;
    }
    let latencies = latencies.lock();
    if latencies.count() == 0 {
        return Err(CliError::new("not a single call was answered in time")
            .help("--duration makes steps longer"));
    }
    Ok(Measured {
        per_s: latencies.count() as f64 / window.measured.as_secs_f64(),
        latency: latencies.quantiles(),
    })
}

/// A task of the load that panicked.
pub(super) fn broken(error: &JoinError) -> CliError {
    CliError::new(format!("the load broke: {error}"))
}

/// 64 bytes of text that do not compress well, as real data does not.
pub(super) fn row_text() -> String {
    let part = || rand::random::<u64>();
    format!(
        "{:016x}{:016x}{:016x}{:016x}",
        part(),
        part(),
        part(),
        part()
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    const WINDOW: Window = Window {
        warm_up: Duration::from_millis(50),
        measured: Duration::from_millis(250),
    };

    #[tokio::test]
    async fn each_client_waits_for_its_answer() {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let measured = closed_loop(4, WINDOW, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(())
            }
        });
        let measured = measured.await.unwrap();
        // At most a call every 10 ms of each client, in the window and before; a busy machine makes them fewer.
        assert!(measured.per_s <= 4.0 * 104.0, "{measured:?}");
        assert!(measured.latency.p50_ms >= 9.9, "{measured:?}");
        let calls = calls.load(Ordering::Relaxed);
        assert!((5..=4 * 31).contains(&calls), "{calls}");
        assert!(measured.per_s * 0.25 <= calls as f64, "{measured:?}");
    }

    #[tokio::test]
    async fn a_failed_call_fails_the_step() {
        let failed = closed_loop(2, WINDOW, || async { Err(CliError::new("no")) }).await;
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }

    #[tokio::test]
    async fn a_step_without_an_answer_is_no_zero() {
        let late = closed_loop(1, WINDOW, || async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            Ok(())
        });
        assert!(late.await.is_err());
    }

    #[test]
    fn rows_hold_64_bytes_and_differ() {
        assert_eq!(row_text().len(), 64);
        assert_ne!(row_text(), row_text());
    }
}
