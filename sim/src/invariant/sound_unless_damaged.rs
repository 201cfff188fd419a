//! No crash makes a repair necessary: a database is in trouble only on a machine whose disk under SQLite has failed at some time.
//!
//! But for one: a page diff that was not yet checkpointed is gone with the power, and the log does not lead to it again.
//!
//! Repair by page diff heals whatever is wrong with a file, so it would hide every fault of redo, checkpoints and capture.

use halite_proto::v1;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct SoundUnlessDamaged;

impl Invariant for SoundUnlessDamaged {
    fn name(&self) -> &'static str {
        "sound unless damaged"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for seen in nodes.iter().filter(|seen| !seen.damaged) {
            let mut databases = seen.status.databases.iter();
            let in_trouble = |d: &&v1::DatabaseStatus| {
                !d.trouble.is_empty() && !d.trouble.contains("the log does not lead to")
            };
            if let Some(database) = databases.find(in_trouble) {
                return Err(format!(
                    "{} at n{}: {}",
                    database.name, seen.node, database.trouble
                ));
            }
        }
        Ok(())
    }
}
