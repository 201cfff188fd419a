//! Applying what the log says: committed entries in order, and page diffs.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use halite_ltx::{Checksum, DecodeError, DecodeFault, Decoder, PageSize, Position, Txid};
use halite_pager::{Applier, ApplyError as PagerApplyError, ApplyTarget, CommitOutcome, PageSink};
use halite_proto::v1;
use prost::Message;
use tokio::sync::oneshot;

use super::Lane;
use super::message::{Install, PendingApply};
use super::redo::{self, Unfinished};
use crate::database::error::is_damage;
use crate::database::sessions::Sessions;
use crate::database::{
    Applied, ApplyError, CommittedLtx, Health, InstallError, Leadership, failure,
};

/// First and longest pause before an entry that could not be written is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

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
        let command = &entry.ltx.command;
        let txid = Txid::new(command.txid);
        let here = self.applied.position;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::RepairForgetsEntries)
            && matches!(*self.shared.health.borrow(), Health::NeedsRepair { .. })
        {
            return;
        }
        self.owed = self.owed.max(txid);
        if txid <= here.txid {
            // Nobody listening is the listener's business, here and below.
            let _ = entry.reply.send(Ok(()));
            return self.caught_up();
        }
        if let Health::NeedsRepair { why, .. } = &*self.shared.health.borrow() {
            let _ = entry.reply.send(Err(ApplyError::NeedsRepair(why.clone())));
            self.missed.push(entry.ltx);
            return;
        }
        let error = if txid != here.txid.next() {
            Some(ApplyError::Gap {
                applied: here.txid,
                found: txid,
            })
        } else if command.pre_checksum != here.checksum.get() {
            Some(ApplyError::Diverged {
                txid,
                expected: command.pre_checksum,
                found: here.checksum,
            })
        } else {
            None
        };
        match error {
            Some(error) => self.give_up(entry, error),
            None => self.catch_up(entry),
        }
    }

    /// Applies the entry that follows, however often it takes.
    pub(super) fn catch_up(&mut self, entry: PendingApply) {
        let mut pause = RETRY_FIRST;
        loop {
            self.shared.will_show(entry.ltx.index);
            let error = match apply_entry(&mut self.applier, &entry.ltx) {
                Ok(()) => {
                    self.finish(entry);
                    return self.caught_up();
                }
                Err(error) => error,
            };
            let reason = describe(&error);
            if !error.may_pass() {
                let txid = Txid::new(entry.ltx.command.txid);
                return self.give_up(entry, ApplyError::Corrupt { txid, reason });
            }
            let why = format!("a committed transaction cannot be written here: {reason}");
            if !self.wait_to_retry(why, true, &mut pause) {
                return;
            }
        }
    }

    /// Brings the file to where the log says it was, however often it takes: when it was tried at the start, the disk refused.
    pub(super) fn catch_up_with_redo(&mut self, unfinished: Unfinished) {
        let Unfinished { spool, mut why } = unfinished;
        let mut pause = RETRY_FIRST;
        while self.wait_to_retry(why, false, &mut pause) {
            match redo::apply(&mut self.applier, self.applied, &spool) {
                Ok(()) => {
                    // A connection reads the file when it is opened, and what it read then may be half of the truth.
                    if let Err(error) = self.reopen_writer() {
                        tracing::error!(database = %self.spec.name, error = describe(&error), "writer cannot be opened again");
                    }
                    self.shared.next_generation();
                    return self.caught_up();
                }
                Err(error) => {
                    why = redo::failed(self.applied.position, &error);
                    if !error.may_pass() {
                        return self.needs_repair(why, false);
                    }
                }
            }
        }
    }

    /// It follows its log again, unless entries have come meanwhile for which nobody has waited: what the node calls applied includes them.
    fn caught_up(&self) {
        let behind = matches!(*self.shared.health.borrow(), Health::Behind { .. });
        if behind && self.applied.position.txid >= self.owed {
            self.inbox
                .if_nothing_to_apply(|| self.set_health(Health::Fine));
        }
    }

    /// Says that the database is behind, and pauses; false if it is being shut down.
    fn wait_to_retry(&mut self, why: String, readable: bool, pause: &mut Duration) -> bool {
        tracing::error!(database = %self.spec.name, %why, "database is behind");
        self.set_health(Health::Behind {
            why: why.clone(),
            readable,
        });
        self.take_no_writes(why);
        self.inbox.back_off(self.host.now() + *pause);
        *pause = (*pause * 2).min(RETRY_LONGEST);
        !self.inbox.is_shut_down()
    }

    /// Nothing is applied any more until the pages are pulled from another node.
    fn needs_repair(&mut self, why: String, readable: bool) {
        tracing::error!(database = %self.spec.name, %why, "database needs repair");
        self.set_health(Health::NeedsRepair {
            why: why.clone(),
            readable,
        });
        self.take_no_writes(why);
    }

    /// What is written builds on the newest state, so a database that is not there must not be written, whoever leads.
    fn take_no_writes(&mut self, why: String) {
        self.leadership = None;
        self.inbox
            .close_from_within(failure::unavailable(why, RETRY_LONGEST));
    }

    /// Takes writes from now on. A database in trouble does not: it says that it could again when it is well.
    pub(super) fn take_writes(&mut self, leadership: Leadership) {
        let trouble = self.shared.health.borrow().trouble().to_owned();
        #[cfg(feature = "planted-bugs")]
        let trouble = match halite_planted::on(halite_planted::Bug::LaneOpensInTrouble) {
            true => String::new(),
            false => trouble,
        };
        if trouble.is_empty() {
            self.leadership = Some(leadership);
        } else {
            self.take_no_writes(trouble);
        }
    }

    fn give_up(&mut self, entry: PendingApply, error: ApplyError) {
        self.needs_repair(error.to_string(), true);
        let _ = entry.reply.send(Err(error));
        self.missed.push(entry.ltx);
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
            page_count: command.commit_pages,
        };
        self.last_timestamp_ms = self.last_timestamp_ms.max(command.timestamp_ms);
        self.sessions
            .record(ltx.index, command.timestamp_ms, &command.outcomes);
        self.shared.applied.send_replace(self.applied);
        let _ = reply.send(Ok(()));
    }

    /// Installs a page diff.
    pub(super) fn install(&mut self, install: Install) {
        let Install { ltx, state, reply } = install;
        let installed = self.try_install(ltx, &state);
        if let Err(error) = &installed {
            tracing::warn!(database = %self.spec.name, %error, "page diff not installed");
        }
        let _ = reply.send(installed);
    }

    fn try_install(
        &mut self,
        ltx: Box<dyn Read + Send>,
        state: &v1::DatabaseState,
    ) -> Result<Applied, InstallError> {
        let page_size = self.spec.page_size;
        let position = Position::new(Txid::new(state.txid), Checksum::new(state.checksum));
        if state.page_size != page_size.get() {
            let message = format!(
                "page size differs page_size={page_size} found={}",
                state.page_size
            );
            return Err(InstallError::Invalid(message));
        }
        if self.leadership.is_some() {
            return Err(InstallError::Invalid(
                "this node is the primary of the database".into(),
            ));
        }
        let before = self.shared.health.borrow().clone();
        let fine = before == Health::Fine;
        let older = position.txid < self.applied.position.txid;
        if fine && position == self.applied.position || before.readable() && older {
            return Ok(self.applied);
        }
        let sessions = v1::Sessions::decode(state.sessions.as_ref())
            .map_err(|error| InstallError::Damaged(format!("idempotency outcomes: {error}")))?;
        self.shared.will_show(state.raft_index);
        let target = ApplyTarget {
            page_count: state.page_count,
            expected_pre: None,
            expected_post: Some(position.checksum),
        };
        #[cfg(feature = "planted-bugs")]
        let target = match halite_planted::on(halite_planted::Bug::DiffUnchecked) {
            true => ApplyTarget {
                expected_post: None,
                ..target
            },
            false => target,
        };
        let reader = std::io::BufReader::new(ltx);
        self.applier
            .apply(target, |sink| match state.page_count {
                0 => Ok(()),
                pages => pour(reader, sink, page_size, position.txid, pages),
            })
            .map_err(|error: PagesError| match &error {
                PagesError::Decode(_) | PagesError::Mismatch(_) => {
                    InstallError::Damaged(describe(&error))
                }
                error if error.may_pass() => InstallError::Io(describe(error)),
                error => InstallError::Mismatch(describe(error)),
            })?;
        self.applied = Applied {
            position,
            raft_index: state.raft_index,
            page_count: state.page_count,
        };
        self.sessions = Sessions::from_proto(&sessions);
        // Two histories may use the same schema cookie for different schemas: nothing prepared before may go on.
        self.reopen_writer()
            .map_err(|error| InstallError::Io(error.to_string()))?;
        self.shared.next_generation();
        self.shared.applied.send_replace(self.applied);
        if !fine {
            self.follow_up(before.readable());
        }
        // The log need not hold what leads from the last checkpoint to here, so the file has to.
        if let Err(error) = self.checkpoint() {
            tracing::warn!(database = %self.spec.name, error = error.message, "checkpoint after a page diff failed");
        }
        Ok(self.applied)
    }

    /// After a repair: applies what came meanwhile. A database that is still older than what it was ever handed is not well, since this
    /// node calls all of that applied.
    fn follow_up(&mut self, readable: bool) {
        self.set_health(Health::Behind {
            why: "what was committed during the repair is not here yet".into(),
            readable,
        });
        for ltx in self.missed.take_after(self.applied.position.txid) {
            // Nobody waits for it any more.
            let (reply, _) = oneshot::channel();
            self.apply(PendingApply { ltx, reply });
        }
        self.caught_up();
        let here = self.applied.position.txid;
        if here < self.owed && matches!(*self.shared.health.borrow(), Health::Behind { .. }) {
            let why = format!(
                "the pages are older than what is committed txid={here} committed={}",
                self.owed
            );
            self.needs_repair(why, readable);
        }
    }
}

/// An error with its causes.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
