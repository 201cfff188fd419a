//! One commit: the gate is armed, SQLite runs, the decision is taken, and what came of it is told when it may be.
//!
//! Whatever may reach the gate runs inside [`Lane::commit`]: batches, interactive transactions, `VACUUM`, imports. What came of it goes to the callers
//! through [`Lane::tell`]. What the quorum has is told at once. What was found out without writing (no such row, a violated constraint,
//! bytes that stay as they were, rows that were only read) may be old news on a node that was replaced meanwhile: it is told after a quorum
//! round that was asked afterwards, under the leadership that the lane ran with. The lane goes on; the answers wait.
//!
//! Must never: let a caller hear of a commit in another way, or wait for a quorum by itself.

use halite_proto::v1;

use super::Lane;
use super::gate::{Armed, Decision};
use super::unconfirmed::Waiting;
use crate::database::{OnConfirmed, failure};

/// What came of a commit. `E` is what the part that was run may fail with.
pub(super) enum Verdict<E> {
    /// The quorum has it, at this Raft index.
    Committed(u64),
    /// SQLite is done, and no page was changed.
    NothingWritten,
    /// SQLite did not want it, before it came to the gate. A transaction may still be open.
    Refused(E),
    /// The gate stayed shut, and the entry surely never enters the log. With what callers are told.
    NotProposed(v1::Error),
    /// The gate stayed shut, and the entry may still be committed.
    Unknown,
}

/// What callers may be told.
pub(super) enum Told {
    /// What was written and seen stands; this Raft index covers all of it.
    Stands(u64),
    /// Nothing was written, for this reason, and nothing that was seen may be told.
    NotWritten(v1::Error),
    /// What was written may be kept or not. Who wrote nothing is told this error.
    Unknown(v1::Error),
}

/// How much is held back while answers wait for the quorum's word.
#[derive(Clone, Copy)]
pub(super) struct Weight {
    pub(super) calls: usize,
    pub(super) bytes: usize,
}

impl Weight {
    /// One call, and no rows.
    pub(super) const ONE_CALL: Weight = Weight { calls: 1, bytes: 0 };
}

impl<E> Verdict<E> {
    /// The same, with another word for what SQLite did not want.
    pub(super) fn explained<F>(self, explain: impl FnOnce(E) -> F) -> Verdict<F> {
        match self {
            Verdict::Refused(error) => Verdict::Refused(explain(error)),
            Verdict::Committed(raft_index) => Verdict::Committed(raft_index),
            Verdict::NothingWritten => Verdict::NothingWritten,
            Verdict::NotProposed(error) => Verdict::NotProposed(error),
            Verdict::Unknown => Verdict::Unknown,
        }
    }
}

impl Lane {
    /// Runs something that commits at most once. What the quorum has and SQLite could not write is left in `unwritten`: it comes before
    /// the lane does anything else but answer.
    pub(super) fn commit<E>(
        &mut self,
        outcomes: Vec<v1::SessionOutcomes>,
        run: impl FnOnce(&mut Lane) -> Result<(), E>,
    ) -> Verdict<E> {
        self.arm(outcomes);
        let ran = run(self);
        self.decided(ran)
    }

    /// What became of the commit that the gate was armed for.
    pub(super) fn decided<E>(&mut self, ran: Result<(), E>) -> Verdict<E> {
        match (self.gate.take_decision(), ran) {
            (Decision::Open(entry), _) => {
                let raft_index = entry.ltx.index;
                self.unwritten = self.finish_own(entry).err();
                Verdict::Committed(raft_index)
            }
            (Decision::NotProposed(error), _) => Verdict::NotProposed(error),
            (Decision::Unknown, _) => Verdict::Unknown,
            (Decision::NotReached, Ok(())) => Verdict::NothingWritten,
            (Decision::NotReached, Err(error)) => Verdict::Refused(error),
        }
    }

    /// Calls `then` with what callers may be told, at once or when the quorum has confirmed it, on any thread. `weight` is what waits in it.
    ///
    /// What SQLite refused to commit is told at once: it must say nothing of the content of the database.
    pub(super) fn tell(
        &self,
        verdict: Verdict<v1::Error>,
        weight: Weight,
        then: impl FnOnce(Told) + Send + 'static,
    ) {
        match verdict {
            Verdict::Committed(raft_index) => then(Told::Stands(raft_index)),
            Verdict::NothingWritten => self.tell_confirmed(weight, then),
            Verdict::Refused(error) | Verdict::NotProposed(error) => then(Told::NotWritten(error)),
            Verdict::Unknown => then(Told::Unknown(self.closed())),
        }
    }

    /// Calls `then` when it is known whether what the lane sees now was current at this moment.
    pub(super) fn tell_confirmed(&self, weight: Weight, then: impl FnOnce(Told) + Send + 'static) {
        let Some(leadership) = self.leadership else {
            return then(Told::NotWritten(self.closed()));
        };
        let raft_index = self.applied.raft_index;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::NoOpUnconfirmed) {
            return then(Told::Stands(raft_index));
        }
        let waiting: Waiting = self.unconfirmed.wait(weight.calls, weight.bytes);
        let waiter = OnConfirmed::new(move |word| {
            drop(waiting);
            then(match word {
                Ok(()) => Told::Stands(raft_index),
                Err(error) => Told::NotWritten(error),
            });
        });
        self.proposer.confirm(leadership, waiter);
    }

    /// Lets the next commit pass to the quorum.
    fn arm(&mut self, outcomes: Vec<v1::SessionOutcomes>) {
        let Some(leadership) = self.leadership else {
            return;
        };
        self.last_timestamp_ms = self.last_timestamp_ms.max(self.host.unix_ms());
        self.gate.arm(Armed {
            leadership,
            position: self.applied.position,
            from_anywhere: false,
            outcomes,
            timestamp_ms: self.last_timestamp_ms,
        });
    }

    /// What those are told who come to a lane that is shut.
    pub(super) fn closed(&self) -> v1::Error {
        self.inbox
            .closed()
            .unwrap_or_else(|| failure::not_primary(None))
    }
}
