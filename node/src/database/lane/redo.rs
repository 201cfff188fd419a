//! Redo: what a start makes of the file that a crash has left (architecture: redo, rule b).
//!
//! In one atomic apply every page touched after the last finished checkpoint comes from the log, and every page that only the WAL holds is put
//! back from the file. The checksum at the end decides whether the file may be read.

use halite_ltx::{Checksum, Position, Txid};
use halite_pager::{Applier, ApplyTarget};
use halite_proto::v1;

use super::apply::{PagesError, describe, pour};
use crate::database::sessions::Sessions;
use crate::database::{Applied, CommittedLtx, Health, Redo};

/// The state that the lane begins with.
pub(super) struct Redone {
    pub(super) applied: Applied,
    pub(super) sessions: Sessions,
    pub(super) last_timestamp_ms: i64,
    pub(super) health: Health,
}

/// Where C and the entries after it lead.
struct Plan {
    redone: Redone,
    entries: Vec<CommittedLtx>,
}

/// Brings the file to M.
pub(super) fn redo(applier: &mut Applier, redo: Redo) -> Redone {
    let (mut plan, broken) = plan(redo);
    let applied = plan.redone.applied;
    let target = ApplyTarget {
        page_count: applied.page_count,
        expected_pre: None,
        expected_post: Some(applied.position.checksum),
    };
    let page_size = applier.database().page_size();
    let result = match broken {
        Some(why) => Err(PagesError::Mismatch(why)),
        None => applier.redo(target, |sink| {
            for entry in &plan.entries {
                let reader = std::io::BufReader::new(entry.reader());
                pour(
                    reader,
                    sink,
                    page_size,
                    Txid::new(entry.command.txid),
                    entry.command.commit_pages,
                )?;
            }
            Ok::<(), PagesError>(())
        }),
    };
    if let Err(error) = result {
        let why = format!(
            "the file cannot be brought to position {}: {}",
            applied.position,
            describe(&error)
        );
        tracing::error!(path = %applier.database().path().display(), %why, "database needs repair");
        plan.redone.health = Health::NeedsRepair {
            why,
            readable: false,
        };
    }
    plan.redone
}

/// Follows the entries from C on, without touching the file. The second value says what is wrong with them.
fn plan(redo: Redo) -> (Plan, Option<String>) {
    let mut redone = match redo.checkpoint {
        Some(checkpoint) => from_checkpoint(&checkpoint),
        None => Redone {
            applied: Applied::ZERO,
            sessions: Sessions::default(),
            last_timestamp_ms: 0,
            health: Health::Fine,
        },
    };
    let mut entries = Vec::new();
    for entry in redo.entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                return (
                    Plan { redone, entries },
                    Some(format!("the log cannot be read: {error}")),
                );
            }
        };
        let command = &entry.command;
        let here = redone.applied.position;
        let txid = Txid::new(command.txid);
        if txid <= here.txid {
            continue;
        }
        if txid != here.txid.next() || command.pre_checksum != here.checksum.get() {
            let why = format!(
                "the log does not follow the checkpoint position={here} entry_txid={txid} entry_pre_checksum={:016x}",
                command.pre_checksum
            );
            return (Plan { redone, entries }, Some(why));
        }
        redone.applied = Applied {
            position: Position::new(txid, Checksum::new(command.post_checksum)),
            raft_index: entry.index,
            page_count: command.commit_pages,
        };
        redone
            .sessions
            .record(entry.index, command.timestamp_ms, &command.outcomes);
        redone.last_timestamp_ms = redone.last_timestamp_ms.max(command.timestamp_ms);
        entries.push(entry);
    }
    (Plan { redone, entries }, None)
}

fn from_checkpoint(checkpoint: &v1::DatabaseCheckpoint) -> Redone {
    Redone {
        applied: Applied {
            position: Position::new(
                Txid::new(checkpoint.txid),
                Checksum::new(checkpoint.checksum),
            ),
            raft_index: checkpoint.raft_index,
            page_count: checkpoint.page_count,
        },
        sessions: checkpoint
            .sessions
            .as_ref()
            .map(Sessions::from_proto)
            .unwrap_or_default(),
        last_timestamp_ms: 0,
        health: Health::Fine,
    }
}
