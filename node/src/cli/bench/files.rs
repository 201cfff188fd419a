//! Whole files: import, export and restore of one database beside a plain copy of its file; how long each takes, and the most memory that the
//! program and each node held meanwhile.
//!
//! Each is a run of this very program, as people call it, against a cluster with an archive that does nothing else.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::super::error::CliError;
use super::super::own_program::own_program;
use super::bench_cluster::BenchCluster;
use super::blocking;
use super::latencies::rounded;
use super::memory;
use super::progress::Progress;
use super::report::{FileFigures, FilesFigures, Report};

/// Name of the database in the cluster.
const DATABASE: &str = "file";
/// The file that it is made from.
const SOURCE: &str = "source.db";
/// About half of it can be compressed, as with text.
const FILL: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) \
                    INSERT INTO t(a) SELECT hex(randomblob(480)) FROM n";
/// Between two looks at a run and its memory.
const LOOK: Duration = Duration::from_millis(10);
const ARCHIVE_DEADLINE: Duration = Duration::from_secs(600);
/// Steps of progress.
pub(super) const STEPS: usize = 7;

pub(super) async fn measure(
    bytes: u64,
    nodes: u64,
    home: TempDir,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), CliError> {
    let dir = home.path().to_owned();
    let source = dir.join(SOURCE);
    progress.step("making a database file");
    let made = source.clone();
    blocking(move || make(&made, bytes)).await?;
    progress.step("copying it");
    let (from, to) = (source.clone(), dir.join("plain-copy.db"));
    let copied = blocking(move || copy(&from, &to)).await?;
    progress.step("starting a cluster with an archive");
    let archive = format!("file://{}", dir.join("archive").display());
    let mut cluster = BenchCluster::start_with(home, nodes, |options| {
        options.archive_url = Some(archive.clone());
    })
    .await?;
    let bench = Bench {
        program: own_program()?,
        source,
        dir,
        archive,
        copied,
    };
    match bench.run(&cluster, progress).await {
        Ok(figures) => report.files = Some(figures),
        Err(error) => return Err(cluster.explain(error)),
    }
    Ok(())
}

/// What all runs share.
struct Bench {
    program: PathBuf,
    source: PathBuf,
    dir: PathBuf,
    archive: String,
    copied: Duration,
}

impl Bench {
    async fn run(
        &self,
        cluster: &BenchCluster,
        progress: &mut Progress,
    ) -> Result<FilesFigures, CliError> {
        let bytes = self.bytes()?;
        let idle = cluster.node_memory(memory::now);
        let text = |name: &str| self.dir.join(name).display().to_string();
        let (source, exported, restored) = (text(SOURCE), text("exported.db"), text("restored.db"));
        let addrs = cluster.addrs();
        let to = ["--addr", &addrs, "--db", DATABASE];
        progress.step("import");
        let args = [&["import"], &to[..], &[&source]].concat();
        let import = self.timed(cluster, &args).await?;
        progress.step("export");
        let args = [&["export"], &to[..], &["-o", &exported]].concat();
        let export = self.timed(cluster, &args).await?;
        progress.step("waiting for the archive");
        cluster.archived(DATABASE, ARCHIVE_DEADLINE).await?;
        progress.step("restore");
        let url = format!("{}/{DATABASE}", self.archive);
        let args = ["restore", &url, "-o", &restored];
        let restore = self.timed(cluster, &args).await?;
        for copy in [exported, restored] {
            self.check(PathBuf::from(copy)).await?;
        }
        Ok(FilesFigures {
            bytes,
            copy_s: rounded(self.copied.as_secs_f64()),
            idle_node_bytes: idle,
            import,
            export,
            restore,
        })
    }

    fn bytes(&self) -> Result<u64, CliError> {
        let found = fs::metadata(&self.source);
        Ok(found
            .map_err(|e| CliError::io(self.source.display(), &e))?
            .len())
    }

    /// Runs this program to its end.
    async fn timed(&self, cluster: &BenchCluster, args: &[&str]) -> Result<FileFigures, CliError> {
        let cannot = |error: io::Error| CliError::io(format!("cannot run {args:?}"), &error);
        cluster.node_memory(memory::forget_peak);
        let begun = Instant::now();
        let mut child = Command::new(&self.program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let mut peak = None;
        while child.try_wait().map_err(cannot)?.is_none() {
            peak = child.id().and_then(memory::peak).or(peak);
            sleep(LOOK).await;
        }
        let taken = begun.elapsed();
        let Output { status, stderr, .. } = child.wait_with_output().await.map_err(cannot)?;
        if !status.success() {
            let said = String::from_utf8_lossy(&stderr);
            return Err(CliError::new(format!("{args:?} failed: {}", said.trim())));
        }
        Ok(FileFigures {
            s: rounded(taken.as_secs_f64()),
            times_copy: rounded(taken.as_secs_f64() / self.copied.as_secs_f64()),
            program_peak_bytes: peak,
            node_peak_bytes: cluster.node_memory(memory::peak),
        })
    }

    /// A figure for a copy that is not whole would be worth nothing.
    async fn check(&self, copy: PathBuf) -> Result<(), CliError> {
        let source = self.source.clone();
        let (wanted, found) = blocking(move || Ok((rows(&source)?, rows(&copy)?))).await?;
        match wanted == found {
            true => Ok(()),
            false => Err(CliError::new(format!(
                "a copy is not what was imported: rows={found} wanted={wanted}"
            ))),
        }
    }
}

fn failed(error: &rusqlite::Error) -> CliError {
    CliError::new(format!("plain SQLite failed: {error}"))
}

fn make(path: &Path, bytes: u64) -> Result<(), CliError> {
    let fill = || -> rusqlite::Result<()> {
        let db = Connection::open(path)?;
        db.execute_batch("PRAGMA synchronous = OFF; CREATE TABLE t(id INTEGER PRIMARY KEY, a)")?;
        let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let page_bytes = number("page_size")?;
        loop {
            if (number("page_count")? * page_bytes).cast_unsigned() >= bytes {
                return Ok(());
            }
            db.execute_batch(FILL)?;
        }
    };
    fill().map_err(|error| failed(&error))?;
    let sync = || File::open(path)?.sync_all();
    sync().map_err(|error| CliError::io(path.display(), &error))
}

/// As `cp` does it, and to the disk.
fn copy(from: &Path, to: &Path) -> Result<Duration, CliError> {
    let begun = Instant::now();
    let copied = fs::copy(from, to).and_then(|_| File::open(to)?.sync_all());
    let taken = begun.elapsed();
    copied
        .and_then(|()| fs::remove_file(to))
        .map_err(|error| CliError::io(to.display(), &error))?;
    Ok(taken)
}

fn rows(path: &Path) -> Result<i64, CliError> {
    Connection::open(path)
        .and_then(|db| db.query_row("SELECT count(*) FROM t", (), |row| row.get(0)))
        .map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_as_large_as_asked_for_and_copies_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (file, to) = (dir.path().join("a.db"), dir.path().join("b.db"));
        make(&file, 6 << 20).unwrap();
        let bytes = fs::metadata(&file).unwrap().len();
        assert!((6 << 20..16 << 20).contains(&bytes), "{bytes}");
        assert!(rows(&file).unwrap() > 0);
        assert!(copy(&file, &to).unwrap() > Duration::ZERO);
        assert!(!to.exists());
        assert!(copy(&dir.path().join("absent.db"), &to).is_err());
    }
}
