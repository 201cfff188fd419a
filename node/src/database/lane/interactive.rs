//! Interactive transactions: one caller has the lane to itself until it commits, rolls back, leaves, or its time is up.

use std::time::Instant;

use halite_proto::v1;
use tokio::sync::oneshot;

use super::Lane;
use super::batch::{RESULT_BYTES_MAX, is_foreign_key};
use super::commit::{Told, Verdict, Weight};
use super::message::{Move, Step};
use crate::database::caller::Caller;
use crate::database::guard::{Mode, Terms};
use crate::database::sessions::Lookup;
use crate::database::transaction::{Begin, Committed, TransactionFailure};
use crate::database::{CallKey, failure, pragma, statement};

/// What the transaction needs to remember between its steps.
struct Progress {
    key: Option<CallKey>,
    answered_below: u64,
    deadline: Instant,
    /// One entry per statement that ran, for the outcome.
    rows_affected: Vec<u64>,
    last_insert_rowids: Vec<i64>,
    /// Nothing but PRAGMAs ran so far.
    fresh: bool,
    /// It runs without foreign keys.
    rebuilds: bool,
}

impl Lane {
    /// Runs one interactive transaction from its begin to its end.
    pub(super) fn run_interactive(&mut self, begin: Begin) {
        let Begin { id, options, reply } = begin;
        if let Err(error) = self.begin_interactive(options.key, options.wait_until) {
            // Nobody listening is the listener's business, here and below.
            let _ = reply.send(Err(error));
            return;
        }
        halite_pager::forget_last_insert_rowid(self.connection());
        let mut progress = Progress {
            key: options.key,
            answered_below: options.answered_below,
            deadline: self.host.now() + options.duration_max,
            rows_affected: Vec::new(),
            last_insert_rowids: Vec::new(),
            fresh: true,
            rebuilds: false,
        };
        let mut end = failure::invalid("the transaction is over");
        if self.inbox.start_transaction(id) {
            // What its statements see is what was current after it was begun. A caller that is told otherwise, or has gone away, ends it.
            self.tell_confirmed(Weight::ONE_CALL, move |told| {
                let _ = reply.send(match told {
                    Told::NotWritten(error) => Err(error),
                    _ => Ok(()),
                });
            });
            end = self.take_steps(&mut progress);
        }
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::AbandonedTransactionCommits)
            && !self.writer_is_idle()
        {
            let _ = self.commit(outcomes(&progress), |lane| lane.own("COMMIT"));
        }
        if !self.writer_is_idle()
            && let Err(error) = self.own("ROLLBACK")
        {
            tracing::error!(database = %self.spec.name, %error, "rollback failed");
        }
        if progress.rebuilds {
            self.end_rebuild();
        }
        self.inbox.end_transaction(id, end);
        self.retry_unwritten();
    }

    fn begin_interactive(
        &mut self,
        key: Option<CallKey>,
        wait_until: Instant,
    ) -> Result<(), v1::Error> {
        if let Some(error) = self.refusal() {
            return Err(error);
        }
        if wait_until <= self.host.now() {
            return Err(failure::waited_too_long());
        }
        if let Some(key) = &key {
            match self.sessions.lookup(key) {
                Lookup::Unknown => {}
                Lookup::Recorded(recorded) => {
                    return Err(failure::already_committed(recorded.raft_index));
                }
                Lookup::Answered => {
                    return Err(failure::invalid(
                        "the client has said that this call was answered already",
                    ));
                }
            }
        }
        self.begin().map_err(|error| self.explain(error))
    }

    /// Returns when the transaction is over, with what later steps are told.
    fn take_steps(&mut self, progress: &mut Progress) -> v1::Error {
        loop {
            let step = match self.inbox.next_move(progress.deadline) {
                Move::Step(step) => step,
                Move::Ordered | Move::Shutdown => {
                    return self
                        .inbox
                        .closed()
                        .unwrap_or_else(|| failure::not_primary(None));
                }
                Move::TimedOut => return timed_out(),
            };
            match step {
                Step::Statement {
                    statement,
                    caller,
                    reply,
                } => {
                    let result = self.run_step(progress, &statement, caller);
                    let end = result
                        .as_ref()
                        .err()
                        .filter(|failure| failure.ended)
                        .map(|failure| failure.error.clone());
                    let _ = reply.send(result);
                    if let Some(end) = end {
                        return end;
                    }
                }
                Step::Commit { caller, reply } => {
                    if let Some(end) = self.commit_interactive(progress, caller, reply) {
                        return end;
                    }
                }
                Step::Rollback { reply } => {
                    #[cfg(feature = "planted-bugs")]
                    if halite_planted::on(halite_planted::Bug::AbandonedTransactionCommits)
                        && reply.is_none()
                    {
                        return failure::invalid("the transaction was rolled back");
                    }
                    if let Err(error) = self.own("ROLLBACK") {
                        tracing::error!(database = %self.spec.name, %error, "rollback failed");
                    }
                    let _ = reply.map(|reply| reply.send(()));
                    return failure::invalid("the transaction was rolled back");
                }
            }
        }
    }

    fn run_step(
        &mut self,
        progress: &mut Progress,
        text: &v1::Statement,
        caller: Caller,
    ) -> Result<v1::StatementResult, TransactionFailure> {
        if let Err(error) = self.prepare_rebuild(progress, &text.sql) {
            let ended = self.writer_is_idle();
            return Err(TransactionFailure { error, ended });
        }
        let mut budget = RESULT_BYTES_MAX;
        let terms = progress.terms(caller);
        let ran = self.guard.armed(Mode::Interactive, &terms, || {
            statement::run(self.connection(), &self.guard, text, &mut budget)
        });
        match ran {
            Ok(mut ran) => {
                ran.result.last_insert_rowid = self.connection().last_insert_rowid();
                if !ran.read_only {
                    progress.rows_affected.push(ran.result.rows_affected);
                    progress
                        .last_insert_rowids
                        .push(ran.result.last_insert_rowid);
                }
                Ok(ran.result)
            }
            Err(error) => {
                let ended = self.writer_is_idle();
                let out_of_time = progress.deadline <= self.host.now();
                let error = match error.code() {
                    // Interrupted, and SQLite may or may not have rolled all of it back.
                    v1::ErrorCode::DeadlineExceeded => timed_out(),
                    v1::ErrorCode::NotPrimary => self.inbox.closed().unwrap_or(error),
                    _ => error,
                };
                Err(TransactionFailure {
                    error,
                    ended: ended || out_of_time,
                })
            }
        }
    }

    /// Switches foreign keys off if that is what the statement asks for, and the transaction has done nothing yet.
    fn prepare_rebuild(&mut self, progress: &mut Progress, sql: &str) -> Result<(), v1::Error> {
        let switched = if progress.fresh && pragma::is_foreign_keys_off(sql) {
            progress.rebuilds = true;
            // Inside a transaction the PRAGMA does nothing. Nobody gets between: the lane is this transaction's.
            self.own("ROLLBACK")
                .and_then(|()| self.foreign_keys_off())
                .and_then(|()| self.begin())
        } else if progress.rebuilds && pragma::is_writable_schema_on(sql) {
            self.shadow_tables(true)
        } else {
            Ok(())
        };
        progress.fresh &= pragma::is_one(sql);
        switched.map_err(|error| self.explain(error))
    }

    /// Answers the commit; returns what later steps are told if the transaction is over.
    fn commit_interactive(
        &mut self,
        progress: &mut Progress,
        caller: Caller,
        reply: oneshot::Sender<Result<Committed, TransactionFailure>>,
    ) -> Option<v1::Error> {
        if progress.rebuilds
            && let Err(error) = self.check_foreign_keys(&progress.terms(caller))
        {
            let ended = self.writer_is_idle();
            let _ = reply.send(Err(TransactionFailure {
                error: error.clone(),
                ended,
            }));
            return ended.then_some(error);
        }
        let verdict = match self.commit(outcomes(progress), |lane| lane.own("COMMIT")) {
            Verdict::Refused(error) if is_foreign_key(&error) => {
                let error = self.explain(error);
                let _ = reply.send(Err(TransactionFailure {
                    error,
                    ended: false,
                }));
                return None;
            }
            other => other.explained(|error| self.explain(error)),
        };
        let end = match &verdict {
            Verdict::Committed(_) | Verdict::NothingWritten => {
                failure::invalid("the transaction was committed")
            }
            Verdict::Refused(error) | Verdict::NotProposed(error) => error.clone(),
            Verdict::Unknown => failure::outcome_unknown(),
        };
        self.tell(verdict, Weight::ONE_CALL, move |told| {
            let error = match told {
                Told::Stands(raft_index) => {
                    let _ = reply.send(Ok(Committed { raft_index }));
                    return;
                }
                Told::NotWritten(error) => error,
                Told::Unknown(_) => failure::outcome_unknown(),
            };
            let _ = reply.send(Err(TransactionFailure { error, ended: true }));
        });
        Some(end)
    }
}

impl Progress {
    fn terms(&self, caller: Caller) -> Terms {
        Terms {
            deadline: self.deadline,
            caller,
        }
    }
}

fn timed_out() -> v1::Error {
    failure::deadline_exceeded("the interactive transaction took too long and was rolled back")
}

fn outcomes(progress: &Progress) -> Vec<v1::SessionOutcomes> {
    let Some(key) = progress.key else {
        return Vec::new();
    };
    vec![v1::SessionOutcomes {
        client_id: bytes::Bytes::copy_from_slice(&key.client_id),
        answered_below: progress.answered_below,
        calls: vec![v1::CallOutcome {
            call_id: key.call_id,
            rows_affected: progress.rows_affected.clone(),
            last_insert_rowid: progress.last_insert_rowids.clone(),
            // Its rows went out with each step.
            ..v1::CallOutcome::default()
        }],
    }]
}
