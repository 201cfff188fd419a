//! The SQL service: pipelined sessions, unary calls, interactive transactions, status, topology, LTX streams.

use std::sync::Arc;

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

type BoxStream<T> = futures::stream::BoxStream<'static, Result<T, Status>>;

/// Pieces of large results that may wait to be sent.
const PIECES_QUEUED_MAX: usize = 64;

pub(crate) struct SqlService {
    router: Arc<Router>,
    limits: Limits,
    sessions: Arc<Semaphore>,
    stopping: Stopping,
}

impl SqlService {
    pub(crate) fn new(router: Arc<Router>, limits: Limits, stopping: Stopping) -> Self {
        let sessions = Arc::new(Semaphore::new(limits.sessions_max));
        Self {
            router,
            limits,
            sessions,
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
        let place = self.sessions.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "this node serves its most sessions already: max={}",
                self.limits.sessions_max
            ))
        })?;
        let mut requests = request.into_inner();
        let Some(first) = requests.message().await? else {
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
            inbound,
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
        let stream = ltx_stream::stream(cluster, request.into_inner()).await?;
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
    /// Reads calls until the client goes away.
    async fn read(self, first: v1::SessionRequest, mut requests: Streaming<v1::SessionRequest>) {
        let mut request = first;
        loop {
            self.session.set_answered_below(request.answered_below);
            let mut calls = request.calls;
            while !calls.is_empty() {
                let rest = calls.split_off(calls.len().min(self.calls_max));
                let count = u32::try_from(calls.len()).unwrap_or(u32::MAX);
                match self.room.acquire_many(count).await {
                    Ok(permits) => permits.forget(),
                    Err(_) => return,
                }
                self.router.route(&self.session, calls);
                calls = rest;
            }
            match requests.message().await {
                Ok(Some(next)) => request = next,
                // The client ended the stream or went away; what is under way finds no receiver.
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// The outgoing half: what the response stream owns. When the client drops it, reading ends too.
struct Answers {
    receiver: ReplyReceiver,
    room: Arc<Semaphore>,
    inbound: JoinHandle<()>,
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
        futures::stream::unfold(self, |mut answers| async move {
            let replies = answers.receiver.recv().await;
            let ended = replies.iter().filter(|r| !r.more).count();
            answers.room.add_permits(ended);
            let replies = replies.into_iter().map(to_wire).collect();
            Some((Ok(v1::SessionResponse { replies }), answers))
        })
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
