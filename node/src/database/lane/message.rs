//! The messages that reach a lane, and what its inbox tells it to do next. Values only; see [`inbox`](super::inbox).

use std::path::PathBuf;
use std::time::Instant;

use halite_proto::v1;
use tokio::sync::oneshot;

use super::inbox::Sealed;
use crate::database::caller::Caller;
use crate::database::transaction::{Begin, Committed, TransactionFailure};
use crate::database::{
    Applied, ApplyError, CommittedLtx, DatabaseSnapshot, InstallError, Keep, Kept, Leadership,
    Mark, PageSource, WriteJob,
};

/// What the log and the role decide, in order.
pub(in crate::database) enum Ordered {
    Apply(PendingApply),
    Told(Told),
    Open(Leadership),
    Close {
        done: oneshot::Sender<()>,
    },
    Install(Install),
    /// This proposal never enters the history: Raft turned it away, or one of its chunks.
    Refuse {
        proposal_id: u64,
    },
}

/// A committed entry on its way in.
pub(in crate::database) struct PendingApply {
    pub(in crate::database) ltx: CommittedLtx,
    pub(in crate::database) reply: oneshot::Sender<Result<(), ApplyError>>,
}

/// Up to there all is committed; the entries themselves are in the log.
pub(in crate::database) struct Told {
    pub(in crate::database) mark: Mark,
    /// Of entries that were let go of.
    pub(in crate::database) replies: Vec<oneshot::Sender<Result<(), ApplyError>>>,
}

/// A page diff on its way in.
pub(in crate::database) struct Install {
    pub(in crate::database) pages: Box<dyn PageSource>,
    pub(in crate::database) state: v1::DatabaseState,
    pub(in crate::database) reply: oneshot::Sender<Result<Applied, InstallError>>,
}

/// What the node itself wants done between transactions.
pub(in crate::database) enum Task {
    Checkpoint {
        reply: oneshot::Sender<Result<(), v1::Error>>,
    },
    Snapshot {
        reply: oneshot::Sender<Result<DatabaseSnapshot, v1::Error>>,
    },
    /// An operator wants what was given up to be tried again.
    Resume {
        reply: oneshot::Sender<Result<(), v1::Error>>,
    },
    /// An operator says what counts: the file or the log.
    Keep {
        keep: Keep,
        reply: oneshot::Sender<Result<Kept, v1::Error>>,
    },
    /// Nothing is to be written any more, if nothing ever was.
    SealIfBlank {
        reply: oneshot::Sender<Option<Sealed>>,
    },
}

/// What callers want written.
pub(in crate::database) enum Job {
    Write(WriteJob),
    /// A write that cannot run inside a transaction.
    Alone(WriteJob),
    Begin(Begin),
    Import {
        path: PathBuf,
        overwrite: bool,
        reply: oneshot::Sender<Result<Applied, v1::Error>>,
    },
}

impl Job {
    /// Answers a job that is not going to be run.
    pub(in crate::database) fn refuse(self, error: v1::Error) {
        // Nobody listening is the listener's business, here and below.
        match self {
            Job::Write(job) | Job::Alone(job) => job.reply.send(Err(error)),
            Job::Begin(begin) => drop(begin.reply.send(Err(error))),
            Job::Import { reply, .. } => drop(reply.send(Err(error))),
        }
    }

    /// Until when it may wait; `None` for ever.
    pub(in crate::database) fn deadline(&self) -> Option<Instant> {
        match self {
            Job::Write(job) | Job::Alone(job) => Some(job.deadline),
            Job::Begin(begin) => Some(begin.options.wait_until),
            Job::Import { .. } => None,
        }
    }
}

/// One move of an interactive transaction.
pub(in crate::database) enum Step {
    Statement {
        statement: v1::Statement,
        caller: Caller,
        reply: oneshot::Sender<Result<v1::StatementResult, TransactionFailure>>,
    },
    Commit {
        caller: Caller,
        reply: oneshot::Sender<Result<Committed, TransactionFailure>>,
    },
    Rollback {
        reply: Option<oneshot::Sender<()>>,
    },
}

impl Step {
    /// Answers a step of a transaction that is over.
    pub(in crate::database) fn refuse(self, error: v1::Error) {
        let failure = TransactionFailure { error, ended: true };
        match self {
            Step::Statement { reply, .. } => drop(reply.send(Err(failure))),
            Step::Commit { reply, .. } => drop(reply.send(Err(failure))),
            Step::Rollback { reply } => drop(reply.map(|reply| reply.send(()))),
        }
    }
}

/// What the idle lane does next.
pub(in crate::database) enum Work {
    Ordered(Ordered),
    Task(Task),
    /// One or more write jobs, or exactly one of another kind.
    Jobs(Vec<Job>),
    /// Nothing came until the time given.
    Idle,
    Shutdown,
}

/// What the holder of an interactive transaction does next.
pub(in crate::database) enum Move {
    Step(Step),
    /// Something from the log or the role is waiting: look at it first.
    Ordered,
    TimedOut,
    Shutdown,
}
