//! Runs many seeds, each in a process of its own: a panic, a deadlock or a leak in one does not touch the others, and what a seed does
//! cannot depend on the seeds before it.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;

use crate::figures::Figures;
use crate::seeds::Pick;
use crate::stopwatch::Stopwatch;
use crate::world::Violation;

/// A seed that takes longer in real time hangs.
const SEED_TAKES_MAX: Duration = Duration::from_secs(180);
/// How often a child is asked whether it is done.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// How to search.
pub struct SearchOptions {
    /// Processes at a time.
    pub jobs: usize,
    /// Begin no seed after this.
    pub time_limit: Option<Duration>,
    /// Go on after a violation.
    pub keep_going: bool,
}

/// A seed that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub pick: Pick,
    /// What it printed.
    pub report: String,
}

struct Progress<I> {
    seeds: I,
    figures: Figures,
    failures: Vec<Failure>,
}

/// Runs `seeds` and says what they gave. A line goes to standard error for each hundred seeds and each failure.
///
/// # Errors
/// Processes cannot be started.
pub fn search(
    seeds: impl Iterator<Item = Pick> + Send,
    options: &SearchOptions,
) -> Result<(Figures, Vec<Failure>)> {
    let watch = Stopwatch::start();
    let progress = Mutex::new(Progress {
        seeds,
        figures: Figures::default(),
        failures: Vec::new(),
    });
    let over = AtomicBool::new(false);
    let worker = || -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            if options
                .time_limit
                .is_some_and(|limit| watch.elapsed() > limit)
            {
                break;
            }
            let Some(pick) = progress.lock().seeds.next() else {
                break;
            };
            let ended = run_child(pick)?;
            note(&mut progress.lock(), pick, ended, &watch);
            if !options.keep_going && !progress.lock().failures.is_empty() {
                over.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..options.jobs.max(1))
            .map(|_| scope.spawn(worker))
            .collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker has panicked"))??;
        }
        Ok(())
    })?;
    let Progress {
        figures, failures, ..
    } = progress.into_inner();
    Ok((figures, failures))
}

fn note<I>(progress: &mut Progress<I>, pick: Pick, ended: Ended, watch: &Stopwatch) {
    progress.figures.add(ended.figures);
    if let Some(report) = ended.failure {
        let repeat = pick.arguments().join(" ");
        eprintln!("seed {pick} FAILED: repeat with: halite-sim {repeat}");
        progress.failures.push(Failure { pick, report });
    }
    let seeds = progress.figures.seeds;
    if seeds.is_multiple_of(100) {
        let minutes = watch.elapsed().as_secs_f64() / 60.0;
        eprintln!(
            "{} seeds_per_minute={:.0}",
            progress.figures,
            seeds as f64 / minutes
        );
        // Nobody listening is no reason to stop.
        let _ = std::io::stderr().flush();
    }
}

struct Ended {
    figures: Figures,
    failure: Option<String>,
}

fn run_child(pick: Pick) -> Result<Ended> {
    let program = std::env::current_exe().context("find this program")?;
    let mut child = Command::new(program)
        .args(pick.arguments())
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start a process for a seed")?;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (String::new(), Vec::new());
    let status = std::thread::scope(|scope| {
        // A child that fails writes more than a pipe holds.
        scope.spawn(|| stdout.as_mut().map(|pipe| pipe.read_to_string(&mut out)));
        scope.spawn(|| stderr.as_mut().map(|pipe| pipe.read_to_end(&mut err)));
        wait(&mut child)
    })?;
    let err = String::from_utf8_lossy(&err).into_owned();
    let figures = serde_json::from_str::<Figures>(out.trim());
    Ok(match (status, figures) {
        (Some(status), Ok(figures)) => Ended {
            failure: (!status.success()).then_some(err),
            figures,
        },
        (status, _) => broken(status, err),
    })
}

/// The process did not come to an end of its own.
fn broken(status: Option<ExitStatus>, stderr: String) -> Ended {
    let what = match status {
        Some(status) => format!("the process ended with {status}"),
        None => format!("no end within {SEED_TAKES_MAX:?}: a deadlock"),
    };
    let figures = Figures {
        seeds: 1,
        violations: vec![Violation {
            property: "the process lives".to_owned(),
            what: what.clone(),
        }],
        ..Figures::default()
    };
    Ended {
        figures,
        failure: Some(format!("{stderr}\n{what}")),
    }
}

/// Its status; `None` if it had to be killed.
fn wait(child: &mut Child) -> Result<Option<ExitStatus>> {
    let watch = Stopwatch::start();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if watch.elapsed() > SEED_TAKES_MAX {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        Stopwatch::pause(ASK_EVERY);
    }
}
