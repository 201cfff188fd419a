//! [`SimHost`]: time, randomness and threads of one life of one node.
//!
//! Time is the simulated time of the node's runtime; threads are real, but run in lockstep with it, so that one thing happens at a
//! time. Never asks the real clock or the operating system's randomness.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use halite::database::Host;
use halite_archive::BlockingJob;
use halite_sim_clock::EPOCH;
use parking_lot::{Condvar, Mutex};
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};
use tokio::runtime::Handle;

/// The wall clock of one machine.
#[derive(Clone, Debug, Default)]
pub struct WallClock {
    elapsed_us: Arc<AtomicU64>,
    skew_ms: Arc<AtomicI64>,
}

impl WallClock {
    /// A clock that follows `elapsed_us`, the time of the simulation in microseconds.
    pub fn new(elapsed_us: Arc<AtomicU64>) -> Self {
        Self {
            elapsed_us,
            skew_ms: Arc::default(),
        }
    }

    /// Jumps forwards or back.
    pub fn jump(&self, by_ms: i64) {
        self.skew_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// What it shows, in milliseconds since 1970.
    pub fn unix_ms(&self) -> i64 {
        let elapsed = Duration::from_micros(self.elapsed_us.load(Ordering::Relaxed));
        let unix_ms = (EPOCH + elapsed).as_millis() as i64;
        unix_ms + self.skew_ms.load(Ordering::Relaxed)
    }
}

/// Counts the threads of a node, so that a crash can wait for their end.
#[derive(Debug, Default)]
pub struct Threads {
    running: Mutex<usize>,
    ended: Condvar,
}

impl Threads {
    /// Blocks until every thread of the node is gone.
    pub fn wait_for_all(&self) {
        let mut running = self.running.lock();
        while *running > 0 {
            self.ended.wait(&mut running);
        }
    }
}

struct Running(Arc<Threads>);

impl Running {
    fn new(threads: Arc<Threads>) -> Self {
        *threads.running.lock() += 1;
        Self(threads)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.ended.notify_all();
    }
}

/// See the module.
pub struct SimHost {
    runtime: Handle,
    rng: Mutex<SmallRng>,
    clock: WallClock,
    threads: Arc<Threads>,
}

impl SimHost {
    /// To be called on the node's runtime.
    pub fn new(seed: u64, clock: WallClock, threads: Arc<Threads>) -> Self {
        Self {
            runtime: Handle::current(),
            rng: Mutex::new(SmallRng::seed_from_u64(seed)),
            clock,
            threads,
        }
    }
}

impl Host for SimHost {
    fn now(&self) -> Instant {
        // Lanes ask from threads of their own: the time is that of the runtime all the same.
        let _entered = self.runtime.enter();
        tokio::time::Instant::now().into_std()
    }

    fn unix_ms(&self) -> i64 {
        self.clock.unix_ms()
    }

    fn random(&self) -> u64 {
        self.rng.lock().next_u64()
    }

    fn spawn(&self, name: String, run: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        let running = Running::new(self.threads.clone());
        std::thread::Builder::new().name(name).spawn(move || {
            let _running = running;
            run();
        })
    }

    /// On a thread of its own, since the job may block; the simulation stands still until it is done.
    fn spawn_blocking(&self, job: BlockingJob) {
        let thread = std::thread::spawn(job);
        if thread.join().is_err() {
            tracing::error!("a blocking job has panicked");
        }
    }

    fn lockstep(&self) -> bool {
        true
    }
}
