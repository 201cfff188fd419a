//! openraft's outgoing calls, over gRPC.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use halite_log::{Member, TypeConfig, Vote};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::network::v2::RaftNetworkV2;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use prost::Message as _;
use tonic::{Code, Status};

use super::convert;
use super::hearing::Question;
use super::heartbeat;
use super::identity::Identity;
use super::snapshot::SnapshotData;
use super::transport::{Peer, Purpose, Transport};

type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;
type BoxStream<'a, T> = futures::stream::BoxStream<'a, T>;
type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;
type Rpc = RPCError<TypeConfig>;

/// Votes and transfers: small messages, answered after one fsync.
const CONTROL_TIMEOUT: Duration = Duration::from_millis(500);

pub(crate) struct NetworkFactory {
    pub(crate) transport: Arc<Transport>,
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &Member) -> PeerNetwork {
        self.network(target, node, Purpose::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> PeerNetwork {
        self.network(target, node, Purpose::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> PeerNetwork {
        self.network(target, node, Purpose::Bulk)
    }
}

impl NetworkFactory {
    fn network(&self, target: u64, node: &Member, purpose: Purpose) -> PeerNetwork {
        PeerNetwork {
            transport: self.transport.clone(),
            target,
            addr: node.addr.clone(),
            purpose,
        }
    }
}

/// The way to one peer.
pub(crate) struct PeerNetwork {
    transport: Arc<Transport>,
    target: u64,
    addr: String,
    purpose: Purpose,
}

impl PeerNetwork {
    fn peer(&self, purpose: Purpose) -> Result<Peer, Rpc> {
        self.transport
            .peer(self.target, &self.addr, purpose)
            .map_err(|status| rpc_error(&status))
    }

    async fn send_vote(
        &self,
        rpc: VoteRequest<TypeConfig>,
        pre_vote: bool,
    ) -> Result<VoteResponse<TypeConfig>, Rpc> {
        let mut peer = self.peer(Purpose::Control)?;
        let request = convert::vote_request_to_wire(&rpc, pre_vote);
        let mut question = self.transport.hearing().ask(self.target);
        let vote = async {
            let answered = peer.vote(request).await;
            match &answered {
                Ok(_) => question.answered(),
                Err(status) => question.failed(status.message()),
            }
            answered
        };
        let response = with_deadline(self.transport.identity(), CONTROL_TIMEOUT, vote).await?;
        convert::vote_response_from_wire(&response).map_err(malformed)
    }
}

/// Whether the peer acknowledges `vote` now, as it does with a heartbeat: it has voted for nobody in a later term.
pub(crate) async fn acknowledges(
    transport: &Transport,
    target: u64,
    addr: &str,
    vote: Vote,
) -> bool {
    let heartbeat = AppendEntriesRequest::<TypeConfig> {
        vote,
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    let Ok(request) = convert::append_to_wire(heartbeat) else {
        return false;
    };
    let asked = async {
        let mut peer = transport.peer(target, addr, Purpose::Control).ok()?;
        let call = heartbeat::mark(futures::stream::iter([request]));
        let answers = peer.append(call).await.ok()?;
        let mut answers = answers.into_inner();
        let first = answers.message().await.ok()??;
        // To its end, or the connection would count a stream that was reset.
        while let Ok(Some(_)) = answers.message().await {}
        convert::append_result_from_wire(first).ok()
    };
    matches!(
        asked.await,
        Some(Ok(_) | Err(StreamAppendError::Conflict(_)))
    )
}

fn rpc_error(status: &Status) -> Rpc {
    match status.code() {
        // Not reachable, or reachable and refusing: openraft backs off before it tries again.
        Code::Unavailable | Code::FailedPrecondition | Code::PermissionDenied => {
            RPCError::Unreachable(Unreachable::new(status))
        }
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

fn malformed(error: convert::Malformed) -> Rpc {
    RPCError::Network(NetworkError::new(&error))
}

async fn with_deadline<T>(
    identity: &Identity,
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Rpc> {
    match tokio::time::timeout(deadline, answer(identity, call)).await {
        Ok(answered) => answered,
        Err(_) => Err(RPCError::Network(NetworkError::new(
            &Status::deadline_exceeded(format!(
                "no answer from the peer within {} ms",
                deadline.as_millis()
            )),
        ))),
    }
}

async fn answer<T>(
    identity: &Identity,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Rpc> {
    call.await
        .map(tonic::Response::into_inner)
        .map_err(|status| {
            identity.note_refusal(&status);
            rpc_error(&status)
        })
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Rpc> {
        let mut responses = self
            .stream_append(futures::stream::iter([rpc]), option)
            .await?;
        match responses.next().await {
            Some(result) => Ok(result?.into()),
            None => Err(RPCError::Network(NetworkError::new(&Status::unavailable(
                "append stream ended early",
            )))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Rpc>>, Rpc>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // openraft waits out its backoff inside the stream of requests. Connecting before the first one is there would skip it, and a
            // peer that is down would be tried again without a pause.
            let mut input = input.peekable();
            if std::pin::Pin::new(&mut input).peek().await.is_none() {
                return Ok(futures::stream::empty().boxed());
            }
            let mut question = matches!(self.purpose, Purpose::Control)
                .then(|| self.transport.hearing().ask(self.target));
            let mut peer = self.peer(self.purpose)?;
            // An entry that does not encode ends the stream: openraft sees an early end and reports it.
            let requests = input
                .map(convert::append_to_wire)
                .take_while(|r| futures::future::ready(r.is_ok()));
            let requests = requests.filter_map(|r| futures::future::ready(r.ok()));
            let call = match self.purpose {
                Purpose::Control => heartbeat::mark(requests),
                _ => tonic::Request::new(requests),
            };
            let responses = peer.append(call).await.map_err(|status| {
                self.transport.identity().note_refusal(&status);
                if let Some(question) = &mut question {
                    question.failed(status.message());
                }
                rpc_error(&status)
            })?;
            let responses = responses.into_inner();
            let results = responses.map(move |response| match response {
                Ok(response) => {
                    question.iter_mut().for_each(Question::answered);
                    convert::append_result_from_wire(response).map_err(malformed)
                }
                Err(status) => {
                    question
                        .iter_mut()
                        .for_each(|question| question.failed(status.message()));
                    Err(rpc_error(&status))
                }
            });
            Ok(results.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Rpc> {
        self.send_vote(rpc, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Rpc> {
        self.send_vote(rpc, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut peer = self.peer(Purpose::Bulk)?;
        let meta = serde_json::to_vec(&snapshot.meta)
            .map_err(|e| StreamingError::Network(NetworkError::new(&e)))?;
        let offer = halite_proto::v1::SnapshotOffer {
            vote: Some(convert::vote_to_wire(&vote)),
            meta: meta.into(),
            catalog: snapshot.snapshot.catalog.encode_to_vec().into(),
        };
        // The receiver pulls every page that differs before it answers, which takes as long as it takes. It ends an attempt that stands still,
        // and a connection that is dead is noticed; until then nothing is held here but the call.
        let install = answer(self.transport.identity(), peer.install_snapshot(offer));
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            done = install => {
                let vote = done?.vote.ok_or_else(|| malformed(convert::Malformed("missing field=vote".into())))?;
                Ok(SnapshotResponse::new(convert::vote_from_wire(&vote)))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Rpc> {
        let mut peer = self.peer(Purpose::Control)?;
        let request = convert::transfer_to_wire(&req);
        let response = with_deadline(
            self.transport.identity(),
            CONTROL_TIMEOUT,
            peer.transfer_leader(request),
        )
        .await?;
        Ok(convert::transfer_response_from_wire(&req, &response))
    }
}
