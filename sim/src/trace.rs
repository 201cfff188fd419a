//! [`Trace`]: what happened, in order, one line each. Two runs of one seed have the same trace, byte for byte.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Lines kept for people; the digest covers all of them.
const LINES_KEPT: usize = 200_000;

/// See the module. Clones write to the same trace.
#[derive(Clone)]
pub struct Trace {
    lines: Arc<Mutex<Lines>>,
    elapsed_us: Arc<AtomicU64>,
    dir: Arc<str>,
    print: bool,
}

#[derive(Default)]
struct Lines {
    text: String,
    count: usize,
    digest: DefaultHasher,
}

impl Trace {
    /// An empty trace; `elapsed_us` is the time of the simulation. With `print`, lines go to standard error as they come.
    ///
    /// `dir` is where files lie: errors name it, and it is another one in each run, so the trace shows it as `DIR`.
    pub fn new(elapsed_us: Arc<AtomicU64>, dir: &Path, print: bool) -> Self {
        Self {
            lines: Arc::default(),
            elapsed_us,
            dir: dir.display().to_string().into(),
            print,
        }
    }

    /// Microseconds since the simulation began.
    pub fn now_us(&self) -> u64 {
        // Inside of a host its own clock is finer than the driver's.
        match turmoil::sim_elapsed() {
            Some(elapsed) => u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            None => self.elapsed_us.load(Ordering::Relaxed),
        }
    }

    /// Notes that something happened.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        let now_us = self.now_us();
        let mut lines = self.lines.lock();
        let start = lines.text.len();
        let what = what.to_string().replace(&*self.dir, "DIR");
        let line = format!("{:>10.6} {what}\n", now_us as f64 / 1e6);
        if self.print {
            eprint!("{line}");
        }
        lines.digest.write(line.as_bytes());
        lines.count += 1;
        if lines.count <= LINES_KEPT {
            let _ = lines.text.write_str(&line);
        }
        debug_assert!(lines.text.len() >= start);
    }

    /// Everything so far, and a last line with the digest of all of it.
    pub fn text(&self) -> String {
        let lines = self.lines.lock();
        format!(
            "{}lines={} digest={:016x}\n",
            lines.text,
            lines.count,
            lines.digest.finish()
        )
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines.lock();
        let all: Vec<&str> = lines.text.lines().collect();
        all[all.len().saturating_sub(count)..].join("\n")
    }
}
