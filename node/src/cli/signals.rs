//! Signals of the process: the first asks for a clean stop, the second ends it at once.

use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Ready at the first SIGINT or SIGTERM. From then on the next one ends the process with exit code 1.
///
/// Signals are caught from this call on, so that none is lost while the node starts.
pub(crate) fn stop_requested() -> io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::listen()?;
    Ok(async move {
        let name = signals.next().await;
        tracing::info!(
            signal = name,
            "stopping; another signal ends the process at once"
        );
        tokio::spawn(async move {
            let name = signals.next().await;
            tracing::error!(signal = name, "ended before the clean stop was done");
            std::process::exit(1);
        });
    })
}

/// Runs `work` unless SIGINT or SIGTERM comes first: then it is dropped, which cleans up, and `None` is returned.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> io::Result<Option<T>> {
    let mut signals = Signals::listen()?;
    Ok(tokio::select! {
        done = work => Some(done),
        _ = signals.next() => None,
    })
}
