//! The SQL service: pipelined sessions, unary calls, interactive transactions, status, topology, LTX streams.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use halite_proto::v1;
use halite_proto::v1::halite_server::Halite;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};

use super::{Limits, Stopping, is_forwarded, ltx_stream, status, status_of, transaction};
use crate::api::router::{Router, Session};
use crate::cluster::ClusterError;
use crate::database::{CallReply, CallResults, ReplyReceiver, replies};
use crate::piece_stream::place;

type BoxStream<T> = futures::stream::BoxStream<'static, Result<T, Status>>;

/// Pieces of large results that may wait to be sent: of small rows, each takes more memory than its bytes say.
const PIECES_QUEUED_MAX: usize = 4;
/// LTX streams at a time: each may hold about two MiB for a slow receiver.
const LTX_STREAMS_MAX: usize = 256;
/// A stream whose client does not say who it is within this time is closed: it holds a place.
const HELLO_MAX: Duration = Duration::from_secs(10);

pub(crate) struct SqlService {
    router: Arc<Router>,
    limits: Limits,
    /// Places for streams of clients, and as many for those that other nodes hand on: neither takes the places of the other.
    sessions: Arc<Semaphore>,
    forwarded_sessions: Arc<Semaphore>,
    ltx_streams: Arc<Semaphore>,
    stopping: Stopping,
}

impl SqlService {
    pub(crate) fn new(router: Arc<Router>, limits: Limits, stopping: Stopping) -> Self {
        let places = || Arc::new(Semaphore::new(limits.sessions_max));
        Self {
            router,
            limits,
            sessions: places(),
            forwarded_sessions: places(),
            ltx_streams: Arc::new(Semaphore::new(LTX_STREAMS_MAX)),
            stopping,
        }
    }
}

#[tonic::async_trait]
impl Halite for SqlService {
    type SessionStream = BoxStream<v1::SessionResponse>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let places = if is_forwarded(request.metadata()) {
            &self.forwarded_sessions
        } else {
            &self.sessions
        };
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::ForwardedStreamKeepsPlace)
            && is_forwarded(request.metadata())
        {
            places.forget_permits(1);
        }
        let place = places.clone().try_acquire_owned().map_err(|_| {
            ClusterError::unavailable(format!(
                "this node serves its most sessions already: max={}",
                self.limits.sessions_max
            ))
        })?;
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(HELLO_MAX, requests.message())
            .await
            .map_err(|_| {
                Status::deadline_exceeded("the stream did not begin with a message in time")
            })??;
        let Some(first) = first else {
            return Ok(Response::new(futures::stream::empty().boxed()));
        };
        let client_id = crate::api::router::client_id(&first.client_id)?;
        let (sink, receiver) = replies(PIECES_QUEUED_MAX);
        let session = Session::new(self.router.clone(), Some(client_id), sink, first.forwarded);
        let room = Arc::new(Semaphore::new(self.limits.calls_per_session_max as usize));
        let inbound = Inbound {
            router: self.router.clone(),
            session,
            room: room.clone(),
            calls_max: self.limits.calls_per_session_max as usize,
        };
        let inbound = tokio::spawn(inbound.read(first, requests));
        let answers = Answers {
            receiver,
            room,
            calls_max: self.limits.calls_per_session_max as usize,
            inbound,
            ended: None,
            _place: place,
        };
        Ok(Response::new(self.stopping.end(answers.stream())))
    }

    async fn execute(
        &self,
        request: Request<v1::ExecuteRequest>,
    ) -> Result<Response<v1::ExecuteResponse>, Status> {
        let forwarded = is_forwarded(request.metadata());
        let request = request.into_inner();
        let call = v1::Call {
            database: request.database,
            statements: vec![request.statement.ok_or_else(no_statement)?],
            timeout_ms: request.timeout_ms,
            retry: request.idempotency_key.is_some(),
            ..v1::Call::default()
        };
        let results = self
            .router
            .call(request.idempotency_key, forwarded, call)
            .await
            .map_err(|e| status_of(&e))?;
        let (index, mut statements) = (results.raft_index, results.results);
        Ok(Response::new(v1::ExecuteResponse {
            result: statements.pop(),
            session_index: index,
        }))
    }

    type QueryStream = BoxStream<v1::QueryResponse>;

    async fn query(
        &self,
        request: Request<v1::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let request = request.into_inner();
        let call = v1::Call {
            id: 1,
            database: request.database,
            statements: vec![request.statement.ok_or_else(no_statement)?],
            level: request.level,
            max_lag_ms: request.max_lag_ms,
            session_index: request.session_index,
            timeout_ms: request.timeout_ms,
            read_only: true,
            ..v1::Call::default()
        };
        let (sink, receiver) = replies(PIECES_QUEUED_MAX);
        let session = Session::new(self.router.clone(), None, sink, false);
        self.router.route(&session, vec![call]);
        Ok(Response::new(rows(receiver).boxed()))
    }

    async fn batch(
        &self,
        request: Request<v1::BatchRequest>,
    ) -> Result<Response<v1::BatchResponse>, Status> {
        let forwarded = is_forwarded(request.metadata());
        let request = request.into_inner();
        let call = v1::Call {
            database: request.database,
            statements: request.statements,
            timeout_ms: request.timeout_ms,
            retry: request.idempotency_key.is_some(),
            ..v1::Call::default()
        };
        let CallResults {
            results,
            raft_index,
            ..
        } = self
            .router
            .call(request.idempotency_key, forwarded, call)
            .await
            .map_err(|e| status_of(&e))?;
        Ok(Response::new(v1::BatchResponse {
            results,
            session_index: raft_index,
        }))
    }

    type TransactionStream = BoxStream<v1::TransactionResponse>;

    async fn transaction(
        &self,
        request: Request<Streaming<v1::TransactionRequest>>,
    ) -> Result<Response<Self::TransactionStream>, Status> {
        let forwarded = is_forwarded(request.metadata());
        transaction::run(
            self.router.cluster().clone(),
            request.into_inner(),
            forwarded,
            self.limits.transaction_max,
        )
        .await
    }

    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(status(self.router.cluster())))
    }

    type WatchTopologyStream = BoxStream<v1::Topology>;

    async fn watch_topology(
        &self,
        _request: Request<v1::WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        Ok(Response::new(self.stopping.end(status::watch_topology(
            self.router.cluster().clone(),
        ))))
    }

    type StreamLtxStream = BoxStream<v1::StreamLtxResponse>;

    async fn stream_ltx(
        &self,
        request: Request<v1::StreamLtxRequest>,
    ) -> Result<Response<Self::StreamLtxStream>, Status> {
        let cluster = self.router.cluster().clone();
        let place = place(&self.ltx_streams, "LTX streams", LTX_STREAMS_MAX)?;
        let stream = ltx_stream::stream(cluster, place, request.into_inner()).await?;
        Ok(Response::new(self.stopping.end(stream)))
    }
}

fn no_statement() -> Status {
    ClusterError::invalid("the call holds no statement".into()).into()
}

/// The incoming half of a session.
struct Inbound {
    router: Arc<Router>,
    session: Arc<Session>,
    room: Arc<Semaphore>,
    calls_max: usize,
}

impl Inbound {
    /// Reads calls until the client ends the stream or goes away.
    async fn read(
        self,
        first: v1::SessionRequest,
        mut requests: Streaming<v1::SessionRequest>,
    ) -> Result<(), Status> {
        let mut request = first;
        loop {
            self.session.set_answered_below(request.answered_below);
            let mut calls = request.calls;
            while !calls.is_empty() {
                let rest = calls.split_off(calls.len().min(self.calls_max));
                let count = u32::try_from(calls.len()).unwrap_or(u32::MAX);
                match self.room.acquire_many(count).await {
                    Ok(permits) => permits.forget(),
                    Err(_) => return Ok(()),
                }
                self.router.route(&self.session, calls);
                calls = rest;
            }
            self.session.give_up(request.given_up);
            match requests.message().await? {
                Some(next) => request = next,
                None => return Ok(()),
            }
        }
    }
}

/// The outgoing half: what the response stream owns. When the client drops it, reading ends too; when the client has ended its own half, it ends
/// with the last answer.
struct Answers {
    receiver: ReplyReceiver,
    room: Arc<Semaphore>,
    calls_max: usize,
    inbound: JoinHandle<Result<(), Status>>,
    /// How reading ended.
    ended: Option<Result<(), Status>>,
    /// This session's place among those the node serves.
    _place: OwnedSemaphorePermit,
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.inbound.abort();
    }
}

impl Answers {
    fn stream(self) -> impl futures::Stream<Item = Result<v1::SessionResponse, Status>> {
        futures::stream::unfold(Some(self), |answers| async move {
            let mut answers = answers?;
            match answers.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(answers))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<v1::SessionResponse>, Status> {
        loop {
            if let Some(ended) = &self.ended
                && self.room.available_permits() == self.calls_max
            {
                return ended.clone().map(|()| None);
            }
            tokio::select! {
                biased;
                replies = self.receiver.recv() => {
                    let ended = replies.iter().filter(|r| !r.more).count();
                    self.room.add_permits(ended);
                    let replies = replies.into_iter().map(to_wire).collect();
                    return Ok(Some(v1::SessionResponse { replies }));
                }
                ended = &mut self.inbound, if self.ended.is_none() => {
                    // It is aborted by the drop of this value only.
                    self.ended = Some(ended.unwrap_or(Ok(())));
                }
            }
        }
    }
}

fn to_wire(reply: CallReply) -> v1::Reply {
    let (token, more) = (reply.token, reply.more);
    match reply.outcome {
        Ok(results) => v1::Reply {
            id: token,
            results: results.results,
            session_index: results.raft_index,
            first_statement: results.first_statement,
            more,
            error: None,
        },
        Err(error) => v1::Reply {
            id: token,
            error: Some(error),
            more,
            ..v1::Reply::default()
        },
    }
}

/// The rows of one query, piece by piece.
fn rows(receiver: ReplyReceiver) -> impl futures::Stream<Item = Result<v1::QueryResponse, Status>> {
    futures::stream::unfold((receiver, false), |(mut receiver, done)| async move {
        if done {
            return None;
        }
        let pieces = receiver.recv().await;
        let mut response = v1::QueryResponse::default();
        for piece in pieces {
            response.done |= !piece.more;
            match piece.outcome {
                Ok(results) => {
                    response.session_index = response.session_index.max(results.raft_index);
                    for result in results.results {
                        if response.columns.is_empty() {
                            response.columns = result.columns;
                        }
                        response.rows.extend(result.rows);
                    }
                }
                Err(error) => return Some((Err(status_of(&error)), (receiver, true))),
            }
        }
        let done = response.done;
        Some((Ok(response), (receiver, done)))
    })
}
