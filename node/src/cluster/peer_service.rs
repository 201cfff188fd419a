//! What peers ask of this node: the incoming side of Raft, read index, page diff.
//!
//! Every call is checked for who makes it and whom it means before its message is looked at.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use halite_log::{Rt, TypeConfig};
use halite_proto::v1;
use halite_proto::v1::peer_server::Peer;
use openraft::Raft;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::error::Fatal;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use prost::Message as _;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::catalog::Catalog;
use super::identity::{Held, Lasting, MistakenIdentity};
use super::snapshot::{self, SnapshotData};
use super::state_machine::StateMachine;
use super::unsynced::{Room, Unsynced};
use super::{Cluster, DISK_HANGS, convert, heartbeat, page_diff};
use crate::piece_stream::place;

type BoxStream<T> = futures::stream::BoxStream<'static, Result<T, Status>>;

/// Page diffs at a time: each holds a state of its database, and some MiB.
const PAGE_DIFFS_MAX: usize = 16;

pub(crate) struct PeerService {
    cluster: Arc<Cluster>,
    room: Room,
    stopping: watch::Receiver<bool>,
    page_diffs: Arc<Semaphore>,
}

impl PeerService {
    pub(crate) fn new(cluster: Arc<Cluster>, stopping: watch::Receiver<bool>) -> Self {
        Self {
            room: Room::new(cluster.options.unsynced_bytes_max),
            cluster,
            stopping,
            page_diffs: Arc::new(Semaphore::new(PAGE_DIFFS_MAX)),
        }
    }

    fn verify<T>(&self, request: &Request<T>) -> Result<u64, Status> {
        self.cluster.check_storage()?;
        let identity = self.cluster.identity();
        let verified = identity.verify(request.metadata(), self.cluster.held());
        verified.map_err(|mistake| {
            if let MistakenIdentity::RolledBack { .. } = &mistake {
                identity.stop(&mistake.to_string(), Lasting::Yes);
            }
            mistake.to_status()
        })
    }

    fn stopped(&self) -> Status {
        let identity = self.cluster.identity();
        let why = identity.stopped();
        Status::permission_denied(format!(
            "node {} takes no part: {}",
            identity.node_id,
            why.as_deref().unwrap_or_default()
        ))
    }
}

fn malformed(error: convert::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("raft has stopped on this node: {error}"))
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn identify(
        &self,
        request: Request<v1::IdentifyRequest>,
    ) -> Result<Response<v1::IdentifyResponse>, Status> {
        self.cluster.check_storage()?;
        let asker = request.into_inner();
        Ok(Response::new(self.cluster.identify(&asker).await))
    }

    type AppendStream = BoxStream<v1::AppendResponse>;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.verify(&request)?;
        let is_heartbeat = heartbeat::is_marked(request.metadata());
        let input = accepted(request.into_inner(), self.cluster.clone());
        let raft = self.cluster.raft().clone();
        if is_heartbeat {
            let log = self.cluster.shared().log.clone();
            let answers = input.then(move |request| {
                let (raft, log) = (raft.clone(), log.clone());
                async move {
                    if !request.entries.is_empty() {
                        return Err(Status::invalid_argument("a heartbeat with entries"));
                    }
                    let answer = heartbeat::answer(&raft, &log, request)
                        .await
                        .map_err(fatal)?;
                    Ok(convert::append_result_to_wire(answer))
                }
            });
            return Ok(Response::new(answers.boxed()));
        }
        let stopped = || {
            let mut stopping = self.stopping.clone();
            async move {
                // A sender that is gone means that the node is, too.
                let _ = stopping.wait_for(|stopping| *stopping).await;
            }
        };
        // The requests end as well: what reads them is not the one that answers, and keeps the connection open.
        let input = input.take_until(Box::pin(stopped()));
        let (input, unsynced) = Unsynced::admit(input, self.room.clone());
        // openraft draws the randomness of the tasks it spawns from the caller's seed.
        let seed = self.cluster.host().random();
        let results = Rt::scope(seed, async move { stream_append(&raft, input) }).await;
        let responses = news(unsynced.follow(results)).map(|result| match result {
            Ok(result) => Ok(convert::append_result_to_wire(result)),
            Err(error) => Err(fatal(error)),
        });
        Ok(Response::new(responses.take_until(stopped()).boxed()))
    }

    async fn vote(
        &self,
        request: Request<v1::VoteRequest>,
    ) -> Result<Response<v1::VoteResponse>, Status> {
        let from = self.verify(&request)?;
        let message = request.into_inner();
        let vote = convert::vote_request_from_wire(&message).map_err(malformed)?;
        let candidate = Held {
            term: vote.vote.leader_id.term,
            index: vote.last_log_id.as_ref().map_or(0, |id| id.index()),
        };
        self.cluster
            .identity()
            .check_candidate(from, candidate)
            .map_err(|mistake| mistake.to_status())?;
        let raft = self.cluster.raft();
        let response = if message.pre_vote {
            raft.pre_vote(vote).await
        } else {
            raft.vote(vote).await
        };
        Ok(Response::new(convert::vote_response_to_wire(
            &response.map_err(fatal)?,
        )))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        self.verify(&request)?;
        let transfer = convert::transfer_from_wire(request.get_ref()).map_err(malformed)?;
        if self.cluster.disk_hangs() && transfer.to_node_id() == &self.cluster.identity().node_id {
            return Err(Status::unavailable(DISK_HANGS));
        }
        let response = self
            .cluster
            .raft()
            .handle_transfer_leader(transfer)
            .await
            .map_err(fatal)?;
        Ok(Response::new(convert::transfer_response_to_wire(&response)))
    }

    async fn read_index(
        &self,
        request: Request<v1::ReadIndexRequest>,
    ) -> Result<Response<v1::ReadIndexResponse>, Status> {
        self.verify(&request)?;
        if !self.cluster.raft().is_leader() {
            return Err(self.cluster.not_primary().into());
        }
        let index = self.cluster.read_index().get().await?;
        Ok(Response::new(v1::ReadIndexResponse { index }))
    }

    async fn install_snapshot(
        &self,
        request: Request<v1::SnapshotOffer>,
    ) -> Result<Response<v1::SnapshotDone>, Status> {
        let from = self.verify(&request)?;
        let offer = request.into_inner();
        let vote = offer
            .vote
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("missing field=vote"))?;
        let vote = convert::vote_from_wire(vote);
        let meta: SnapshotMetaOf<TypeConfig> =
            serde_json::from_slice(&offer.meta).map_err(|e| {
                Status::invalid_argument(format!("snapshot metadata does not parse: {e}"))
            })?;
        let catalog = v1::Catalog::decode(offer.catalog)
            .map_err(|e| Status::invalid_argument(format!("catalog does not parse: {e}")))?;
        let level = &self.cluster.identity().level;
        Catalog::check_level(&catalog, level.ours()).map_err(|unfit| {
            level.stop(unfit.clone());
            Status::failed_precondition(unfit.to_string())
        })?;
        if self.cluster.contradicts_snapshot(&vote, &meta).await {
            return Err(self.stopped());
        }
        let addr = meta
            .last_membership
            .membership()
            .get_node(&from)
            .map(|member| member.addr.clone())
            .ok_or_else(|| {
                Status::invalid_argument(format!("the sender is no member: node_id={from}"))
            })?;
        let known = Catalog::from_wire(catalog.clone())?;
        // What comes in is committed, so it may go in before Raft takes the snapshot: a database whose disk refuses, or that a reader keeps
        // from its file, fails this attempt and not the node. Raft is told of the snapshot only when the files hold it.
        snapshot::take_in(&self.cluster, from, &addr, &known).await?;
        let snapshot: SnapshotOf<TypeConfig, SnapshotData> = openraft::Snapshot {
            meta,
            snapshot: SnapshotData { catalog },
        };
        let response = self
            .cluster
            .raft()
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(fatal)?;
        Ok(Response::new(v1::SnapshotDone {
            vote: Some(convert::vote_to_wire(&response.vote)),
        }))
    }

    type PageDiffStream = BoxStream<v1::PageDiffResponse>;

    async fn page_diff(
        &self,
        request: Request<Streaming<v1::PageDiffRequest>>,
    ) -> Result<Response<Self::PageDiffStream>, Status> {
        self.verify(&request)?;
        let place = place(&self.page_diffs, "page diffs", PAGE_DIFFS_MAX)?;
        let responses = page_diff::serve(&self.cluster, place, request).await?;
        Ok(Response::new(responses.boxed()))
    }
}

/// The well-formed requests of a stream; notes on the way what the primary says is committed.
fn accepted(
    requests: Streaming<v1::AppendRequest>,
    cluster: Arc<Cluster>,
) -> futures::stream::BoxStream<'static, AppendEntriesRequest<TypeConfig>> {
    let contradicted = cluster.clone();
    requests
        .take_while(|request| futures::future::ready(request.is_ok()))
        .filter_map(|request| futures::future::ready(request.ok()))
        .map(convert::append_from_wire)
        .take_while(|request| futures::future::ready(request.is_ok()))
        .filter_map(move |request| {
            let request = request.ok();
            if let Some(request) = &request {
                cluster.note_committed(request, Instant::now());
            }
            futures::future::ready(request)
        })
        // A primary that contradicts what is applied here is not listened to, and nobody else is.
        .then(move |request| {
            let cluster = contradicted.clone();
            async move {
                let contradicts = cluster.contradicts(&request).await;
                (!contradicts).then_some(request)
            }
        })
        .take_while(|request| futures::future::ready(request.is_some()))
        .filter_map(futures::future::ready)
        .boxed()
}

/// Leaves out answers that repeat the one before on the same stream: a request without entries brings a commit index, and says by itself
/// nothing that the primary has to hear back about. The first answer always goes out.
fn news(
    results: impl Stream<Item = Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>> + Send,
) -> impl Stream<Item = Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>> + Send {
    let mut told = None;
    results.filter(move |result| {
        let repeats = match result {
            Ok(Ok(matching)) => told.replace(*matching) == Some(*matching),
            _ => false,
        };
        futures::future::ready(!repeats)
    })
}

/// openraft's answer stream, which owns all it needs.
fn stream_append(
    raft: &Raft<TypeConfig, StateMachine>,
    input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
) -> futures::stream::BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>>
{
    raft.stream_append(input).boxed()
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::stream;
    use halite_log::LogId;
    use openraft::raft::StreamAppendError;

    use super::*;

    #[test]
    fn answers_that_repeat_are_left_out() {
        let id = |index| LogId::new_term_index(1, index);
        let answers = [
            Ok(None),
            Ok(None),
            Ok(Some(id(1))),
            Ok(Some(id(1))),
            Ok(Some(id(1))),
            Ok(Some(id(2))),
            Ok(Some(id(2))),
            Err(StreamAppendError::Conflict(id(2))),
        ];
        let told = block_on(news(stream::iter(answers).map(Ok)).collect::<Vec<_>>());
        let told: Vec<_> = told.into_iter().map(Result::unwrap).collect();
        assert_eq!(
            told,
            [
                Ok(None),
                Ok(Some(id(1))),
                Ok(Some(id(2))),
                Err(StreamAppendError::Conflict(id(2))),
            ]
        );
    }
}
