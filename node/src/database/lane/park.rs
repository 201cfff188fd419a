//! What a lane does about its own panic. A panic is a bug, and the entry that met it is on every node: each parks this one database, says which
//! entry it was, and goes on with all others. Nothing is guessed: no entry is passed over.
//!
//! Ways past it: the entry is tried again when an operator says so (another version may have been installed), at each start, or pages are
//! pulled from a node that has taken it.

use std::any::Any;

use halite_proto::v1;

use super::Lane;
use crate::database::failure;
use crate::database::failure::describe;

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
}

impl Lane {
    /// The lane has panicked; it goes on, but not with what made it panic.
    pub(super) fn park(&mut self, panic: &(dyn Any + Send)) {
        let reason = message(panic);
        self.inbox
            .break_transaction(failure::internal("the lane has panicked"));
        // What is still to be redone is needed by whoever tries again.
        let redoing = self.unfinished.take();
        self.forget_steps();
        self.unwritten = None;
        // Should it have been the checkpoint: not again at once.
        self.idle_at = Some(self.host.now() + self.options.checkpoint_idle);
        let readable = self.follow.health().readable();
        let broken = self.reopen().err();
        let applying = self.applying.take();
        match (&redoing, applying) {
            (Some(spool), _) => {
                let why = spool.parked(reason);
                self.follow.on_panic(why, false);
            }
            (None, Some(entry)) => {
                let why = format!(
                    "parked: an entry of the log made the lane panic: index={} txid={} panic={reason:?}",
                    entry.index, entry.position.txid
                );
                // It is committed, and not here.
                let _ = self.follow.on_told(entry);
                self.follow.on_panic(why, readable);
            }
            // A caller's job, or a task: the file is where it was, and that is looked at before it goes on.
            (None, None) => {
                let why = format!("the lane has panicked: {reason}");
                let pause = self.follow.on_refused(why, readable);
                self.retry_at = Some(self.host.now() + pause);
                if self.pager.checksum() != self.applied.position.checksum {
                    let why = format!(
                        "the lane has panicked and the file is not at its position: panic={reason:?}"
                    );
                    self.follow.on_broken(why, false);
                }
            }
        }
        self.unfinished = redoing;
        if let Some(why) = broken {
            self.follow
                .on_panic(format!("parked: the lane has panicked: {why}"), false);
        }
        self.publish_health();
        let why = self.follow.health().trouble().to_owned();
        tracing::error!(database = %self.spec.name, %why, "the lane has panicked");
        self.take_no_writes(why);
    }

    /// Connections that have not seen the panic; whatever was open on the old ones is rolled back.
    fn reopen(&mut self) -> Result<(), String> {
        self.applier = self.pager.applier().map_err(|error| describe(&error))?;
        self.reopen_writer().map_err(|error| describe(&error))
    }

    /// Tries again now, whatever kept the database from its log.
    pub(super) fn resume(&mut self) -> Result<(), v1::Error> {
        if self.follow.is_fine() {
            return Ok(());
        }
        tracing::info!(database = %self.spec.name, "trying again, as told");
        let readable = self.follow.health().readable();
        if !readable && self.unfinished.is_none() {
            return Err(failure::corrupt(format!(
                "only a page diff helps: {}",
                self.follow.health().trouble()
            )));
        }
        self.stuck = None;
        self.reread = None;
        self.follow.on_resumed("trying again".into(), readable);
        self.publish_health();
        self.catch_up_now();
        match self.follow.health().trouble() {
            "" => Ok(()),
            why => Err(failure::unavailable(
                why.to_owned(),
                crate::database::follow::RETRY_LONGEST,
            )),
        }
    }
}
