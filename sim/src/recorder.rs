//! [`Recorder`]: the history of one database, written by all its clients.

use std::sync::Arc;

use halite_checks::{Caller, History, Outcome, Request, Ticket};
use halite_client::{Error, ErrorKind};
use parking_lot::Mutex;

use crate::trace::Trace;

/// See the module. Clones record into the same history.
#[derive(Clone)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
    trace: Trace,
}

impl Recorder {
    /// An empty history.
    pub fn new(trace: Trace) -> Self {
        Self {
            history: Arc::default(),
            trace,
        }
    }

    /// An operation is about to be sent.
    pub fn invoke<R: Request>(&self, caller: Caller, asked: R) -> Ticket<R> {
        let (session, what) = (caller.session, asked.to_string());
        let ticket = self
            .history
            .lock()
            .invoke(caller, self.trace.now_us(), asked);
        self.trace
            .note(format_args!("{session} {} {what} ...", ticket.id()));
        ticket
    }

    /// Its client knows how it ended.
    pub fn returned<R: Request>(&self, ticket: Ticket<R>, outcome: Outcome<R::Answer>) {
        let mut history = self.history.lock();
        let operation = history.returned(ticket, self.trace.now_us(), outcome);
        let (session, id, what) = (operation.caller.session, operation.id, &operation.asked);
        match &operation.outcome {
            Outcome::Ok(answer) => {
                let mut answer = format!("{answer:?}");
                // The whole answer counts for the digest of the trace only where it is short.
                let rest = answer.len().saturating_sub(160);
                answer.truncate(answer.floor_char_boundary(160));
                self.trace.note(format_args!(
                    "{session} {id} {what}: ok {answer} (+{rest} bytes)"
                ));
            }
            outcome => self
                .trace
                .note(format_args!("{session} {id} {what}: {outcome}")),
        }
    }

    /// What was recorded so far.
    pub fn history(&self) -> History {
        self.history.lock().clone()
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let history = self.history.lock();
        history
            .set
            .inserts
            .iter()
            .filter(|operation| operation.outcome.is_ok())
            .count()
    }
}

/// What a failed call says of a write.
pub fn outcome_of<T>(error: &Error) -> Outcome<T> {
    match error.kind() {
        ErrorKind::OutcomeUnknown | ErrorKind::Internal => Outcome::Unknown(error.to_string()),
        _ => Outcome::Failed(error.to_string()),
    }
}
