//! The `sqlite3` program: SQLite as anybody has it, which knows nothing of Halite.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

fn sqlite3(file: &Path, options: &[&str], sql: &str) -> Result<Output> {
    Command::new("sqlite3")
        .args(["-batch", "-bail", "-noheader", "-separator", "|"])
        .args(options)
        .arg(file)
        .arg(sql)
        .output()
        .context("these tests need the sqlite3 program: apt-get install sqlite3")
}

/// The rows that `sqlite3` prints, or what it complains of.
///
/// # Errors
/// There is no `sqlite3`, or it refuses.
pub fn read(file: &Path, sql: &str) -> Result<Vec<String>> {
    let output = sqlite3(file, &["-readonly", "-cmd", ".timeout 2000"], sql)?;
    if !output.status.success() {
        bail!(
            "sqlite3 refuses to read: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Tries to write, and says what `sqlite3` said: `None` if it wrote.
///
/// # Errors
/// There is no `sqlite3`.
pub fn try_write(file: &Path, sql: &str) -> Result<Option<String>> {
    let output = sqlite3(file, &[], sql)?;
    if output.status.success() {
        return Ok(None);
    }
    Ok(Some(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

/// A stock writer is turned away with `database is locked`.
///
/// # Errors
/// It was not.
pub fn expect_fence(file: &Path, sql: &str) -> Result<()> {
    match try_write(file, sql)? {
        Some(error) if error.contains("database is locked") => Ok(()),
        Some(error) => bail!(
            "a stock writer got another error than `database is locked`: {error}, file={}",
            file.display()
        ),
        None => bail!("a stock writer passed the fence: file={}", file.display()),
    }
}
