//! [`Transaction`]: the caller's end of an interactive transaction. The lane's end is `lane::interactive`.
//!
//! Statements go in, results come out through oneshot channels, so that no async worker ever waits for SQLite.

use std::sync::Arc;
use std::time::{Duration, Instant};

use halite_proto::v1;
use tokio::sync::oneshot;

use super::caller::Caller;
use super::failure;
use super::lane::inbox::Inbox;
use super::lane::message::{Job, Step};
use super::write_job::CallKey;

/// What a caller asks for when it begins a transaction.
#[derive(Clone, Copy, Debug)]
pub struct TransactionOptions {
    /// Idempotency key of the whole transaction: if one with this key is committed already, beginning it fails with `AlreadyExists`.
    pub key: Option<CallKey>,
    /// All calls of this client below this one have been answered to it.
    pub answered_below: u64,
    /// Until when to wait for the lane.
    pub wait_until: Instant,
    /// How long the transaction may take once begun: it holds the lane, and other writers wait meanwhile.
    pub duration_max: Duration,
}

/// A statement, commit or rollback that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionFailure {
    /// Why.
    pub error: v1::Error,
    /// The transaction is over (rolled back, unless the error says that the outcome is unknown). Otherwise it goes on.
    pub ended: bool,
}

/// A transaction that the quorum has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Raft index that covers all that the transaction wrote and saw: the new session token.
    pub raft_index: u64,
}

/// Number of an interactive transaction of one database since it was opened.
pub(super) type TransactionId = u64;

/// The lane's side of a begin.
pub(super) struct Begin {
    pub(super) id: TransactionId,
    pub(super) options: TransactionOptions,
    pub(super) reply: oneshot::Sender<Result<(), v1::Error>>,
}

/// An open interactive transaction: it has the lane to itself until it ends. Dropping it rolls back.
pub struct Transaction {
    inbox: Arc<Inbox>,
    id: TransactionId,
    ended: bool,
}

impl Transaction {
    pub(super) async fn begin(
        inbox: Arc<Inbox>,
        options: TransactionOptions,
    ) -> Result<Self, v1::Error> {
        let (reply, granted) = oneshot::channel();
        let id = inbox.next_transaction_id();
        // From here on a dropped future leaves a handle that ends the transaction on the lane.
        let transaction = Transaction {
            inbox,
            id,
            ended: false,
        };
        transaction
            .inbox
            .submit(vec![Job::Begin(Begin { id, options, reply })]);
        granted.await.unwrap_or_else(|_| Err(lane_gone()))?;
        Ok(transaction)
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// [`TransactionFailure`]; the transaction goes on unless it says `ended`.
    pub async fn execute(
        &mut self,
        statement: v1::Statement,
    ) -> Result<v1::StatementResult, TransactionFailure> {
        let (reply, result) = oneshot::channel();
        // A future that is dropped lets go of it.
        let (caller, _here) = Caller::of_step();
        let step = Step::Statement {
            statement,
            caller,
            reply,
        };
        self.inbox.push_step(self.id, step);
        self.note(result.await)
    }

    /// Commits. After `Ok` the transaction is over.
    ///
    /// # Errors
    /// [`TransactionFailure`]; a violated deferred constraint leaves the transaction open, everything else ends it.
    pub async fn commit(&mut self) -> Result<Committed, TransactionFailure> {
        let (reply, result) = oneshot::channel();
        let (caller, _here) = Caller::of_step();
        self.inbox
            .push_step(self.id, Step::Commit { caller, reply });
        let committed = self.note(result.await)?;
        self.ended = true;
        Ok(committed)
    }

    /// Rolls back and waits until the lane is free again.
    pub async fn rollback(mut self) {
        let (reply, done) = oneshot::channel();
        self.ended = true;
        self.inbox
            .push_step(self.id, Step::Rollback { reply: Some(reply) });
        // A lane that is gone has rolled back.
        let _ = done.await;
    }

    fn note<T>(
        &mut self,
        answer: Result<Result<T, TransactionFailure>, oneshot::error::RecvError>,
    ) -> Result<T, TransactionFailure> {
        let result = answer.unwrap_or_else(|_| {
            Err(TransactionFailure {
                error: lane_gone(),
                ended: true,
            })
        });
        if let Err(failure) = &result {
            self.ended |= failure.ended;
        }
        result
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.ended {
            self.inbox
                .push_step(self.id, Step::Rollback { reply: None });
        }
    }
}

fn lane_gone() -> v1::Error {
    failure::unavailable("the database is being closed", Duration::from_millis(200))
}
