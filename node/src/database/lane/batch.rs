//! Group commit: many jobs, one transaction, one quorum round.
//!
//! Each job runs inside its own savepoint. A job that fails rolls back alone. One that ends the whole transaction is run again by itself, and so
//! are the jobs before and after it. Nobody is answered before the transaction is decided, since even a failure may tell of rows that vanish.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use halite_proto::v1;
use prost::Message as _;
use rusqlite::ffi;

use super::Lane;
use super::commit::{Told, Verdict, Weight};
use crate::database::guard::Mode;
use crate::database::reply::{CallResults, Deliveries};
use crate::database::sessions::{ENTRY_ROWS_BYTES_MAX, Lookup, outcome};
use crate::database::{CallKey, WriteJob, failure, pragma, statement};

/// Jobs in one batch.
pub(super) const BATCH_JOBS_MAX: usize = 1024;
/// Rows that one write may give back, in bytes: they are held until the quorum has answered, and a unary call sends them in one message.
pub(super) const RESULT_BYTES_MAX: usize = 32 << 20;

/// What a job has come to so far.
pub(super) enum Outcome {
    /// It ran a statement that is not read-only.
    Wrote(Vec<v1::StatementResult>),
    Read(Vec<v1::StatementResult>),
    Failed(v1::Error),
    /// It was in the database before. With what is told of it.
    Recorded(Result<CallResults, v1::Error>),
    /// Another job of this batch (its place) has the same key and is the one that runs.
    Twin(usize),
}

pub(super) struct Entry {
    pub(super) job: WriteJob,
    pub(super) outcome: Outcome,
}

/// What became of a list of jobs.
enum Attempt {
    /// All are answered.
    Answered,
    /// These have to be run again, each list as its own transaction.
    Again(Vec<Vec<WriteJob>>),
}

impl Lane {
    /// Runs jobs until each has been answered.
    pub(super) fn run_batch(&mut self, jobs: Vec<WriteJob>) {
        let mut lists = VecDeque::from([jobs]);
        while let Some(jobs) = lists.pop_front() {
            let attempt = self.attempt(jobs);
            self.retry_unwritten();
            match attempt {
                Attempt::Answered => {}
                Attempt::Again(again) => again
                    .into_iter()
                    .rev()
                    .for_each(|jobs| lists.push_front(jobs)),
            }
        }
    }

    fn attempt(&mut self, jobs: Vec<WriteJob>) -> Attempt {
        if let Some(error) = self.refusal() {
            refuse_all(jobs, &error);
            return Attempt::Answered;
        }
        if let Err(error) = self.begin() {
            let error = self.explain(error);
            refuse_all(jobs, &error);
            return Attempt::Answered;
        }
        let started = self.host.now();
        let mut places: HashMap<CallKey, usize> = HashMap::new();
        let mut entries: Vec<Entry> = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter();
        while let Some(mut job) = jobs.next() {
            let outcome = match self.answer_known(&job, &entries, &places) {
                Some(outcome) => outcome,
                None => self.run_job(&mut job),
            };
            if self.writer_is_idle() {
                return self.without(Entry { job, outcome }, entries, jobs.collect());
            }
            if let (Some(key), Outcome::Wrote(_) | Outcome::Read(_)) = (job.key, &outcome) {
                places.insert(key, entries.len());
            }
            entries.push(Entry { job, outcome });
            if self.host.now().saturating_duration_since(started) > self.options.batch_work_max {
                self.inbox.put_back(jobs.collect());
                break;
            }
        }
        self.commit_batch(entries)
    }

    /// The whole transaction is gone with this job.
    fn without(&self, ended: Entry, before: Vec<Entry>, after: Vec<WriteJob>) -> Attempt {
        let before: Vec<WriteJob> = before.into_iter().map(|entry| entry.job).collect();
        let Entry { job, outcome } = ended;
        let mut again = Vec::new();
        if before.is_empty() {
            let outcome = match outcome {
                Outcome::Failed(error) => Outcome::Failed(error),
                _ => Outcome::Failed(failure::internal("the transaction ended without an error")),
            };
            self.answer_confirmed(vec![Entry { job, outcome }]);
        } else {
            // Its failure may be of what a job before it did, and that is not decided yet.
            again.extend([before, vec![job]]);
        }
        again.extend((!after.is_empty()).then_some(after));
        Attempt::Again(again)
    }

    /// Answers jobs that wrote nothing, when what they saw is confirmed.
    pub(super) fn answer_confirmed(&self, entries: Vec<Entry>) {
        self.tell(Verdict::NothingWritten, weight(&entries), |told| {
            answer(entries, told);
        });
    }

    /// The answer to a job that need not be run.
    fn answer_known(
        &self,
        job: &WriteJob,
        entries: &[Entry],
        places: &HashMap<CallKey, usize>,
    ) -> Option<Outcome> {
        if job.deadline <= self.host.now() {
            return Some(Outcome::Failed(if job.begun {
                failure::ran_too_long("call")
            } else {
                failure::waited_too_long()
            }));
        }
        let key = job.key.as_ref()?;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::RetryRunsAgain) {
            return None;
        }
        match self.sessions.lookup(key) {
            Lookup::Recorded(recorded) => Some(Outcome::Recorded(recorded.answer())),
            Lookup::Answered => Some(Outcome::Failed(failure::invalid(format!(
                "the client has said that this call was answered already call_id={}",
                key.call_id
            )))),
            Lookup::Unknown if key.call_id < job.answered_below => {
                Some(Outcome::Failed(failure::invalid(format!(
                    "the call contradicts itself: it is below the mark of answered calls call_id={} answered_below={}",
                    key.call_id, job.answered_below
                ))))
            }
            Lookup::Unknown => places
                .get(key)
                .filter(|place| {
                    matches!(
                        entries[**place].outcome,
                        Outcome::Wrote(_) | Outcome::Read(_)
                    )
                })
                .map(|place| Outcome::Twin(*place)),
        }
    }

    /// Runs a job inside its savepoint; the savepoint is gone afterwards, and so is what a failed job did.
    pub(super) fn run_job(&mut self, job: &mut WriteJob) -> Outcome {
        job.begun = true;
        if job.statements.is_empty() {
            return Outcome::Failed(failure::invalid("the call holds no statement"));
        }
        if let Err(error) = self.own("SAVEPOINT job") {
            return Outcome::Failed(self.explain(error));
        }
        let ran = self.guard.armed(Mode::Caller, &job.terms(), || {
            run_statements(self, &job.statements)
        });
        let end = match &ran {
            Ok(_) => self.own("RELEASE job"),
            // SQLite may have ended the transaction, and the savepoint with it.
            Err(_) if self.writer_is_idle() => Ok(()),
            Err(_) => self
                .own("ROLLBACK TO job")
                .and_then(|()| self.own("RELEASE job")),
        };
        match (ran, end) {
            (Err(error), _) => Outcome::Failed(self.tell_primary(error)),
            (Ok(_), Err(error)) => Outcome::Failed(at_the_end(job, self.explain(error))),
            (Ok((results, true)), Ok(())) => Outcome::Wrote(results),
            (Ok((results, false)), Ok(())) => Outcome::Read(results),
        }
    }

    /// SQL that was interrupted because leadership is lost: its caller is told where to turn to.
    fn tell_primary(&self, error: v1::Error) -> v1::Error {
        match error.code() {
            v1::ErrorCode::NotPrimary => self.inbox.closed().unwrap_or(error),
            _ => error,
        }
    }

    fn commit_batch(&mut self, entries: Vec<Entry>) -> Attempt {
        let wrote = entries
            .iter()
            .filter(|entry| matches!(entry.outcome, Outcome::Wrote(_)))
            .count();
        let verdict = self.commit(outcomes(&entries), |lane| lane.own("COMMIT"));
        if !self.writer_is_idle()
            && let Err(error) = self.own("ROLLBACK")
        {
            tracing::error!(database = %self.spec.name, %error, "rollback failed");
        }
        let verdict = match verdict {
            Verdict::Refused(error) if is_foreign_key(&error) => return self.split(entries, error),
            other => other.explained(|error| self.explain(error)),
        };
        if let Verdict::Committed(_) = verdict {
            self.shared.batches.fetch_add(1, Ordering::Relaxed);
            self.shared
                .batched_jobs
                .fetch_add(wrote as u64, Ordering::Relaxed);
        }
        self.tell(verdict, weight(&entries), |told| answer(entries, told));
        Attempt::Answered
    }

    /// Deferred foreign keys are violated by some job: finds it by halving. (Jobs that make each other good in one transaction are never
    /// told apart: what is committed satisfies the constraints either way.)
    fn split(&mut self, entries: Vec<Entry>, error: rusqlite::Error) -> Attempt {
        if let [_] = entries.as_slice() {
            let error = self.explain(error);
            let failed = |Entry { job, .. }| Entry {
                outcome: Outcome::Failed(at_the_end(&job, error.clone())),
                job,
            };
            self.answer_confirmed(entries.into_iter().map(failed).collect());
            return Attempt::Answered;
        }
        let mut jobs: Vec<WriteJob> = entries.into_iter().map(|entry| entry.job).collect();
        let second = jobs.split_off(jobs.len() / 2);
        Attempt::Again(vec![jobs, second])
    }

    /// Runs a job that cannot run inside a transaction.
    pub(super) fn run_alone(&mut self, job: WriteJob) {
        if let Some(error) = self.refusal() {
            return refuse_all([job], &error);
        }
        if let Some(outcome) = self.answer_known(&job, &[], &HashMap::new()) {
            return self.answer_confirmed(vec![Entry { job, outcome }]);
        }
        if pragma::without_foreign_keys(&job.statements) {
            return self.rebuild(job);
        }
        let mut entries = vec![Entry {
            job,
            outcome: Outcome::Wrote(vec![v1::StatementResult::default()]),
        }];
        let job = &entries[0].job;
        let mut budget = RESULT_BYTES_MAX;
        let verdict = self.commit(outcomes(&entries), |lane| {
            lane.guard.armed(Mode::Vacuum, &job.terms(), || {
                let (connection, guard) = (lane.connection(), &lane.guard);
                statement::run(connection, guard, &job.statements[0], &mut budget).map(drop)
            })
        });
        let verdict = match verdict {
            Verdict::Refused(error) => {
                entries[0].outcome = Outcome::Failed(error);
                Verdict::NothingWritten
            }
            other => other,
        };
        self.tell(verdict, weight(&entries), |told| answer(entries, told));
        self.retry_unwritten();
    }
}

/// An error that none of a job's statements is to blame for.
pub(super) fn at_the_end(job: &WriteJob, error: v1::Error) -> v1::Error {
    v1::Error {
        statement_index: job.statements.len() as u32,
        ..error
    }
}

/// Runs the statements of one job; also says whether one was not read-only.
fn run_statements(
    lane: &Lane,
    statements: &[v1::Statement],
) -> Result<(Vec<v1::StatementResult>, bool), v1::Error> {
    pragma::check_effect(statements)?;
    let connection = lane.connection();
    let mut budget = RESULT_BYTES_MAX;
    // The connection remembers the rowid of earlier jobs.
    halite_pager::forget_last_insert_rowid(connection);
    let mut results = Vec::with_capacity(statements.len());
    let mut wrote = false;
    for (index, text) in statements.iter().enumerate() {
        let mut ran =
            statement::run(connection, &lane.guard, text, &mut budget).map_err(|error| {
                v1::Error {
                    statement_index: index as u32,
                    ..error
                }
            })?;
        ran.result.last_insert_rowid = connection.last_insert_rowid();
        wrote |= !ran.read_only;
        results.push(ran.result);
    }
    Ok((results, wrote))
}

/// The outcomes that travel with the entry, by client.
pub(super) fn outcomes(entries: &[Entry]) -> Vec<v1::SessionOutcomes> {
    let mut clients: BTreeMap<[u8; 16], v1::SessionOutcomes> = BTreeMap::new();
    let mut room = ENTRY_ROWS_BYTES_MAX;
    for entry in entries {
        let (Some(key), Outcome::Wrote(results)) = (entry.job.key, &entry.outcome) else {
            continue;
        };
        let session = clients
            .entry(key.client_id)
            .or_insert_with(|| v1::SessionOutcomes {
                client_id: Bytes::copy_from_slice(&key.client_id),
                ..v1::SessionOutcomes::default()
            });
        session.answered_below = session.answered_below.max(entry.job.answered_below);
        session.calls.push(outcome(key.call_id, results, &mut room));
    }
    clients.into_values().collect()
}

/// What these jobs hold while they wait for the quorum's word.
pub(super) fn weight(entries: &[Entry]) -> Weight {
    let bytes = |outcome: &Outcome| match outcome {
        Outcome::Wrote(results) | Outcome::Read(results) => {
            results.iter().map(v1::StatementResult::encoded_len).sum()
        }
        _ => 0,
    };
    Weight {
        calls: entries.len(),
        bytes: entries.iter().map(|entry| bytes(&entry.outcome)).sum(),
    }
}

/// Answers everybody, one hand-over per sink.
pub(super) fn answer(entries: Vec<Entry>, told: Told) {
    let raft_index = match told {
        Told::Stands(raft_index) => raft_index,
        _ => 0,
    };
    let twins: HashMap<usize, CallResults> = entries
        .iter()
        .filter_map(|entry| match entry.outcome {
            Outcome::Twin(place) => Some(place),
            _ => None,
        })
        .filter_map(|place| match &entries[place].outcome {
            Outcome::Wrote(results) | Outcome::Read(results) => Some((
                place,
                CallResults {
                    first_statement: 0,
                    results: results.clone(),
                    raft_index,
                },
            )),
            _ => None,
        })
        .collect();
    let mut deliveries = Deliveries::default();
    for Entry { job, outcome } in entries {
        let results = |results| {
            Ok(CallResults {
                first_statement: 0,
                results,
                raft_index,
            })
        };
        let outcome = match (outcome, &told) {
            // It was in the database before: nothing about it can vanish.
            (Outcome::Recorded(recorded), _) => recorded,
            (Outcome::Wrote(_) | Outcome::Twin(_), Told::Unknown(_)) => {
                Err(failure::outcome_unknown())
            }
            (_, Told::Unknown(error) | Told::NotWritten(error)) => Err(error.clone()),
            (Outcome::Wrote(wrote), Told::Stands(_)) => results(wrote),
            (Outcome::Read(read), Told::Stands(_)) => results(read),
            (Outcome::Failed(error), Told::Stands(_)) => Err(error),
            (Outcome::Twin(place), Told::Stands(_)) => match twins.get(&place) {
                Some(twin) => Ok(twin.clone()),
                None => Err(failure::internal("the twin of a call is gone")),
            },
        };
        deliveries.push(&job.reply, outcome, false);
    }
    deliveries.send();
}

fn refuse_all(jobs: impl IntoIterator<Item = WriteJob>, error: &v1::Error) {
    for job in jobs {
        job.reply.send(Err(error.clone()));
    }
}

pub(super) fn is_foreign_key(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}
