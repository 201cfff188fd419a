//! Redo: what a start makes of the file that a crash has left (architecture: redo, rule b).
//!
//! In one atomic apply every page touched after the last finished checkpoint comes from the log, and every page that only the WAL holds is put
//! back from the file. The checksum at the end decides whether the file may be read.

use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use halite_ltx::{Checksum, Position, Txid};
use halite_pager::{Applier, ApplyError as PagerApplyError, ApplyTarget};
use halite_proto::v1;

use super::apply::{PagesError, pour};
use super::orphan::{OrphanCopy, keep_copy};
use super::park;
use super::redo_spool::RedoSpool;
use crate::database::error::is_damage;
use crate::database::failure::describe;
use crate::database::recovery::{self, Verdict};
use crate::database::sessions::Sessions;
use crate::database::{Applied, CommittedLog, CommittedLtx, Health, Mark, OpenError, Redo};

/// The state that the lane begins with.
pub(super) struct Redone {
    pub(super) applied: Applied,
    /// The newest transaction that the log or the catalog knows of.
    pub(super) newest: Option<Mark>,
    pub(super) sessions: Sessions,
    pub(super) last_timestamp_ms: i64,
    pub(super) health: Health,
    /// What is still to be redone, if the disk refused it or a panic kept it from being done.
    pub(super) unfinished: Option<RedoSpool>,
    /// The file holds what was never committed.
    pub(super) forked: bool,
    /// The file holds what the log does not lead to, as if it was changed while the node was stopped, and no copy of it is kept yet.
    pub(super) strange: bool,
}

/// Brings the file to M. Where that is can only be told when all entries have been seen, so they are looked at first and applied after.
///
/// # Errors
/// SQLite cannot make anything of the file. No page diff could be applied to it either.
pub(super) fn redo(applier: &mut Applier, redo: Redo) -> Result<Redone, OpenError> {
    let mut redone = match &redo.checkpoint {
        Some(checkpoint) => from_checkpoint(checkpoint),
        None => Redone {
            applied: Applied::ZERO,
            newest: None,
            sessions: Sessions::default(),
            last_timestamp_ms: 0,
            health: Health::Fine,
            unfinished: None,
            forked: false,
            strange: false,
        },
    };
    redone.newest = redo.committed;
    let (reached, committed, to) = (Txid::new(redo.reached), redo.committed, redo.to);
    let begun = redone.applied.raft_index;
    let log = redo.log.clone();
    let mut spool = RedoSpool::new(applier.database().path());
    let mut states = vec![redone.applied.position.checksum];
    states.extend(redo.target);
    let followed = follow(&mut redone, redo, &mut spool, &mut states);
    let verdict = recovery::verdict(&redone.applied, reached, committed, to);
    let mut cut_off = false;
    let wrong = match verdict {
        // What does not follow was passed over by every node, if the rest leads to what is committed.
        Verdict::Right => followed.err().filter(|_| committed.is_none()),
        // What a page diff brought and a crash took comes from another node again: that the log goes on beyond it is no other fault.
        Verdict::Short(why) if redone.applied.position.txid < reached => {
            cut_off = true;
            Some(why)
        }
        Verdict::Short(why) => Some(followed.err().unwrap_or(why)),
        Verdict::Forked(why) => {
            redone.forked = true;
            Some(why)
        }
    };
    // What a page diff left half done is nobody's version, and what was never committed has a copy of its own.
    redone.strange = !cut_off
        && !redone.forked
        && !leads_to(applier.database().checksum(), &states, log, begun, to);
    let copy = redone
        .strange
        .then(|| keep_copy(applier.database(), redone.applied.position.txid));
    let panicked = |panic: Box<dyn std::any::Any + Send>| spool.parked(park::message(&*panic));
    let done =
        catch_unwind(AssertUnwindSafe(|| apply(applier, redone.applied, &spool))).map_err(panicked);
    if let Some(copy) = copy {
        match done {
            Ok(Ok(())) => {
                tell_strange(applier.database().path(), copy);
                redone.strange = false;
            }
            // It is there still. It is copied when something else takes its place.
            _ => forget(copy),
        }
    }
    match done {
        Ok(Ok(())) => {}
        Ok(Err(PagesError::Apply(PagerApplyError::Sqlite(error)))) if is_damage(&error) => {
            return Err(OpenError::Damaged(error));
        }
        Ok(Err(error)) if error.may_pass() && wrong.is_none() => {
            redone.health = Health::Behind {
                why: failed(redone.applied.position, &error),
                readable: false,
            };
            redone.unfinished = Some(spool);
            return Ok(redone);
        }
        Ok(Err(error)) => {
            let why = wrong.unwrap_or_else(|| failed(redone.applied.position, &error));
            redone.health = Health::NeedsRepair {
                why,
                readable: false,
            };
            return Ok(redone);
        }
        Err(why) => {
            redone.health = Health::Parked {
                why,
                readable: false,
            };
            redone.unfinished = Some(spool);
            return Ok(redone);
        }
    }
    if let Some(why) = wrong {
        redone.health = Health::NeedsRepair {
            why,
            readable: false,
        };
    }
    Ok(redone)
}

/// Whether the log leads to what is in the file: a crash leaves a state from the last finished checkpoint on, which may be newer than M. `states`
/// are those up to M. What comes after M may have its first chunks before it, but none before the checkpoint at `begun`.
fn leads_to(
    found: Checksum,
    states: &[Checksum],
    log: Option<Arc<dyn CommittedLog>>,
    begun: u64,
    to: u64,
) -> bool {
    let is_it = |entry: std::io::Result<CommittedLtx>| {
        let entry = entry.ok()?;
        Some(entry.index > to && entry.mark().position.checksum == found)
    };
    states.contains(&found)
        || log.is_some_and(|log| {
            log.transactions(begun.saturating_add(1), u64::MAX)
                .filter_map(is_it)
                .any(|it| it)
        })
}

fn forget(copy: std::io::Result<OrphanCopy>) {
    if let Ok(copy) = copy
        && copy.is_new
    {
        drop(std::fs::remove_file(copy.path));
    }
}

/// The file was changed behind the log's back. Nothing else would say so: what the log says takes the place of it, and is all right.
fn tell_strange(file: &Path, copy: std::io::Result<OrphanCopy>) {
    match copy {
        Ok(copy) => {
            tracing::error!(file = %file.display(), copy = %copy.path.display(), "the file held what is not in the log, as if it was changed while the node was stopped: what the log says is in its place, and what was found is kept in a copy");
        }
        Err(error) => {
            tracing::error!(file = %file.display(), error = describe(&error), "the file held what is not in the log, and could not be copied");
        }
    }
}

/// Says why a redo failed.
pub(super) fn failed(position: Position, error: &PagesError) -> String {
    format!(
        "the file cannot be brought to position {position}: {}",
        describe(error)
    )
}

/// Follows the entries from C on, without touching the file. An error says what is wrong with them.
fn follow(
    redone: &mut Redone,
    redo: Redo,
    spool: &mut RedoSpool,
    states: &mut Vec<Checksum>,
) -> Result<(), String> {
    let mut wrong = Ok(());
    for entry in redo.entries {
        let entry: CommittedLtx =
            entry.map_err(|error| format!("the log cannot be read: {error}"))?;
        let command = &entry.command;
        let here = redone.applied.position;
        let txid = Txid::new(command.txid);
        if txid <= here.txid {
            continue;
        }
        if txid != here.txid.next() || command.pre_checksum != here.checksum.get() {
            wrong = wrong.and(Err(format!(
                "the log does not follow position={here} entry_txid={txid} entry_pre_checksum={:016x}",
                command.pre_checksum
            )));
            let newest = redone.newest.map_or(Txid::ZERO, |mark| mark.position.txid);
            if redo.committed.is_none() && txid > newest {
                redone.newest = Some(entry.mark());
            }
            continue;
        }
        states.push(Checksum::new(command.post_checksum));
        redone.applied = Applied {
            position: Position::new(txid, Checksum::new(command.post_checksum)),
            raft_index: entry.index,
            raft_term: entry.term,
            page_count: command.commit_pages,
        };
        redone
            .sessions
            .record(entry.index, command.timestamp_ms, &command.outcomes);
        redone.last_timestamp_ms = redone.last_timestamp_ms.max(command.timestamp_ms);
        spool
            .push(entry)
            .map_err(|error| format!("no room for the entries to redo: {error}"))?;
    }
    wrong
}

/// Applies all of it, in one piece.
pub(super) fn apply(
    applier: &mut Applier,
    applied: Applied,
    spool: &RedoSpool,
) -> Result<(), PagesError> {
    #[cfg(feature = "planted-bugs")]
    if halite_planted::on(halite_planted::Bug::RedoSkipped) {
        return Ok(());
    }
    let target = ApplyTarget {
        page_count: applied.page_count,
        expected_pre: None,
        expected_post: Some(applied.position.checksum),
    };
    let page_size = applier.database().page_size();
    applier.redo(target, |sink| {
        // In the order of the log: the last content of a page counts.
        spool.for_each(|txid, commit_pages, reader| {
            pour(BufReader::new(reader), sink, page_size, txid, commit_pages)
        })
    })?;
    Ok(())
}

fn from_checkpoint(checkpoint: &v1::DatabaseCheckpoint) -> Redone {
    let sessions = checkpoint
        .sessions
        .as_ref()
        .map(Sessions::from_proto)
        .unwrap_or_default();
    Redone {
        newest: None,
        applied: Applied {
            position: Position::new(
                Txid::new(checkpoint.txid),
                Checksum::new(checkpoint.checksum),
            ),
            raft_index: checkpoint.raft_index,
            raft_term: checkpoint.raft_term,
            page_count: checkpoint.page_count,
        },
        last_timestamp_ms: sessions.last_used_ms(),
        sessions,
        health: Health::Fine,
        unfinished: None,
        forked: false,
        strange: false,
    }
}
