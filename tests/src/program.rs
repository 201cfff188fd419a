//! The `halite` program under test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context as _;

/// Where the program is: `HALITE_BIN`, else beside the directory of the test program.
///
/// # Panics
/// If it is not there; building it is up to whoever runs the tests.
pub fn halite() -> PathBuf {
    let path = match std::env::var_os("HALITE_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let test = std::env::current_exe().expect("a running program has a path");
            let profile = test
                .parent()
                .and_then(|deps| deps.parent())
                .expect("tests run from target/PROFILE/deps");
            profile.join("halite")
        }
    };
    assert!(
        path.is_file(),
        "the program under test is missing: build it first with `cargo build --release -p halite`, or set HALITE_BIN: path={}",
        path.display()
    );
    path
}

/// The program that pretends to be the version after this one, of this crate: `HALITE_NEXT_BIN`, else beside `halite`.
///
/// # Panics
/// If it is not there; building it is up to whoever runs the tests.
pub fn next_version() -> PathBuf {
    let path = match std::env::var_os("HALITE_NEXT_BIN") {
        Some(path) => PathBuf::from(path),
        None => halite().with_file_name("halite-next"),
    };
    assert!(
        path.is_file(),
        "the program that pretends to be the next version is missing: build it with `cargo build --release -p halite-tests`, or set HALITE_NEXT_BIN: path={}",
        path.display()
    );
    path
}

/// The most memory that a process which runs has had, in KiB.
///
/// # Errors
/// There is no such process.
pub fn peak_memory_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.context("no peak")?.trim().trim_end_matches(" kB");
    Ok(kib.parse()?)
}

/// Runs `halite` with these arguments to its end.
///
/// # Errors
/// If it cannot be started.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> anyhow::Result<Output> {
    Ok(Command::new(halite())
        .args(args)
        .stdin(std::process::Stdio::null())
        .env("NO_COLOR", "1")
        .output()?)
}

/// Waits until `halite status`, asked through the nodes at `addrs`, shows all of these words; what it was then.
///
/// # Errors
/// Not within `timeout`.
pub async fn status_shows(
    addrs: &str,
    words: &[&str],
    timeout: Duration,
) -> anyhow::Result<Output> {
    crate::wait::until("`halite status` shows it", timeout, async || {
        let output = run(["status", "--addr", addrs]).map_err(|e| e.to_string())?;
        let said = text(&output);
        match words.iter().all(|words| said.contains(words)) {
            true => Ok(output),
            false => Err(said),
        }
    })
    .await
}

/// Restores what is at `url` into `out`; `options` are those of `halite restore`.
///
/// # Errors
/// It fails, with what it said.
pub fn restore(url: &str, out: &Path, options: &[&str]) -> anyhow::Result<()> {
    let out = out.display().to_string();
    let output = run([&["restore", "-o", &out], options, &[url]].concat())?;
    anyhow::ensure!(output.status.success(), "restore: {}", text(&output));
    Ok(())
}

/// Both outputs of a program, for messages.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
