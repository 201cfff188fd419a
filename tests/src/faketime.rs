//! Wall clocks that are wrong: libfaketime in a node's process.
//!
//! A node reads its clock from a file of its own, which a test may rewrite while it runs. Monotonic clocks are left alone: they do not
//! jump on real machines either.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use halite::local_cluster::{LocalClusterOptions, LocalPlace};

/// Where Debian, and others, put it.
const DIRS: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The clocks of the nodes of one cluster.
#[derive(Debug)]
pub struct Clocks {
    library: PathBuf,
    dir: PathBuf,
}

impl Clocks {
    /// Clocks for a cluster in `dir`; all are right at first.
    ///
    /// # Errors
    /// libfaketime is not installed.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Self {
            library: library().context(
                "these tests need libfaketime: run .ci/setup test, install the package faketime, or name the library in HALITE_FAKETIME",
            )?,
            dir: dir.to_owned(),
        })
    }

    /// Gives the nodes 1 to `nodes` of a cluster clocks of their own.
    ///
    /// # Errors
    /// Files cannot be written.
    pub fn configure(&self, options: &mut LocalClusterOptions, nodes: u64) -> Result<()> {
        for id in 1..=nodes {
            self.set(id, 0)?;
            let env = [
                ("LD_PRELOAD", self.library.display().to_string()),
                (
                    "FAKETIME_TIMESTAMP_FILE",
                    self.file(id).display().to_string(),
                ),
                // The file is read at each call, and the monotonic clock passed through; the second has two names.
                ("FAKETIME_NO_CACHE", "1".to_owned()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
                ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ];
            let place: &mut LocalPlace = options.places.entry(id).or_default();
            let env = env.map(|(name, value)| (name.to_owned(), value));
            place.env.extend(env);
        }
        Ok(())
    }

    /// A node's clock is so many seconds ahead, or behind, from now on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, id: u64, ahead_s: i64) -> Result<()> {
        self.write(id, &format!("{ahead_s:+}"))
    }

    /// A node's clock runs so many times as fast, from an offset on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_fast(&self, id: u64, ahead_s: i64, times: u32) -> Result<()> {
        self.write(id, &format!("{ahead_s:+} x{times}"))
    }

    /// In one step: a node must not read half of it.
    fn write(&self, id: u64, clock: &str) -> Result<()> {
        let new = self.dir.join(format!("clock-{id}.new"));
        std::fs::write(&new, format!("{clock}\n"))?;
        Ok(std::fs::rename(new, self.file(id))?)
    }

    fn file(&self, id: u64) -> PathBuf {
        self.dir.join(format!("clock-{id}"))
    }
}

fn library() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("HALITE_FAKETIME") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    DIRS.iter().find_map(|dir| {
        let own = Path::new(dir).join(LIBRARY);
        let of_architectures = std::fs::read_dir(dir).into_iter().flatten().flatten();
        std::iter::once(own)
            .chain(of_architectures.map(|item| item.path().join(LIBRARY)))
            .find(|path| path.is_file())
    })
}
