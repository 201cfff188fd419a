//! A node whose log failed: what it says, and when it can store again.
//!
//! Raft has stopped then, so the node promises nothing and acknowledges nothing, to peers not even that it is there. What is in its files stays
//! there to be read, by those who ask for no more than that. `server` keeps it so until the disk takes files again, and starts it anew.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tonic::Status;
use tracing::warn;

use super::{Cluster, repair};
use crate::database::blocking;

/// Written and synced to see whether the disk takes files: more than a start writes before anything is in its log.
const TRIAL_BYTES: usize = 1 << 20;

/// Goes away by itself, with a trial that was cut off.
struct Trial(PathBuf);

impl Drop for Trial {
    fn drop(&mut self) {
        // A file that was not made, or is made again by the next trial.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Cluster {
    /// Why its log failed, once it has.
    pub(crate) fn failed(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// The same, in words for people.
    pub(crate) fn says_failed(&self) -> Option<String> {
        self.failed().map(|why| {
            format!(
                "the log of this node cannot be written: {why}; local reads show what it has, and it goes on by itself when it can write again"
            )
        })
    }

    /// Refuses what peers ask of a node whose log failed: it counts as one that does not answer.
    pub(super) fn check_storage(&self) -> Result<(), Status> {
        match self.failed() {
            None => Ok(()),
            Some(why) => Err(Status::unavailable(format!(
                "raft has stopped on this node: {why}"
            ))),
        }
    }

    /// Ends what is left of Raft after its log failed, and says whether there is anything to wait for before it may be started anew: the log of
    /// a simulation is no file.
    pub(crate) async fn rest(&self) -> bool {
        if self.options.log_disk.is_some() {
            return false;
        }
        if let Err(error) = self.raft.shutdown().await {
            warn!(%error, "raft did not stop cleanly");
        }
        true
    }

    /// What keeps files from being written, if anything does.
    ///
    /// # Errors
    /// In words for people.
    pub(crate) async fn try_to_write(&self) -> Result<(), String> {
        if let Some(free) = repair::no_room(self) {
            return Err(format!("the disk is almost full: free_bytes={free}"));
        }
        let path = self.data_dir.join("trial");
        let tried = blocking(self.host(), move || write_trial(&path)).await;
        tried
            .and_then(|tried| tried)
            .map_err(|error| error.to_string())
    }
}

fn write_trial(path: &Path) -> io::Result<()> {
    let trial = Trial(path.to_owned());
    let mut file = File::create(&trial.0)?;
    file.write_all(&vec![7; TRIAL_BYTES])?;
    file.sync_all()
}
