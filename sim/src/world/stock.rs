//! Stock programs beside every node, which read its files with plain SQLite while it runs.
//!
//! What they see has to stay for ever: a node's file never shows what the quorum has not committed.

use std::collections::BTreeMap;

use anyhow::Result;
use halite_checks::{Caller, Level, NodeId, Outcome, ReadRows, SessionId};

use super::World;
use crate::file::File;

/// The session of a node's files: this plus its id. Clients have lower numbers.
const FIRST_SESSION: u64 = 10_000;
/// Rows that are looked at again, to see that they are still the same.
const AGAIN: i64 = 3;

/// What the readers remember: the newest row by node and database.
pub(super) type Newest = BTreeMap<(u64, String), i64>;

impl World {
    /// Reads what is new in all files of all nodes that run.
    pub(super) fn read_files(&mut self) -> Result<()> {
        for node in self.nodes.values().cloned().collect::<Vec<_>>() {
            // Nobody opens the files of a node that is down or starts: it may be about to replace them.
            let Some(status) = node.view().and_then(|view| view.status()?.node) else {
                continue;
            };
            for database in status.databases {
                let Some(recorder) = self.recorders.get(&database.name).cloned() else {
                    continue;
                };
                let path = node.database_path(&database.name);
                if !database.trouble.is_empty() || !path.exists() {
                    continue;
                }
                let newest = self.newest.entry((node.id, database.name)).or_default();
                let caller = Caller {
                    session: SessionId(FIRST_SESSION + node.id),
                    node: Some(NodeId(node.id)),
                    level: Level::Local,
                };
                let after = (*newest - AGAIN).max(0);
                // It is closed again before the simulation goes on.
                let rows = File::open(&path)?.rows_after(after);
                let Ok(rows) = rows else {
                    // The table is not there yet, or the file not ready.
                    continue;
                };
                *newest = rows.last().map_or(*newest, |row| row.id);
                let ticket = recorder.invoke(caller, ReadRows { after });
                recorder.returned(ticket, Outcome::Ok(rows));
            }
        }
        Ok(())
    }
}
