//! Signals of the process: the first asks for a clean stop, the second ends it at once.

use std::future::Future;
use std::io;

use futures::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and SIGHUP, caught for as long as the process runs and given to whoever asks here.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` where whoever started the process has it ignored, as `nohup` does.
    hangup: Option<Signal>,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: match hangup_is_ignored() {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            signal = terminated(&mut self.terminate, &mut self.hangup) => signal,
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

    /// Waits for SIGTERM and SIGHUP alone: a SIGINT is there for who asks next.
    pub(crate) async fn terminated(&mut self) -> StopSignal {
        terminated(&mut self.terminate, &mut self.hangup).await
    }

    /// Forgets a SIGINT that came when there was nothing to interrupt. The others stay.
    pub(crate) fn forget_interrupt(&mut self) {
        while self.interrupt.recv().now_or_never().flatten().is_some() {}
    }
}

async fn terminated(terminate: &mut Signal, hangup: &mut Option<Signal>) -> StopSignal {
    let hung_up = async {
        match hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => StopSignal::Terminate,
        _ = hung_up => StopSignal::Hangup,
    }
}

/// Linux tells; elsewhere it is taken not to be.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, 1)
}

/// Whether the signal of this number is among those that a process ignores (proc(5): `SigIgn`).
fn ignores(status: &str, signal: u32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A signal that asks the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
}

impl StopSignal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
        }
    }

    /// What a shell reports for a process that the signal ended: 128 and its number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::Hangup => 129,
        }
    }
}

/// Ready at the first SIGINT, SIGTERM or SIGHUP. From then on the next one ends the process with exit code 1.
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

/// Runs `work` unless SIGINT, SIGTERM or SIGHUP comes first: then it is dropped, which cleans up, and the signal is returned.
pub(crate) async fn unless_interrupted<T>(
    work: impl Future<Output = T>,
) -> io::Result<Result<T, StopSignal>> {
    Ok(Signals::listen()?.unless(work).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_mask() {
        let status = "Name:\thalite\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        assert!(ignores(status, 1));
        assert!(ignores(status, 13));
        assert!(!ignores(status, 2));
        assert!(!ignores("", 1));
    }
}
