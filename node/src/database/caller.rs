//! [`Caller`]: whoever asked for SQL, seen from the thread that runs it. Called by the guard, which interrupts what nobody waits for.

use std::sync::{Arc, Weak};

use super::ReplyTo;

/// See the module.
#[derive(Clone)]
pub(super) enum Caller {
    /// Of a call: its sink knows.
    Call(ReplyTo),
    /// Of one move of an interactive transaction: it is there as long as somebody holds this.
    Step(Weak<()>),
}

impl Caller {
    /// The caller of one move, and what it has to hold while it waits.
    pub(super) fn of_step() -> (Caller, Arc<()>) {
        let here = Arc::new(());
        (Caller::Step(Arc::downgrade(&here)), here)
    }

    /// Nobody waits for the answer any more.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Caller::Call(reply) => reply.sink.is_gone(reply.token),
            Caller::Step(here) => here.strong_count() == 0,
        }
    }
}
