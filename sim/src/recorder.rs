//! [`Recorder`]: the history of one database, written by all its clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use halite_checks::{AccountId, Caller, History, Operation, Outcome, Request, Ticket};
use halite_client::{Error, ErrorKind};
use parking_lot::Mutex;

use crate::trace::Trace;

/// See the module. Clones record into the same history.
#[derive(Clone)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
    complaints: Arc<Mutex<Vec<String>>>,
    trace: Trace,
}

impl Recorder {
    /// An empty history.
    pub fn new(trace: Trace) -> Self {
        Self {
            history: Arc::default(),
            complaints: Arc::default(),
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

    /// The bank of this database opens with these balances. All its clients say the same.
    pub fn open_bank(&self, opening: BTreeMap<AccountId, i64>) {
        self.history.lock().bank.opening = opening;
    }

    /// Something was done that no history holds.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note(what);
    }

    /// A client saw something that must not be, and that no history holds.
    pub fn complain(&self, what: String) {
        self.trace.note(format_args!("COMPLAINT {what}"));
        self.complaints.lock().push(what);
    }

    /// What clients complained of since this was asked last.
    pub fn take_complaints(&self) -> Vec<String> {
        std::mem::take(&mut self.complaints.lock())
    }

    /// What was recorded so far.
    pub fn history(&self) -> History {
        self.history.lock().clone()
    }

    /// Writes acknowledged so far, of any workload.
    pub fn acknowledged(&self) -> usize {
        let history = self.history.lock();
        let lists = history.lists.iter();
        acknowledged(&history.set.inserts)
            + acknowledged(&history.bank.transfers)
            + acknowledged(&history.registers.increments)
            + lists
                .filter(|operation| operation.outcome.is_ok() && operation.asked.appends())
                .count()
    }
}

fn acknowledged<R: Request>(operations: &[Operation<R>]) -> usize {
    let acknowledged = operations
        .iter()
        .filter(|operation| operation.outcome.is_ok());
    acknowledged.count()
}

/// What a failed call says of a write.
pub fn outcome_of<T>(error: &Error) -> Outcome<T> {
    match error.kind() {
        ErrorKind::OutcomeUnknown | ErrorKind::Internal => Outcome::Unknown(error.to_string()),
        _ => Outcome::Failed(error.to_string()),
    }
}
