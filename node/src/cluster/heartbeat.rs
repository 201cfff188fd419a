//! Heartbeats, and the questions of read rounds: appends without entries whose answer waits for no disk.
//!
//! Raft answers an append when everything taken in before it is synced, which may take as long as the disk pleases. That is right where the
//! answer claims entries. The answer to a heartbeat says that this node has heard this leader, and has promised nothing to a later one, which is
//! known as soon as Raft has taken the message in. A leader whose followers have slow disks is a leader all the same.
//!
//! A leader sends them in the rhythm of the configuration ([`send`]), to each peer one after the other: the next goes out when the last one is
//! answered, or no answer is waited for any more (see [`Timing`](super::timing::Timing)).
//!
//! The sender marks such a call ([`mark`]). Nodes that do not know the mark answer when they have synced.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use halite_log::{LogId, LogStore, TypeConfig};
use openraft::error::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::warn;

use super::{Cluster, RaftNode};

const MARK: &str = "halite-heartbeat";

type Answer = Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>;

/// Has Raft send a heartbeat, as often as the configuration says; Raft sends none where this node does not lead. Ends with the node.
pub(super) async fn send(cluster: Arc<Cluster>) {
    let mut stopping = cluster.stopping.subscribe();
    let interval = cluster.timing().heartbeat;
    let late_from = Duration::from_millis(cluster.timing().election_min_ms);
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let waits_since = Instant::now();
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = tick.tick() => {}
        }
        let late = waits_since.elapsed().saturating_sub(interval);
        if late > late_from {
            warn!(
                late_ms = late.as_millis(),
                "this process could not run when it had to: the machine is short of processors or memory, or was suspended; \
                 pauses like this move leadership, a longer election-timeout bears them"
            );
        }
        if cluster.raft().is_leader() && cluster.raft().trigger().heartbeat().await.is_err() {
            // Raft has stopped, and `role` says why.
            return;
        }
    }
}

/// Says of a call that its requests carry no entries, and that their answers need not wait for a disk.
pub(super) fn mark<T>(call: T) -> Request<T> {
    let mut request = Request::new(call);
    request
        .metadata_mut()
        .insert(MARK, MetadataValue::from_static("1"));
    request
}

/// Whether a call is marked.
pub(super) fn is_marked(metadata: &MetadataMap) -> bool {
    metadata.contains_key(MARK)
}

/// Hands a heartbeat to Raft, and answers when Raft has taken it in.
///
/// Raft's own answer may wait for the disk, also one that refuses: what is to be done before it comes first. So Raft is asked, right behind the
/// heartbeat, which vote it holds now. If that is the sender's, the heartbeat was heard, and nothing is promised to a later leader. The vote
/// itself has to be on the disk: a promise that a power loss takes back is none.
pub(super) async fn answer(
    raft: &RaftNode,
    log: &LogStore,
    heartbeat: AppendEntriesRequest<TypeConfig>,
) -> Answer {
    let (vote, holds) = (heartbeat.vote, heartbeat.prev_log_id);
    #[cfg(feature = "planted-bugs")]
    if halite_planted::on(halite_planted::Bug::HeartbeatsWaitForDisk) {
        return answered(raft.append_entries(heartbeat).await, holds);
    }
    let mut append = std::pin::pin!(raft.append_entries(heartbeat));
    let taken_in = async {
        let (tell, told) = oneshot::channel();
        let asked = raft.external_request(move |state| {
            // Nobody waits where Raft has answered the heartbeat itself.
            let _ = tell.send(*state.vote_ref() == vote);
        });
        asked.await?;
        told.await.map_err(|_| Fatal::<TypeConfig>::Stopped)
    };
    // In this order, at each look: the heartbeat is in Raft's queue before the question.
    let accepted = tokio::select! {
        biased;
        answer = &mut append => return answered(answer, holds),
        accepted = taken_in => accepted?,
    };
    // Raft's own answer was first, and may say more: a conflict waits for no disk either.
    if let Some(answer) = append.as_mut().now_or_never() {
        return answered(answer, holds);
    }
    if accepted && log.vote() == Some(vote) {
        // Claims no entry: none is known to be on the disk.
        return Ok(Ok(None));
    }
    answered(append.await, holds)
}

fn answered(
    answer: Result<AppendEntriesResponse<TypeConfig>, RaftError<TypeConfig>>,
    holds: Option<LogId>,
) -> Answer {
    match answer {
        Ok(AppendEntriesResponse::Success) => Ok(Ok(holds)),
        Ok(AppendEntriesResponse::PartialSuccess(upto)) => Ok(Ok(upto)),
        Ok(AppendEntriesResponse::HigherVote(vote)) => Ok(Err(StreamAppendError::HigherVote(vote))),
        Ok(AppendEntriesResponse::Conflict) => match holds {
            Some(entry) => Ok(Err(StreamAppendError::Conflict(entry))),
            // What names no entry has none to conflict with.
            None => Ok(Ok(None)),
        },
        Err(RaftError::Fatal(fatal)) => Err(fatal),
        Err(RaftError::APIError(never)) => match never {},
    }
}
