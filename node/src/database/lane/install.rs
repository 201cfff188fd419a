//! Installing a page diff. It counts as installed when the file holds it, synced: the log need not hold what leads there, so nothing else would
//! bring it back after a power loss.

use halite_ltx::{Checksum, Position, Txid};
use halite_pager::{ApplyTarget, PageSink, PagerError};
use halite_proto::v1;
use prost::Message;

use super::Lane;
use super::apply::PagesError;
use super::message::Install;
use crate::database::failure::describe;
use crate::database::sessions::Sessions;
use crate::database::{Applied, InstallError, PageSource};

impl Lane {
    /// Installs a page diff.
    pub(super) fn install(&mut self, install: Install) {
        let Install {
            pages,
            state,
            reply,
        } = install;
        let installed = self.try_install(pages, &state);
        if let Err(error) = &installed {
            tracing::warn!(database = %self.spec.name, %error, "page diff not installed");
        }
        // Nobody listening is the listener's business.
        let _ = reply.send(installed);
    }

    fn try_install(
        &mut self,
        pages: Box<dyn PageSource>,
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
        let readable = self.follow.health().readable();
        let older = position.txid < self.applied.position.txid;
        let here = self.follow.is_fine() && position == self.applied.position;
        if here || readable && older && !self.diff_unsaved {
            return Ok(self.applied);
        }
        if !(readable && older)
            && let Err(error) = self.put_in(pages, state, position)
        {
            // The pages are in, and no connection that knows it.
            if self.diff_unsaved {
                self.fall_behind(error.to_string(), readable);
            }
            return Err(error);
        }
        self.save_replaced(readable)?;
        Ok(self.applied)
    }

    /// Another content is in place, that of `applied`: brings it into the file, and goes on from there. `readable`: readers may see what
    /// is here, should that fail.
    pub(super) fn save_replaced(&mut self, readable: bool) -> Result<(), InstallError> {
        // Whatever was to be done about the content before is of no use to this one.
        self.forget_steps();
        self.diff_unsaved = true;
        if let Err(why) = self.checkpoint_diff() {
            // It is followed up here all the same, and saved when that works.
            self.fall_behind(why.clone(), readable);
            return Err(InstallError::Io(why));
        }
        if !self.follow.is_fine() {
            let why = "what was committed during the repair is not here yet".into();
            self.follow.on_resumed(why, readable);
        }
        if let Some(Err(error)) = self
            .newest_of_log()
            .map(|newest| self.follow.on_told(newest))
        {
            self.give_up(&error);
            return Err(InstallError::Mismatch(error.to_string()));
        }
        if self.follow.lacks().is_some() && self.follow.is_fine() {
            self.follow
                .on_resumed("what was committed meanwhile is not here yet".into(), true);
        }
        self.publish_health();
        self.catch_up_now();
        Ok(())
    }

    /// Puts the pages in, in one transaction whose checksum is compared before it is published.
    fn put_in(
        &mut self,
        pages: Box<dyn PageSource>,
        state: &v1::DatabaseState,
        position: Position,
    ) -> Result<(), InstallError> {
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
        self.put_aside();
        self.applier
            .apply(target, |sink| match state.page_count {
                0 => Ok(()),
                _ => pour_all(pages, sink),
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
            raft_term: state.raft_term,
            page_count: state.page_count,
        };
        self.sessions = Sessions::from_proto(&sessions);
        self.replaced()
            .map_err(|error| InstallError::Io(error.to_string()))
    }

    /// Another content is in place, that of `applied`; it may be in the WAL only.
    pub(super) fn replaced(&mut self) -> Result<(), PagerError> {
        self.strange = false;
        self.follow.on_installed(self.applied.position);
        self.forget_steps();
        self.diff_unsaved = true;
        // Two histories may use the same schema cookie for different schemas: nothing prepared before may go on.
        self.reopen_writer()?;
        self.shared.next_generation();
        self.shared.applied.send_replace(self.applied);
        Ok(())
    }

    /// Brings what a page diff has brought into the file. A reader of an older state keeps it out; readers that come now do not.
    pub(super) fn checkpoint_diff(&mut self) -> Result<(), String> {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::DiffInstalledBeforeCheckpoint) {
            self.diff_unsaved = false;
            drop(self.checkpoint_whatever());
            return Ok(());
        }
        match self.checkpoint_whatever() {
            Ok(true) => Ok(()),
            Ok(false) => Err(
                "a page diff is not in the file yet: readers keep a part of the WAL from it".into(),
            ),
            Err(error) => Err(format!(
                "a page diff is not in the file yet: {}",
                error.message
            )),
        }
    }

    fn newest_of_log(&self) -> Option<crate::database::Mark> {
        self.log.as_ref()?.newest()
    }

    /// Steps until it is well, or has to wait; whoever waits for the lane goes first.
    pub(super) fn catch_up_now(&mut self) {
        while self.follow.needs_steps() && !self.inbox.ordered_waiting() {
            self.catch_up_step();
            if self.retry_at.is_none_or(|at| at > self.host.now()) {
                return;
            }
        }
        if self.follow.needs_steps() {
            self.retry_at = Some(self.host.now());
        }
    }
}

fn pour_all(mut pages: Box<dyn PageSource>, sink: &mut PageSink<'_>) -> Result<(), PagesError> {
    let mut page = Vec::new();
    while let Some(pgno) = pages.next_page(&mut page)? {
        sink.page(pgno, &page)?;
    }
    Ok(())
}
