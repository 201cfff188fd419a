//! No crash makes a repair necessary: a database is in trouble only on a machine whose disk under SQLite has failed at some time.
//!
//! But for one: a page diff is not in the log, so what a crash in the middle of it leaves, or takes before its checkpoint, has to come from
//! another node again.
//!
//! And a log whose disk has failed takes notes of databases no more; its node starts anew.
//!
//! Nor does a crash leave anything in a file that did not come from the log, which would be kept in a copy and told as somebody's change.
//!
//! Repair by page diff heals whatever is wrong with a file, so it would hide every fault of redo, checkpoints and capture.

use std::collections::BTreeMap;

use halite::cluster::HELD_OTHER;
use halite_proto::v1;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct SoundUnlessDamaged {
    /// Nodes that pull a snapshot, and its index: they know what is committed, or have databases that are newer, before their log is there.
    pulling: BTreeMap<u64, u64>,
}

impl Invariant for SoundUnlessDamaged {
    fn name(&self) -> &'static str {
        "sound unless damaged"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        for seen in nodes {
            let others = seen.damaged || seen.log_damaged || seen.disks_are_others;
            if seen.status.trouble.contains(HELD_OTHER) && !others {
                return Err(format!("n{}: {}", seen.node, seen.status.trouble));
            }
            let trouble = seen.status.databases.iter().find(|d| in_trouble(d));
            let (committed, applied) = (seen.status.committed_index, seen.status.applied_index);
            let ends = seen.log.ends;
            let newest = committed.max(ends.checkpoint);
            if newest >= ends.end.max(ends.purged + 1) {
                self.pulling.insert(seen.node, newest);
            } else if trouble.is_none()
                && self
                    .pulling
                    .get(&seen.node)
                    .is_some_and(|to| applied >= *to)
            {
                self.pulling.remove(&seen.node);
            }
            match trouble {
                Some(database)
                    if !seen.damaged && !ends.failed && !self.pulling.contains_key(&seen.node) =>
                {
                    return Err(format!(
                        "{} at n{}: {}",
                        database.name, seen.node, database.trouble
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn in_trouble(database: &v1::DatabaseStatus) -> bool {
    !database.trouble.is_empty()
        && !database.trouble.contains("the log does not lead to")
        && !database.trouble_is_of_node
}
