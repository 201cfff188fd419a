//! [`Host`]: where the databases of a node get time, randomness and threads from.
//!
//! Owns nothing but the seam: the simulation puts its own clock and seed behind it. Called by lanes and the reader pool.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use halite_archive::{Blocking, BlockingJob, ThreadPool, run_blocking};

/// Time, randomness and threads.
pub trait Host: Send + Sync {
    /// Monotonic time, for deadlines.
    fn now(&self) -> Instant;

    /// Wall clock in milliseconds since 1970, for the timestamps of entries.
    fn unix_ms(&self) -> i64;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// Starts an OS thread.
    ///
    /// # Errors
    /// The operating system's.
    fn spawn(&self, name: String, run: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

    /// Runs `job` where it may block.
    fn spawn_blocking(&self, job: BlockingJob);

    /// Whoever hands work to a thread waits until that thread waits in turn, and no thread waits for a clock: one thing happens at a time, and
    /// every run repeats. Deadlines are looked at when [`Database::tick`](super::Database::tick) is called.
    fn lockstep(&self) -> bool {
        false
    }
}

/// Runs `job` where it may block and waits for what it returns.
///
/// # Errors
/// The job panicked, or the runtime is shutting down.
pub async fn blocking<T, F>(host: &Arc<dyn Host>, job: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    run_blocking(&HostThreads(host.clone()), job)
        .await
        .map_err(io::Error::other)
}

/// A host as the archive wants it.
#[derive(Clone)]
pub(crate) struct HostThreads(pub(crate) Arc<dyn Host>);

impl Blocking for HostThreads {
    fn spawn(&self, job: BlockingJob) {
        self.0.spawn_blocking(job);
    }
}

impl fmt::Debug for HostThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostThreads")
    }
}

/// The real clock, the operating system's randomness and real threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemHost;

impl SystemHost {
    /// This host behind a pointer, as the options want it.
    pub fn shared() -> Arc<dyn Host> {
        Arc::new(SystemHost)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place of this module where the real clock is read"
)]
impl Host for SystemHost {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_ms(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> u64 {
        // The standard library seeds each RandomState from the operating system.
        RandomState::new().build_hasher().finish()
    }

    fn spawn(&self, name: String, run: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name).spawn(run)
    }

    fn spawn_blocking(&self, job: BlockingJob) {
        ThreadPool.spawn(job);
    }
}
