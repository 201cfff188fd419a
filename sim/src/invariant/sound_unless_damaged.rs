//! No crash makes a repair necessary: a database is in trouble only on a machine whose disk under SQLite has failed at some time.
//!
//! Repair by page diff heals whatever is wrong with a file, so it would hide every fault of redo, checkpoints and capture.

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct SoundUnlessDamaged;

impl Invariant for SoundUnlessDamaged {
    fn name(&self) -> &'static str {
        "sound unless damaged"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for seen in nodes.iter().filter(|seen| !seen.damaged) {
            if let Some(database) = seen.status.databases.iter().find(|d| !d.trouble.is_empty()) {
                return Err(format!(
                    "{} at n{}: {}",
                    database.name, seen.node, database.trouble
                ));
            }
        }
        Ok(())
    }
}
