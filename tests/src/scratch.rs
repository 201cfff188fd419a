//! The directory of one test, and which tests may run side by side.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::Result;

/// How much of the machine a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Shares the machine with others.
    Light,
    /// Has it for itself: measures time, or loads every core.
    Heavy,
}

/// Light tests that may run at once.
const SHARES: usize = 2;

static FREE: Mutex<usize> = Mutex::new(SHARES);
static FREED: Condvar = Condvar::new();

struct Share(usize);

impl Share {
    fn take(weight: Weight) -> Self {
        let wanted = match weight {
            Weight::Light => 1,
            Weight::Heavy => SHARES,
        };
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < wanted {
            free = FREED.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= wanted;
        Self(wanted)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        FREED.notify_all();
    }
}

/// Where one test puts its files. Kept, and named, when the test fails.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    passed: bool,
}

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("halite-{name}-"))
            .tempdir()?;
        Ok(Self {
            dir: dir.keep(),
            passed: false,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let kept = if !self.passed {
            "the test failed: its directory, with logs and databases, is kept"
        } else if std::env::var_os("HALITE_KEEP").is_some() {
            "kept, since HALITE_KEEP is set"
        } else {
            // What cannot be removed is in the system's temporary directory.
            let _ = std::fs::remove_dir_all(&self.dir);
            return;
        };
        eprintln!("{kept}: {}", self.dir.display());
    }
}

/// Runs one test on a runtime of its own.
///
/// # Panics
/// If the test fails.
pub fn run(name: &str, weight: Weight, body: impl AsyncFnOnce(&Scratch) -> Result<()>) {
    let _share = Share::take(weight);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut scratch = Scratch::new(name).expect("a temporary directory");
    match runtime.block_on(body(&scratch)) {
        Ok(()) => scratch.passed = true,
        // With its causes, and without a backtrace: what was expected stands in the words.
        Err(error) => panic!("{name}: {error:#}"),
    }
}
