//! The programs that networks are made with.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result, bail};

pub(super) fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a program to its end; what it printed.
pub(super) fn output<S: AsRef<OsStr>>(program: &str, package: &str, args: &[S]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| missing(program, package))?;
    if !output.status.success() {
        let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {args:?}: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn run<S: AsRef<OsStr>>(program: &str, package: &str, args: &[S]) -> Result<()> {
    output(program, package, args).map(drop)
}

pub(super) fn ip(args: &[&str]) -> Result<()> {
    run("ip", "iproute2", args)
}

/// A program that another one is to start.
pub(super) fn require(program: &str, package: &str) -> Result<()> {
    let found = Command::new(program).arg("--version").output();
    found.map(drop).with_context(|| missing(program, package))
}

fn missing(program: &str, package: &str) -> String {
    format!("these tests need {program}: run .ci/setup test, or install the package {package}")
}
