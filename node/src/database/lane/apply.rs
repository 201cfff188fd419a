//! Applying what the log says: committed entries, in order. What cannot be applied is the business of [`catch_up`](super::catch_up).

use std::io::{ErrorKind, Read};

use halite_ltx::{Checksum, DecodeError, DecodeFault, Decoder, PageSize, Position, Txid};
use halite_pager::{Applier, ApplyError as PagerApplyError, ApplyTarget, CommitOutcome, PageSink};

use super::Lane;
use super::message::PendingApply;
use crate::database::error::is_damage;
use crate::database::failure::describe;
use crate::database::follow::OnEntry;
use crate::database::{Applied, ApplyError, CommittedLtx, PageSourceError};

/// Why pages were not applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum PagesError {
    #[error(transparent)]
    Apply(#[from] PagerApplyError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Mismatch(String),
}

impl From<PageSourceError> for PagesError {
    fn from(error: PageSourceError) -> Self {
        match error {
            PageSourceError::Decode(error) => PagesError::Decode(error),
            PageSourceError::Mismatch(why) => PagesError::Mismatch(why),
            PageSourceError::Io(_) => PagesError::Mismatch(error.to_string()),
        }
    }
}

impl PagesError {
    /// Another try may succeed: nothing says that the entry or the file is wrong.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            PagesError::Apply(
                PagerApplyError::WriterActive
                | PagerApplyError::Write(_)
                | PagerApplyError::File { .. },
            ) => true,
            PagesError::Apply(PagerApplyError::Sqlite(error)) => !is_damage(error),
            // A chunk that has left the log does not come back.
            PagesError::Decode(error) => {
                matches!(&error.fault, DecodeFault::Io(error) if error.kind() != ErrorKind::NotFound)
            }
            _ => false,
        }
    }
}

/// Gives the pages of one LTX to the sink, and proves them.
pub(super) fn pour(
    reader: impl Read,
    sink: &mut PageSink<'_>,
    page_size: PageSize,
    txid: Txid,
    commit_pages: u32,
) -> Result<(), PagesError> {
    let mut decoder = Decoder::new(reader)?;
    let header = *decoder.header();
    if header.page_size != page_size || header.max_txid != txid || header.commit != commit_pages {
        return Err(PagesError::Mismatch(format!(
            "LTX is not what its entry says page_size={} max_txid={} commit={} entry_txid={txid} entry_commit={commit_pages}",
            header.page_size, header.max_txid, header.commit
        )));
    }
    let mut page = Vec::new();
    while let Some(pgno) = decoder.next_page(&mut page)? {
        sink.page(pgno, &page)?;
    }
    decoder.finish()?;
    Ok(())
}

/// Applies one entry to a database that is just before it.
fn apply_entry(applier: &mut Applier, ltx: &CommittedLtx) -> Result<(), PagesError> {
    let command = &ltx.command;
    let page_size = applier.database().page_size();
    let target = ApplyTarget {
        page_count: command.commit_pages,
        expected_pre: Some(Checksum::new(command.pre_checksum)),
        expected_post: Some(Checksum::new(command.post_checksum)),
    };
    let reader = std::io::BufReader::new(ltx.reader());
    applier.apply(target, |sink| {
        pour(
            reader,
            sink,
            page_size,
            Txid::new(command.txid),
            command.commit_pages,
        )
    })?;
    Ok(())
}

impl Lane {
    /// Applies an entry, or skips it if it is here already.
    pub(super) fn apply(&mut self, entry: PendingApply) {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::RepairForgetsEntries)
            && matches!(
                self.follow.health(),
                crate::database::Health::NeedsRepair { .. }
            )
        {
            return;
        }
        match self.follow.on_entry(entry.ltx.mark(), &entry.ltx.command) {
            OnEntry::Apply => self.catch_up(entry),
            // Nobody listening is the listener's business, here and below.
            OnEntry::Skip => drop(entry.reply.send(Ok(()))),
            OnEntry::Later => {
                let why = self.follow.health().trouble().to_owned();
                let _ = entry.reply.send(Err(ApplyError::NeedsRepair(why)));
            }
            OnEntry::Stop(error) => {
                self.give_up(&error);
                let _ = entry.reply.send(Err(error));
            }
        }
    }

    /// Applies the entry that follows. If the disk refuses, it stays here and is tried again.
    pub(super) fn catch_up(&mut self, entry: PendingApply) {
        self.shared.will_show(entry.ltx.index);
        self.applying = Some(entry.ltx.mark());
        let applied = apply_entry(&mut self.applier, &entry.ltx);
        self.applying = None;
        match applied {
            Ok(()) => {
                if self.applier.take_encoding_change() {
                    self.renew_connections();
                }
                self.finish(entry);
            }
            Err(error) if error.may_pass() => {
                let why = format!(
                    "a committed transaction cannot be written here: {}",
                    describe(&error)
                );
                let _ = self.follow.on_told(entry.ltx.mark());
                self.stuck = Some(entry);
                self.fall_behind(why, true);
            }
            Err(error) => {
                let error = ApplyError::Corrupt {
                    txid: Txid::new(entry.ltx.command.txid),
                    reason: describe(&error),
                };
                self.give_up(&error);
                let _ = entry.reply.send(Err(error));
            }
        }
    }

    /// Our own entry: SQLite has published it, or `Err` if it could not.
    pub(super) fn finish_own(&mut self, entry: PendingApply) -> Result<(), Box<PendingApply>> {
        match self.writer.last_commit() {
            CommitOutcome::Published { .. } => {
                self.finish(entry);
                Ok(())
            }
            outcome => {
                tracing::error!(database = %self.spec.name, ?outcome, "agreed transaction could not be written here");
                Err(Box::new(entry))
            }
        }
    }

    /// The entry is visible.
    fn finish(&mut self, entry: PendingApply) {
        let PendingApply { ltx, reply } = entry;
        let command = &ltx.command;
        self.applied = Applied {
            position: Position::new(
                Txid::new(command.txid),
                Checksum::new(command.post_checksum),
            ),
            raft_index: ltx.index,
            raft_term: ltx.term,
            page_count: command.commit_pages,
        };
        self.follow.on_applied(self.applied.position);
        self.last_timestamp_ms = self.last_timestamp_ms.max(command.timestamp_ms);
        self.sessions
            .record(ltx.index, command.timestamp_ms, &command.outcomes);
        self.shared.applied.send_replace(self.applied);
        let _ = reply.send(Ok(()));
    }
}
