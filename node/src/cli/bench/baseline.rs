//! What the disk does, and what plain SQLite makes of it: the measure for everything else.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rusqlite::Connection;
use tokio::time::Instant;

use super::super::error::CliError;
use super::blocking;
use super::latencies::{Latencies, as_ms, nearest_rank, rounded};
use super::load::row_text;
use super::plan::{Plan, Window};
use super::progress::Progress;
use super::report::Report;

/// What is appended before each fdatasync: about what a small commit is.
const APPEND_BYTES: usize = 4096;

pub(super) const CREATE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS kv (id INTEGER PRIMARY KEY, v TEXT)";
pub(super) const INSERT: &str = "INSERT INTO kv (v) VALUES (?1)";

pub(super) async fn measure(
    plan: &Plan,
    dir: &Path,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), CliError> {
    let window = plan.window;
    progress.step("the disk: append 4 KiB, fdatasync");
    let path = dir.join("fdatasync");
    let sync_ms = blocking(move || fdatasync_ms(&path, window)).await?;
    report.fdatasync_ms = Some(sync_ms);
    progress.step("plain SQLite: one process, WAL, synchronous=FULL");
    let path = dir.join("plain.db");
    report.plain_sqlite_inserts_per_s = Some(blocking(move || sqlite_per_s(&path, window)).await?);
    Ok(())
}

/// The median of many fdatasyncs, each after an append to a growing file.
fn fdatasync_ms(path: &Path, window: Window) -> Result<f64, CliError> {
    let failed = |error: io::Error| CliError::io(path.display(), &error);
    let mut file = File::create(path).map_err(failed)?;
    let bytes = [0x5a; APPEND_BYTES];
    let mut taken_ms = Vec::new();
    let end = Instant::now() + window.measured;
    while Instant::now() < end || taken_ms.is_empty() {
        file.write_all(&bytes).map_err(failed)?;
        let begun = Instant::now();
        file.sync_data().map_err(failed)?;
        taken_ms.push(as_ms(begun.elapsed()));
    }
    drop(file);
    std::fs::remove_file(path).map_err(failed)?;
    nearest_rank(&mut taken_ms, 0.5).ok_or_else(|| CliError::new("the disk was not measured"))
}

/// Single-row inserts a second, one after the other, each a durable transaction.
fn sqlite_per_s(path: &Path, window: Window) -> Result<f64, CliError> {
    sqlite_latencies(path, window)
        .map(|latencies| rounded(latencies.count() as f64 / window.measured.as_secs_f64()))
        .map_err(|error| CliError::new(format!("plain SQLite failed: {error}")))
}

fn sqlite_latencies(path: &Path, window: Window) -> rusqlite::Result<Latencies> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    db.execute_batch(CREATE_TABLE)?;
    let mut insert = db.prepare(INSERT)?;
    let mut latencies = Latencies::new();
    let begin = Instant::now() + window.warm_up;
    let end = begin + window.measured;
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(latencies);
        }
        insert.execute([row_text()])?;
        let done = Instant::now();
        if done >= begin && done < end {
            latencies.record(done - sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WINDOW: Window = Window {
        warm_up: Duration::from_millis(20),
        measured: Duration::from_millis(200),
    };

    #[test]
    fn the_disk_takes_time_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(fdatasync_ms(&path, WINDOW).unwrap() >= 0.0);
        assert!(!path.exists());
        assert!(fdatasync_ms(&dir.path().join("no/such/folder"), WINDOW).is_err());
    }

    #[test]
    fn plain_sqlite_is_durable_and_its_rows_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.db");
        let latencies = sqlite_latencies(&path, WINDOW).unwrap();
        let db = Connection::open(&path).unwrap();
        let (rows, bytes): (i64, i64) = db
            .query_row("SELECT count(*), max(length(v)) FROM kv", (), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert!(rows > 0 && latencies.count() > 0 && rows as u64 >= latencies.count());
        assert_eq!(bytes, 64);
        let mode: String = db
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
    }
}
