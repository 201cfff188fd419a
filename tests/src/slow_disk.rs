//! Disks that are slow or hang, without kernel features: a library in the nodes' processes that stands before their writes and syncs.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use halite::local_cluster::LocalClusterOptions;

const SOURCE: &str = include_str!("slow_disk.c");

/// The disk that all nodes of one cluster share: each may hang for itself.
#[derive(Debug)]
pub struct SlowDisk {
    library: PathBuf,
    dir: PathBuf,
}

impl SlowDisk {
    /// A disk for a cluster in `dir`, as fast as the machine's at first.
    ///
    /// # Errors
    /// There is no C compiler.
    pub fn new(dir: &Path) -> Result<Self> {
        let disk = Self {
            library: library(dir)?,
            dir: dir.to_owned(),
        };
        std::fs::write(disk.shared(), [0; 16])?;
        Ok(disk)
    }

    /// Puts the nodes 1 to `nodes` of a cluster on it.
    pub fn configure(&self, options: &mut LocalClusterOptions, nodes: u64) {
        for id in 1..=nodes {
            let env = [
                ("LD_PRELOAD", self.library.clone()),
                ("HALITE_DISK_DIR", self.dir.clone()),
                ("HALITE_DISK_SHARED", self.shared()),
                ("HALITE_DISK_HANG", self.hanging(id)),
            ];
            let env = env.map(|(name, value)| (name.to_owned(), value.display().to_string()));
            options.places.entry(id).or_default().env.extend(env);
        }
    }

    /// From now on all nodes together write so many bytes a second; 0: as many as they can.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_bytes_per_s(&self, bytes_per_s: u64) -> Result<()> {
        let file = OpenOptions::new().write(true).open(self.shared())?;
        Ok(file.write_all_at(&bytes_per_s.to_ne_bytes(), 8)?)
    }

    /// From now on no sync of a node's files ends whose path contains `which`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn hang(&self, id: u64, which: &str) -> Result<()> {
        self.hang_calls(id, 's', which)
    }

    /// The same of reads.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn hang_reads(&self, id: u64, which: &str) -> Result<()> {
        self.hang_calls(id, 'r', which)
    }

    fn hang_calls(&self, id: u64, kind: char, which: &str) -> Result<()> {
        let new = self.dir.join(format!("hang-{id}.new"));
        std::fs::write(&new, format!("{kind}{which}"))?;
        Ok(std::fs::rename(new, self.hanging(id))?)
    }

    /// A node's disk answers again.
    ///
    /// # Errors
    /// It did not hang.
    pub fn release(&self, id: u64) -> Result<()> {
        Ok(std::fs::remove_file(self.hanging(id))?)
    }

    fn shared(&self) -> PathBuf {
        self.dir.join("disk")
    }

    fn hanging(&self, id: u64) -> PathBuf {
        self.dir.join(format!("hang-{id}"))
    }
}

/// Compiles the library into the directory of one test, which is gone with it.
fn library(dir: &Path) -> Result<PathBuf> {
    let library = dir.join("slow_disk.so");
    let mut compiler = Command::new("cc")
        .args([
            "-x", "c", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o",
        ])
        .arg(&library)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()
        .context("these tests need a C compiler: run .ci/setup")?;
    let mut input = compiler.stdin.take().context("a pipe to the compiler")?;
    input.write_all(SOURCE.as_bytes())?;
    drop(input);
    ensure!(compiler.wait()?.success(), "slow_disk.c does not compile");
    Ok(library)
}
