//! Signals of the process: the first asks for a clean stop, the second ends it at once.

use std::future::Future;
use std::io;

use futures::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT and SIGTERM, caught for as long as the process runs and given to whoever asks here.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
        }
    }

    /// Runs `work` unless a signal comes first, or came since the last question: then it is dropped, which cleans up, and the signal is
    /// returned.
    pub(crate) async fn unless<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, StopSignal> {
        tokio::select! {
            biased;
            signal = self.next() => Err(signal),
            done = work => Ok(done),
        }
    }

    /// Waits for SIGTERM alone: a SIGINT is there for who asks next.
    pub(crate) async fn terminated(&mut self) -> StopSignal {
        self.terminate.recv().await;
        StopSignal::Terminate
    }

    /// Forgets a SIGINT that came when there was nothing to interrupt. A SIGTERM stays.
    pub(crate) fn forget_interrupt(&mut self) {
        while self.interrupt.recv().now_or_never().flatten().is_some() {}
    }
}

/// A signal that asks the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl StopSignal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// What a shell reports for a process that the signal ended: 128 and its number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Ready at the first SIGINT or SIGTERM. From then on the next one ends the process with exit code 1.
///
/// Signals are caught from this call on, so that none is lost while the node starts.
pub(crate) fn stop_requested() -> io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::listen()?;
    Ok(async move {
        let name = signals.next().await.name();
        tracing::info!(
            signal = name,
            "stopping; another signal ends the process at once"
        );
        tokio::spawn(async move {
            let name = signals.next().await.name();
            tracing::error!(signal = name, "ended before the clean stop was done");
            std::process::exit(1);
        });
    })
}

/// Runs `work` unless SIGINT or SIGTERM comes first: then it is dropped, which cleans up, and the signal is returned.
pub(crate) async fn unless_interrupted<T>(
    work: impl Future<Output = T>,
) -> io::Result<Result<T, StopSignal>> {
    Ok(Signals::listen()?.unless(work).await)
}
