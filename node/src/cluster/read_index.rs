//! The index that a read has to wait for: a linearizable one for that of a round begun after it was asked, a bounded one for that of the
//! last round if that is recent enough. And the word of a quorum for lanes, which have something to tell that no commit has proven.
//!
//! On the primary a quorum round proves that it still leads (no clock is trusted, so a primary that was frozen cannot serve a
//! stale read); a follower asks the primary. Callers that arrive while a round runs share the next one. A lane's word is tied to its term:
//! the round counts for it only if the quorum acknowledged that term to this node.

use std::sync::Arc;
use std::time::Duration;

use halite_log::TypeConfig;
use halite_proto::v1;
use openraft::Raft;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::ClusterError;
use super::state_machine::StateMachine;
use super::transport::Transport;
use crate::database::{Leadership, OnConfirmed};
use rounds::{Found, Rounds};

mod rounds;

type Answer = Result<u64, ClusterError>;

/// Callers that may wait for one round.
const WAITING_MAX: usize = 65_536;
const ROUND_TIMEOUT: Duration = Duration::from_millis(1000);

/// What a round found out: everything acknowledged before `asked_at` is at or below `index`.
///
/// The time is this node's own, from before it asked: what a primary says of itself may be old, or no longer true, when it is heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confirmed {
    pub(crate) asked_at: Instant,
    pub(crate) index: u64,
}

/// Who waits for a round.
enum Caller {
    Read(oneshot::Sender<Answer>),
    /// A lane, under the leadership it was opened with.
    Lane(Leadership, OnConfirmed),
}

impl Caller {
    /// `primary` is where a lane's callers are to turn to if it is not this node.
    fn tell(self, found: &Result<Found, ClusterError>, primary: Option<v1::NodeAddress>) {
        match self {
            // A caller that gave up is not an error.
            Caller::Read(reply) => drop(reply.send(found.clone().map(|found| found.index))),
            Caller::Lane(leadership, waiter) => waiter.tell(match found {
                Ok(found) if found.confirms(leadership) => Ok(()),
                Ok(_) => Err(ClusterError::not_primary(primary).to_wire()),
                Err(error) => Err(error.to_wire()),
            }),
        }
    }
}

/// Cheap handle to the task that runs the rounds.
#[derive(Clone)]
pub(crate) struct ReadIndex {
    waiting: mpsc::Sender<Caller>,
    confirmed: watch::Receiver<Option<Confirmed>>,
}

impl ReadIndex {
    /// Starts the task. It ends when `stopping` turns true; who still waits then is told so.
    pub(crate) fn start(
        raft: Raft<TypeConfig, StateMachine>,
        transport: Arc<Transport>,
        stopping: watch::Receiver<bool>,
    ) -> (Self, JoinHandle<()>) {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        let (confirm, confirmed) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut stopping = stopping;
            tokio::select! {
                // A sender that is gone means that the node is, too.
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = run(raft, transport, queue, confirm) => {}
            }
        });
        (Self { waiting, confirmed }, task)
    }

    /// The last round that came to an answer.
    pub(crate) fn confirmed(&self) -> Option<Confirmed> {
        *self.confirmed.borrow()
    }

    /// An index that everything acknowledged before this call is at or below.
    pub(crate) async fn get(&self) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.waiting
            .try_send(Caller::Read(reply))
            .map_err(|error| not_asked(&error))?;
        answer
            .await
            .map_err(|_| ClusterError::unavailable("the node is stopping".into()))?
    }

    /// Tells `waiter` whether `leadership` is still in force, by a round that is asked after this call. Does not block.
    pub(crate) fn confirm(&self, leadership: Leadership, waiter: OnConfirmed) {
        if let Err(error) = self.waiting.try_send(Caller::Lane(leadership, waiter)) {
            let told = not_asked(&error).to_wire();
            if let TrySendError::Full(Caller::Lane(_, waiter))
            | TrySendError::Closed(Caller::Lane(_, waiter)) = error
            {
                waiter.tell(Err(told));
            }
        }
    }
}

fn not_asked<T>(error: &TrySendError<T>) -> ClusterError {
    ClusterError::unavailable(match error {
        TrySendError::Full(_) => "too many callers wait for a quorum".into(),
        TrySendError::Closed(_) => "the node is stopping".into(),
    })
}

async fn run(
    raft: Raft<TypeConfig, StateMachine>,
    transport: Arc<Transport>,
    mut queue: mpsc::Receiver<Caller>,
    confirm: watch::Sender<Option<Confirmed>>,
) {
    let mut rounds = Rounds::new(raft, transport);
    let mut callers = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = queue.recv_many(&mut callers, WAITING_MAX) => {
                if count == 0 {
                    return;
                }
            }
            Some(()) = rounds.late_answer() => continue,
        }
        if !rounds.leads() {
            // Whatever another node said would confirm nothing of what a lane of this one saw.
            let refused = Err(ClusterError::not_primary(rounds.other_primary()));
            for caller in callers.extract_if(.., |caller| matches!(caller, Caller::Lane(..))) {
                caller.tell(&refused, None);
            }
            if callers.is_empty() {
                continue;
            }
        }
        let asked_at = Instant::now();
        let found = match tokio::time::timeout(ROUND_TIMEOUT, rounds.next()).await {
            Ok(found) => found,
            Err(_) => Err(ClusterError::unavailable(
                "no quorum confirmed within 1 s who leads".into(),
            )),
        };
        if let Ok(Found { index, .. }) = found {
            confirm.send_replace(Some(Confirmed { asked_at, index }));
        }
        let primary = rounds.other_primary();
        for caller in callers.drain(..) {
            caller.tell(&found, primary.clone());
        }
    }
}
