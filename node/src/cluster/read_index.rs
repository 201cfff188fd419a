//! The index that a read has to wait for: a linearizable one for that of a round begun after it was asked, a bounded one for that of the
//! last round if that is recent enough.
//!
//! On the primary a quorum round proves that it still leads (no clock is trusted, so a primary that was frozen cannot serve a
//! stale read); a follower asks the primary. Callers that arrive while a round runs share the next one.

use std::sync::Arc;
use std::time::Duration;

use halite_log::TypeConfig;
use openraft::Raft;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::error::ClusterError;
use super::state_machine::StateMachine;
use super::transport::Transport;
use rounds::Rounds;

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

/// Cheap handle to the task that runs the rounds.
#[derive(Clone)]
pub(crate) struct ReadIndex {
    waiting: mpsc::Sender<oneshot::Sender<Answer>>,
    confirmed: watch::Receiver<Option<Confirmed>>,
}

impl ReadIndex {
    /// Starts the task; it ends when the last handle is dropped.
    pub(crate) fn start(raft: Raft<TypeConfig, StateMachine>, transport: Arc<Transport>) -> Self {
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        let (confirm, confirmed) = watch::channel(None);
        tokio::spawn(run(raft, transport, queue, confirm));
        Self { waiting, confirmed }
    }

    /// The last round that came to an answer.
    pub(crate) fn confirmed(&self) -> Option<Confirmed> {
        *self.confirmed.borrow()
    }

    /// An index that everything acknowledged before this call is at or below.
    pub(crate) async fn get(&self) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.waiting
            .try_send(reply)
            .map_err(|_| ClusterError::unavailable("too many linearizable reads wait".into()))?;
        answer
            .await
            .map_err(|_| ClusterError::unavailable("the node is stopping".into()))?
    }
}

async fn run(
    raft: Raft<TypeConfig, StateMachine>,
    transport: Arc<Transport>,
    mut queue: mpsc::Receiver<oneshot::Sender<Answer>>,
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
        let asked_at = Instant::now();
        let answer = match tokio::time::timeout(ROUND_TIMEOUT, rounds.next()).await {
            Ok(answer) => answer,
            Err(_) => Err(ClusterError::unavailable(
                "no quorum confirmed the read within 1 s".into(),
            )),
        };
        if let Ok(index) = answer {
            confirm.send_replace(Some(Confirmed { asked_at, index }));
        }
        for caller in callers.drain(..) {
            // A caller that gave up is not an error.
            let _ = caller.send(answer.clone());
        }
    }
}
