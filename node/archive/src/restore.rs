//! [`restore`]: from an archive to a database file.
//!
//! Owns the shell around [`plan`](crate::plan): list, plan, merge into a temporary file, verify, publish. It writes LTX pages as they are
//! and never opens the result with SQLite; an integrity check is the caller's [`CheckHook`]. Called by the CLI and by a node that
//! bootstraps. Memory is bounded: at most [`GROUP_FILES_MAX`] files are open, one page and one read buffer each.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

pub use error::RestoreError;
pub use options::{CheckHook, Progress, ProgressHook, RestoreOptions};
pub use report::RestoreReport;

use crate::{
    Blocking, Destination, DestinationError, FileInfo, RestorePlan, Target, list_all, list_for,
    plan, run_blocking,
};
use output::Output;

mod error;
mod options;
mod output;
mod page_writer;
mod report;

/// Files merged at once. More are merged group after group, each written over the one before.
const GROUP_FILES_MAX: usize = 64;
/// How often a plan is made anew because a file of it was deleted meanwhile.
const REPLANS_MAX: usize = 3;

/// Restores a state of the database to `output`.
///
/// The file appears under its name whole, verified and durable, or not at all. If files of the plan are deleted while it runs (they were
/// merged into a higher level), the plan is made anew: for the newest state if that was asked for, else for the same transaction.
///
/// If the returned future is dropped, the work stops soon and its temporary file is removed; a restore that was already being published
/// is published.
///
/// # Errors
/// [`RestoreError`]; nothing is left behind then.
pub async fn restore(
    destination: &dyn Destination,
    target: Target,
    output: &Path,
    options: RestoreOptions,
) -> Result<RestoreReport, RestoreError> {
    let started = Instant::now();
    // Taken apart: the check can be moved to another thread, but not shared with one.
    let RestoreOptions {
        force,
        check,
        progress,
        blocking,
    } = options;
    let mut plan = plan(&list_for(destination, target).await?, target)?;
    let path = output.to_owned();
    let mut output = run_blocking(&*blocking, move || Output::create(&path, force)).await??;
    let mut replans = 0;
    let run = loop {
        let run = Run::new(&plan, &*blocking, progress.as_ref());
        let (error, returned) = match run.merge(destination, output).await {
            Ok(merged) => break merged,
            Err(failure) => failure,
        };
        let (true, Some(returned), true) = (error.is_file_gone(), returned, replans < REPLANS_MAX)
        else {
            return Err(error);
        };
        tracing::debug!(%error, txid = %plan.txid(), "file of the plan is gone, planning anew");
        replans += 1;
        output = returned;
        plan = replan(destination, target, &plan).await?;
    };
    let (output, read_bytes) = run;
    let (pages, page_size) = (output.pages(), output.page_size());
    run_blocking(&*blocking, move || output.publish(check)).await??;
    Ok(RestoreReport {
        txid: plan.txid(),
        timestamp: plan.timestamp(),
        pages,
        page_size,
        read_bytes,
        files: plan.files().len(),
        duration: started.elapsed(),
    })
}

async fn replan(
    destination: &dyn Destination,
    target: Target,
    old: &RestorePlan,
) -> Result<RestorePlan, RestoreError> {
    let files = list_all(destination).await?;
    let target = match target {
        Target::Latest => Target::Latest,
        Target::Txid(_) | Target::Timestamp(_) => Target::Txid(old.txid()),
    };
    plan(&files, target).map_err(|source| RestoreError::Replan {
        txid: old.txid(),
        source,
    })
}

/// One attempt at a plan.
struct Run<'a> {
    plan: &'a RestorePlan,
    blocking: &'a dyn Blocking,
    progress: Option<&'a ProgressHook>,
    read_bytes: Arc<AtomicU64>,
    /// Tells a job on another thread that nobody waits for it any more.
    cancelled: CancelOnDrop,
}

impl<'a> Run<'a> {
    fn new(
        plan: &'a RestorePlan,
        blocking: &'a dyn Blocking,
        progress: Option<&'a ProgressHook>,
    ) -> Self {
        Run {
            plan,
            blocking,
            progress,
            read_bytes: Arc::default(),
            cancelled: CancelOnDrop::default(),
        }
    }

    /// Writes all pages of the plan. Gives the output back with an error if it can be used again.
    async fn merge(
        &self,
        destination: &dyn Destination,
        mut output: Output,
    ) -> Result<(Output, u64), (RestoreError, Option<Output>)> {
        output.start_over(self.plan);
        for group in self.plan.files().chunks(GROUP_FILES_MAX) {
            let readers = match self.open(destination, group).await {
                Ok(readers) => readers,
                Err(error) => return Err((error.into(), Some(output))),
            };
            let progress = self.progress.cloned();
            let (read_bytes, cancelled) =
                (Arc::clone(&self.read_bytes), Arc::clone(&self.cancelled.0));
            let job = move || {
                output
                    .merge(readers, &read_bytes, progress.as_deref(), &cancelled)
                    .map(|()| output)
            };
            output = match run_blocking(self.blocking, job).await {
                Ok(Ok(output)) => output,
                Ok(Err(error)) => return Err((error, None)),
                Err(stopped) => return Err((stopped.into(), None)),
            };
        }
        Ok((output, self.read_bytes.load(Ordering::Relaxed)))
    }

    async fn open(
        &self,
        destination: &dyn Destination,
        group: &[FileInfo],
    ) -> Result<Vec<output::Input>, DestinationError> {
        let opened = group.iter().map(|file| async {
            let reader = destination.open(file.key, 0, None).await?;
            Ok(output::Input {
                key: file.key,
                reader,
            })
        });
        futures::future::try_join_all(opened).await
    }
}

#[derive(Debug, Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
