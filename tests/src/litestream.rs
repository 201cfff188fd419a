//! The stock `litestream` program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

const VERSION: &str = "0.5.18";

/// Where the program is: `HALITE_LITESTREAM`, else where `.ci/setup test` puts it, else in `PATH`.
///
/// # Panics
/// If it is not there.
pub fn litestream() -> PathBuf {
    if let Some(path) = std::env::var_os("HALITE_LITESTREAM").filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache/halite-tools"));
    let tools = std::env::var_os("HALITE_TOOLS")
        .map(PathBuf::from)
        .or_else(home);
    let built = tools.map(|tools| tools.join(format!("litestream-{VERSION}/litestream")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut in_path = std::env::split_paths(&path).map(|dir| dir.join("litestream"));
    let found = built
        .filter(|path| path.is_file())
        .or_else(|| in_path.find(|path| path.is_file()));
    found.unwrap_or_else(|| {
        panic!(
            "litestream {VERSION} is missing: run `.ci/setup test`, or name it in HALITE_LITESTREAM"
        )
    })
}

/// Restores what is at `url` into `out`; `options` are those of `litestream restore`.
///
/// # Errors
/// It fails, with what it said.
pub fn restore(url: &str, out: &Path, options: &[&str]) -> Result<()> {
    let output = Command::new(litestream())
        .args(["restore", "-o"])
        .arg(out)
        .args(options)
        .arg(url)
        .stdin(Stdio::null())
        .env_clear()
        .output()?;
    let said = crate::program::text(&output);
    ensure!(output.status.success(), "litestream restore: {said}");
    Ok(())
}
