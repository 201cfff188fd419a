//! [`Blocking`]: where calls run that may wait for a disk.
//!
//! Owns nothing but the hand-over. File I/O, compression and decoding of whole files go through [`run_blocking`] and so never
//! hold up an async worker. The simulation uses [`Inline`], which keeps the order of events repeatable.

use std::fmt;

use tokio::sync::oneshot;

/// Work that may block.
pub type BlockingJob = Box<dyn FnOnce() + Send + 'static>;

/// Runs jobs that may block.
pub trait Blocking: Send + Sync + fmt::Debug {
    /// Starts `job`, on this thread or another. A job that is never run must be dropped.
    fn spawn(&self, job: BlockingJob);
}

/// The job did not come to its end: it panicked, or the runtime is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("blocking job did not finish")]
pub struct BlockingStopped;

/// Runs jobs on tokio's pool of blocking threads. Needs a runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadPool;

impl Blocking for ThreadPool {
    fn spawn(&self, job: BlockingJob) {
        // The result comes back through the job's own channel; a panic shows there as a dropped sender.
        drop(tokio::task::spawn_blocking(job));
    }
}

/// Runs jobs at once, on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Blocking for Inline {
    fn spawn(&self, job: BlockingJob) {
        job();
    }
}

/// Runs `job` where it may block and waits for what it returns.
///
/// If the returned future is dropped, a job that has started goes on to its end and its result is dropped there.
///
/// # Errors
/// [`BlockingStopped`] if the job gave no result.
pub async fn run_blocking<T, F>(blocking: &dyn Blocking, job: F) -> Result<T, BlockingStopped>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    blocking.spawn(Box::new(move || {
        // An unwanted result is dropped here, and with it what it owns (temporary files clean up after themselves).
        let _ = sender.send(job());
    }));
    receiver.await.map_err(|_| BlockingStopped)
}
