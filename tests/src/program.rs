//! The `halite` program under test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
