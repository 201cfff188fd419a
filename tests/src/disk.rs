//! Disks that fail: small ones that fill up, and files that cannot be written any more.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use halite::local_cluster::LocalClusterOptions;
use rustix::process::{Resource, Rlimit, prlimit};

use crate::cluster::TestCluster;

/// Size of a small disk.
pub const DISK_MIB: u32 = 96;

/// A mounted tmpfs of [`DISK_MIB`].
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and a word why, where mounting is not allowed.
    ///
    /// # Errors
    /// There is no directory to mount it on.
    pub fn mount(dir: &Path) -> Result<Option<Self>> {
        std::fs::create_dir_all(dir)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "tmpfs"])
            .arg(dir)
            .output()?;
        if mounted.status.success() {
            return Ok(Some(Self(dir.to_owned())));
        }
        let said = String::from_utf8_lossy(&mounted.stderr);
        eprintln!(
            "not tested: a small disk cannot be mounted here: {}",
            said.trim()
        );
        Ok(None)
    }

    /// Takes all the room there is: the file that has to go.
    ///
    /// # Errors
    /// Not even an empty file fits.
    pub fn fill(&self) -> Result<PathBuf> {
        let ballast = self.0.join("ballast");
        let mut file = std::fs::File::create(&ballast)?;
        let mut piece = vec![7_u8; 1 << 20];
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(written) if written > 0 => {}
                _ => piece.truncate(piece.len() / 2),
            }
        }
        Ok(ballast)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Prepares nodes 1 to `nodes` for [`set_writable`]. A process that writes more than it may gets a signal, which kills it unless it is
/// ignored; then the write fails, as on a disk that has become read-only. What a node prints goes through a pipe, which has no limit.
pub fn configure_unwritable(options: &mut LocalClusterOptions, nodes: u64) {
    let launcher = [
        "env",
        "--ignore-signal=XFSZ",
        "bash",
        "-c",
        "exec \"$@\" > >(exec cat) 2>&1",
        "node",
    ];
    for id in 1..=nodes {
        let place = options.places.entry(id).or_default();
        place.launcher.extend(launcher.map(str::to_owned));
    }
}

/// Whether a node can write to any file, open ones included. It needs no privilege.
///
/// # Errors
/// The node does not run.
pub fn set_writable(cluster: &TestCluster, id: u64, writable: bool) -> Result<()> {
    let pid = cluster.local.pid(id).context("the node runs")?;
    let limit = Rlimit {
        current: (!writable).then_some(0),
        maximum: None,
    };
    prlimit(Some(pid), Resource::Fsize, limit)?;
    Ok(())
}
