//! A database that needs repair, and nobody to pull its pages from: an operator says what counts.
//!
//! The log: its entries are replayed over the file, from the first that it holds, in one atomic apply whose checksum decides, as redo does at a
//! start. Pages that none of them has come from the file, so this works wherever the log reaches far enough back. The file: what it holds
//! becomes one transaction that has every page, so that log, archive and followers lead to the same content from anywhere.
//!
//! Called by the lane for an operator. Must never: replace either version before a copy of it is on the disk, if it can be had.

use std::path::{Path, PathBuf};

use halite_ltx::{Checksum, Position, Txid};
use halite_proto::v1;
use rusqlite::{Connection, OpenFlags};

use halite_pager::ApplyError;

use super::Lane;
use super::apply::PagesError;
use super::commit::Verdict;
use super::gate::Armed;
use super::orphan::OrphanCopy;
use super::redo;
use super::redo_spool::RedoSpool;
use crate::database::failure::describe;
use crate::database::sessions::Sessions;
use crate::database::{
    Applied, CommittedLtx, Health, Keep, Kept, Leadership, Mark, Unfinished, failure,
};
use crate::immutable::immutable_uri;

impl Lane {
    /// Makes `keep` count.
    pub(super) fn keep(&mut self, keep: Keep) -> Result<Kept, v1::Error> {
        let begun = Unfinished::of(&self.spec.path);
        match (self.follow.health(), keep, &begun) {
            (Health::NeedsRepair { .. } | Health::Parked { .. }, ..) => {}
            (Health::Behind { why, .. }, ..) => {
                return Err(failure::invalid(format!(
                    "the database needs no repair here, it is behind and tries again by itself: {why}"
                )));
            }
            (Health::Fine, Keep::File { .. }, Some(begun)) if begun.txid == self.newest().txid => {}
            (Health::Fine, Keep::File { .. }, Some(begun)) => {
                return Err(failure::invalid(format!(
                    "something was committed since an earlier try, perhaps what was in the file itself: that is kept in {}",
                    begun.copy.display()
                )));
            }
            (Health::Fine, ..) => {
                return Err(failure::invalid("the database needs no repair here"));
            }
        }
        tracing::warn!(database = %self.spec.name, ?keep, "repairing as told");
        match keep {
            Keep::Log => self.keep_log(),
            Keep::File { leadership, force } => self.keep_file(leadership, force, begun),
        }
    }

    fn keep_log(&mut self) -> Result<Kept, v1::Error> {
        let found = match self.pager.page_count() {
            0 => None,
            _ => Some(self.copy_of_found()?),
        };
        if let Err(why) = self.replay_log() {
            // The file is as it was.
            if let Some(found) = found.filter(|found| found.is_new) {
                let _ = std::fs::remove_file(&found.path);
            }
            return Err(why.into_error("what the log says cannot be brought back"));
        }
        self.go_on()?;
        Unfinished::forget(&self.spec.path);
        let found = found.map(|found| found.path).or_else(|| self.moved_aside());
        Ok(Kept {
            applied: self.applied,
            other: found.ok_or_else(|| "there was nothing in it".to_owned()),
        })
    }

    /// The newest file that was in the place of the database and is none of it.
    fn moved_aside(&self) -> Option<PathBuf> {
        let path = &self.spec.path;
        let beginning = format!("{}.orphan-", path.file_name()?.to_string_lossy());
        let beside = std::fs::read_dir(path.parent()?).ok()?.flatten();
        beside
            .filter(|file| file.file_name().to_string_lossy().starts_with(&beginning))
            .max_by_key(|file| file.metadata().and_then(|meta| meta.modified()).ok())
            .map(|file| file.path())
    }

    fn keep_file(
        &mut self,
        leadership: Leadership,
        force: bool,
        begun: Option<Unfinished>,
    ) -> Result<Kept, v1::Error> {
        let is_well = matches!(self.follow.health(), Health::Fine);
        let here = self.newest();
        // One that was begun before something else was committed is over.
        let found = match begun.filter(|begun| begun.txid == here.txid) {
            Some(begun) => begun.copy,
            None => self.begin_to_keep(here)?,
        };
        let in_place = if is_well { Ok(()) } else { self.replay_log() };
        let other = match in_place {
            Ok(()) => Ok(self
                .keep_copy()
                .map_err(|error| left_at(&found, &describe(&error)))?
                .path),
            // Only a version that cannot be had at all is given up.
            Err(NotReplayed::Missing(why)) if force => Err(why),
            Err(NotReplayed::Missing(why)) => {
                return Err(failure::invalid(format!(
                    "what was committed and is not in the file would be lost: {why}. An archive may have it (`halite restore`); --force takes the \
                     file all the same"
                )));
            }
            Err(now) => return Err(now.into_error("nothing is changed")),
        };
        if let Err(error) = self.take_in(leadership, here, &found) {
            if other.is_ok() {
                // Nothing of the log is lost, and the file is kept.
                self.go_on()?;
                return Err(left_at(&found, &error.message));
            }
            return Err(error);
        }
        self.go_on()?;
        // It is the database now.
        Unfinished::forget(&self.spec.path);
        let _ = std::fs::remove_file(&found);
        Ok(Kept {
            applied: self.applied,
            other,
        })
    }

    /// A copy of what is in the file, which is sound, and the note that it is to count.
    fn begin_to_keep(&self, here: Position) -> Result<PathBuf, v1::Error> {
        if self.pager.page_count() == 0 {
            return Err(failure::invalid(match self.moved_aside() {
                None => "there is nothing in the file to keep".to_owned(),
                Some(aside) => format!(
                    "the file is not this database's any more, by its page size or altogether, and was moved aside to {}. If it is a database, \
                     `halite db drop` and `halite import` take it",
                    aside.display()
                ),
            }));
        }
        let found = self.copy_of_found()?;
        if let Some(fault) = fault_of(&found) {
            return Err(failure::invalid(format!(
                "what is in the file is malformed, and is not taken in: {fault}. It is kept in {copy}: `sqlite3 {copy} .recover` saves what is left",
                copy = found.path.display()
            )));
        }
        let begun = Unfinished {
            copy: found.path.clone(),
            txid: here.txid,
        };
        begun.note(&self.spec.path).map_err(|error| {
            failure::internal(format!("nothing is changed: {}", describe(&error)))
        })?;
        Ok(found.path)
    }

    fn copy_of_found(&self) -> Result<OrphanCopy, v1::Error> {
        self.keep_copy().map_err(|error| {
            failure::internal(format!(
                "the file cannot be copied, nothing is changed: {}",
                describe(&error)
            ))
        })
    }

    /// Where the log says that the database is.
    fn newest(&self) -> Position {
        let of_log = self.log.as_ref().and_then(|log| log.newest());
        let newest: Option<Mark> = of_log.or_else(|| self.follow.lacks());
        newest.map_or(self.applied.position, |mark| mark.position)
    }

    /// Commits the content of a file as a transaction that follows `here`, whatever is in the database now.
    fn take_in(
        &mut self,
        leadership: Leadership,
        here: Position,
        found: &Path,
    ) -> Result<(), v1::Error> {
        self.last_timestamp_ms = self.last_timestamp_ms.max(self.host.unix_ms());
        self.gate.arm(Armed {
            leadership,
            position: here,
            from_anywhere: true,
            outcomes: Vec::new(),
            timestamp_ms: self.last_timestamp_ms,
        });
        let ran = self.writer.import(found);
        match self.decided(ran) {
            Verdict::Committed(_) if self.unwritten.take().is_some() => Err(failure::internal(
                "what is in the file is committed, and cannot be written here: start the node anew",
            )),
            Verdict::Committed(_) => self
                .replaced()
                .map_err(|error| failure::internal(describe(&error))),
            Verdict::NothingWritten => Err(failure::internal("the file brings no change")),
            Verdict::Refused(error) => Err(failure::invalid(describe(&error))),
            Verdict::NotProposed(error) => Err(error),
            Verdict::Unknown => Err(failure::outcome_unknown()),
        }
    }

    /// Puts in what the log says. If it cannot be had, nothing is changed.
    fn replay_log(&mut self) -> Result<(), NotReplayed> {
        let mut replay = Replay {
            applied: None,
            known: self.applied.raft_index,
            sessions: self.sessions.clone(),
            last_timestamp_ms: self.last_timestamp_ms,
            spool: RedoSpool::new(&self.spec.path),
        };
        let newest = self.newest();
        if let Some(log) = &self.log {
            for entry in log.transactions(0, u64::MAX) {
                let entry = entry.map_err(|error| {
                    NotReplayed::Failed(format!("the log cannot be read: {error}"))
                })?;
                if entry.command.txid <= newest.txid.get() {
                    replay.push(entry).map_err(NotReplayed::Failed)?;
                }
            }
        }
        let applied = replay.applied.unwrap_or(self.applied);
        if applied.position != newest {
            return Err(NotReplayed::Missing(format!(
                "the log does not lead to what is committed: position={} committed={newest}",
                applied.position
            )));
        }
        redo::apply(&mut self.applier, applied, &replay.spool).map_err(NotReplayed::of)?;
        self.applied = applied;
        self.sessions = replay.sessions;
        self.last_timestamp_ms = replay.last_timestamp_ms;
        self.shared.will_show(applied.raft_index);
        if self.applier.take_encoding_change() {
            self.renew_connections();
        }
        self.replaced()
            .map_err(|error| NotReplayed::Failed(describe(&error)))
    }

    /// What counts is in place.
    fn go_on(&mut self) -> Result<(), v1::Error> {
        if let Err(error) = self.save_replaced(true) {
            tracing::warn!(database = %self.spec.name, %error, "repaired, and not in the file yet");
        }
        match self.follow.health() {
            // What it waits for comes by itself.
            Health::Fine | Health::Behind { .. } => Ok(()),
            Health::NeedsRepair { why, .. } | Health::Parked { why, .. } => Err(failure::internal(
                format!("what counts is in place, and something else is wrong now: {why}"),
            )),
        }
    }
}

/// Why the log's version is not in place; nothing is changed.
enum NotReplayed {
    /// The log does not have it.
    Missing(String),
    /// It cannot be put there now.
    Failed(String),
}

impl NotReplayed {
    fn of(error: PagesError) -> Self {
        let what = describe(&error);
        match error {
            PagesError::Apply(ApplyError::PostChecksum { .. } | ApplyError::Size { .. }) => {
                Self::Missing(format!(
                    "the log does not reach back to all that is wrong in the file: {what}"
                ))
            }
            _ => Self::Failed(what),
        }
    }

    fn into_error(self, context: &str) -> v1::Error {
        match self {
            Self::Missing(why) => failure::corrupt(format!("{context}: {why}")),
            Self::Failed(why) => failure::internal(format!(
                "{context} now: {why}. Try again when that is mended"
            )),
        }
    }
}

/// What SQLite finds wrong with a copy.
fn fault_of(copy: &OrphanCopy) -> Option<String> {
    let uri = immutable_uri(&copy.path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let checked = Connection::open_with_flags(uri, flags).and_then(|connection| {
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    });
    match checked {
        Ok(said) => (said != "ok").then_some(said),
        Err(error) => Some(error.to_string()),
    }
}

/// The log's version is in place, and the file's is kept.
fn left_at(found: &Path, why: &str) -> v1::Error {
    failure::internal(format!(
        "what the log says is in place, what was in the file is kept in {}, and is not taken in: {why}",
        found.display()
    ))
}

/// The transactions of the log, one after the other.
struct Replay {
    /// `None` before the first.
    applied: Option<Applied>,
    /// Outcomes up to this index are known.
    known: u64,
    sessions: Sessions,
    last_timestamp_ms: i64,
    spool: RedoSpool,
}

impl Replay {
    /// What does not follow was passed over by every node.
    fn push(&mut self, entry: CommittedLtx) -> Result<(), String> {
        let command = &entry.command;
        let txid = Txid::new(command.txid);
        let follows = self.applied.as_ref().is_none_or(|applied| {
            let here = applied.position;
            txid == here.txid.next() && command.pre_checksum == here.checksum.get()
        });
        if !follows {
            return Ok(());
        }
        self.applied = Some(Applied {
            position: Position::new(txid, Checksum::new(command.post_checksum)),
            raft_index: entry.index,
            raft_term: entry.term,
            page_count: command.commit_pages,
        });
        if entry.index > self.known {
            self.sessions
                .record(entry.index, command.timestamp_ms, &command.outcomes);
        }
        self.last_timestamp_ms = self.last_timestamp_ms.max(command.timestamp_ms);
        self.spool
            .push(entry)
            .map_err(|error| format!("no room for what the log holds: {error}"))
    }
}
