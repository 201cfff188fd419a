//! What a lane does while its database is not well: it tries again what was refused, and reads from the log what it could not take when it
//! came. One step at a time, so that whatever reaches the lane meanwhile is answered between two steps.
//!
//! Nothing that is committed is kept in memory for later, but for the one entry that the disk refuses: the log has it. What the log has
//! no more is pulled from another node.

use std::io;

use tokio::sync::oneshot;

use super::Lane;
use super::message::{PendingApply, Told};
use super::redo;
use crate::database::follow::{OnEntry, RETRY_LONGEST};
use crate::database::{ApplyError, Leadership, Mark, Transactions, failure};

/// Entries of the log that are being read again.
pub(super) struct Rereading {
    transactions: Transactions,
    /// The last index looked at.
    last: u64,
}

/// What became of a step.
enum Step {
    /// The next one may follow at once.
    Done,
    /// Nothing is left to be done.
    Nothing,
    /// It has been said why, and when to try again.
    Refused,
}

impl Lane {
    /// One step towards what is committed.
    pub(super) fn catch_up_step(&mut self) {
        self.retry_at = None;
        let step = if self.unfinished.is_some() {
            self.redo_again()
        } else if let Some(entry) = self.stuck.take() {
            self.catch_up(entry);
            self.retried()
        } else if self.follow.lacks().is_some() {
            self.read_again()
        } else {
            self.save_diff()
        };
        match step {
            Step::Done => self.retry_at = Some(self.host.now()),
            Step::Refused => {}
            Step::Nothing => {
                self.reread = None;
                let follow = &mut self.follow;
                self.inbox.if_nothing_to_apply(|| follow.on_caught_up());
                self.publish_health();
                // Something has come that waits to be looked at, and may be all that is missing.
                if self.follow.needs_steps() {
                    self.retry_at = Some(self.host.now());
                }
            }
        }
    }

    fn retried(&self) -> Step {
        match self.retry_at.is_some() || !self.follow.needs_steps() {
            true => Step::Refused,
            false => Step::Done,
        }
    }

    /// Brings the file to where the log says it was: when it was tried at the start, the disk refused.
    fn redo_again(&mut self) -> Step {
        if self.unfinished.is_none() {
            return Step::Done;
        }
        self.put_aside();
        let Some(spool) = &self.unfinished else {
            return Step::Done;
        };
        match redo::apply(&mut self.applier, self.applied, spool) {
            Ok(()) => {
                self.unfinished = None;
                self.strange = false;
                // A connection reads the file when it is opened, and what it read then may be half of the truth.
                self.renew_connections();
                Step::Done
            }
            Err(error) => {
                let why = redo::failed(self.applied.position, &error);
                match error.may_pass() {
                    true => self.fall_behind(why, false),
                    false => self.needs_repair(why, false),
                }
                Step::Refused
            }
        }
    }

    /// Applies the next entry of the log that is not here.
    fn read_again(&mut self) -> Step {
        let Some(newest) = self.follow.lacks() else {
            return Step::Nothing;
        };
        let reread = match self.reread.take() {
            Some(reread) => Some(reread),
            None => self.log.as_ref().map(|log| Rereading {
                transactions: log.transactions(self.applied.raft_index + 1, newest.index),
                last: newest.index,
            }),
        };
        let Some(mut reread) = reread else {
            return self.left_the_log(newest);
        };
        match reread.transactions.next() {
            Some(Ok(ltx)) => match self.follow.place(&ltx.command) {
                OnEntry::Apply => {
                    self.reread = Some(reread);
                    // Nobody waits for it any more.
                    let (reply, _) = oneshot::channel();
                    self.catch_up(PendingApply { ltx, reply });
                    self.retried()
                }
                OnEntry::Skip | OnEntry::Later => {
                    self.reread = Some(reread);
                    Step::Done
                }
                OnEntry::Stop(ApplyError::Gap { .. }) => self.left_the_log(newest),
                OnEntry::Stop(error) => {
                    self.give_up(&error);
                    Step::Refused
                }
            },
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.left_the_log(newest)
            }
            Some(Err(error)) => {
                self.fall_behind(format!("the log cannot be read: {error}"), true);
                Step::Refused
            }
            // More has been committed since.
            None if reread.last < newest.index => Step::Done,
            None => self.left_the_log(newest),
        }
    }

    fn left_the_log(&mut self, newest: Mark) -> Step {
        let why = format!(
            "what is here is older than what is committed, and the log does not hold what is between: position={} committed={}",
            self.applied.position, newest.position
        );
        self.needs_repair(why, self.follow.health().readable());
        Step::Refused
    }

    /// What a page diff has brought is in the WAL only.
    fn save_diff(&mut self) -> Step {
        if !self.diff_unsaved {
            return Step::Nothing;
        }
        match self.checkpoint_diff() {
            Ok(()) => Step::Nothing,
            Err(why) => {
                self.fall_behind(why, true);
                Step::Refused
            }
        }
    }

    /// That much is committed, and came without its data.
    pub(super) fn take_told(&mut self, told: Told) {
        match self.follow.on_told(told.mark) {
            Err(error) => return self.give_up(&error),
            Ok(()) if !self.follow.is_fine() => return,
            Ok(()) => {}
        }
        while self.follow.is_fine() && self.follow.lacks().is_some() {
            if matches!(self.read_again(), Step::Nothing) {
                break;
            }
        }
        self.reread = None;
        if self.follow.is_fine() {
            for reply in told.replies {
                let _ = reply.send(Ok(()));
            }
        }
    }

    // ---- what the rest of the node is told ----

    /// Something committed cannot be written now: it is tried again.
    pub(super) fn fall_behind(&mut self, why: String, readable: bool) {
        tracing::error!(database = %self.spec.name, %why, "database is behind");
        let pause = self.follow.on_refused(why.clone(), readable);
        self.retry_at = Some(self.host.now() + pause);
        self.publish_health();
        self.take_no_writes(why);
    }

    /// Nothing is applied any more until the pages are pulled from another node.
    pub(super) fn needs_repair(&mut self, why: String, readable: bool) {
        tracing::error!(database = %self.spec.name, %why, "database needs repair");
        self.follow.on_broken(why.clone(), readable);
        self.forget_steps();
        self.publish_health();
        self.take_no_writes(why);
    }

    /// The log says something that does not fit to what is here.
    pub(super) fn give_up(&mut self, error: &ApplyError) {
        // What was never committed must not be read, nor thrown away.
        let forked = matches!(
            error,
            ApplyError::Forked { .. } | ApplyError::Diverged { .. }
        );
        let readable = self.follow.health().readable() && !forked;
        self.needs_repair(error.to_string(), readable);
        if forked {
            self.keep_orphan();
        }
    }

    /// What was to be done next is not done.
    pub(super) fn forget_steps(&mut self) {
        self.stuck = None;
        self.reread = None;
        self.unfinished = None;
        self.retry_at = None;
    }

    /// What is written builds on the newest state, so a database that is not there must not be written, whoever leads.
    pub(super) fn take_no_writes(&mut self, why: String) {
        self.leadership = None;
        self.inbox
            .close_from_within(failure::unavailable(why, RETRY_LONGEST));
    }

    /// Takes writes from now on. A database in trouble does not: it says that it could again when it is well.
    pub(super) fn take_writes(&mut self, leadership: Leadership) {
        if let Some(newest) = self.log.as_ref().and_then(|log| log.newest()) {
            match self.follow.on_told(newest) {
                Err(error) => self.give_up(&error),
                // It is on its way here. Whoever still leads then opens the lane again.
                Ok(()) if self.follow.is_fine() && self.follow.lacks().is_some() => {
                    return self.take_no_writes("committed transactions are not here yet".into());
                }
                Ok(()) => {}
            }
        }
        let trouble = self.follow.health().trouble().to_owned();
        #[cfg(feature = "planted-bugs")]
        let trouble = match halite_planted::on(halite_planted::Bug::LaneOpensInTrouble) {
            true => String::new(),
            false => trouble,
        };
        if trouble.is_empty() {
            self.leadership = Some(leadership);
        } else if self.follow.health().needs_repair() {
            self.take_no_writes(format!(
                "the database needs repair, `halite status` says what to do: {trouble}"
            ));
        } else {
            self.take_no_writes(trouble);
        }
    }

    /// Shows the rest of the node how it stands.
    pub(super) fn publish_health(&self) {
        self.shared.health.send_if_modified(|now| {
            let changed = now != self.follow.health();
            now.clone_from(self.follow.health());
            changed
        });
    }
}
