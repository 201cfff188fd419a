//! The SQL side of the fake.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use halite_proto::v1::halite_server::Halite;
use halite_proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream, WatchStream};
use tonic::{Request, Response, Status, Streaming};

use super::{Boxed, Inner, error};

pub(crate) struct Service(pub(crate) Arc<Inner>);

#[tonic::async_trait]
impl Halite for Service {
    type SessionStream = Boxed<SessionResponse>;
    type QueryStream = Boxed<QueryResponse>;
    type TransactionStream = Boxed<TransactionResponse>;
    type WatchTopologyStream = Boxed<Topology>;
    type StreamLtxStream = Boxed<StreamLtxResponse>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let (replies, outbound) = mpsc::unbounded_channel();
        let this = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut client_id = Vec::new();
            this.record.send_modify(|record| record.sessions += 1);
            while let Ok(Some(message)) = inbound.message().await {
                if !message.client_id.is_empty() {
                    client_id = message.client_id.to_vec();
                }
                let mut answers = Vec::new();
                for call in &message.calls {
                    answers.extend(this.carry_out(&client_id, call, &replies));
                }
                if this.recording.load(Ordering::Relaxed) {
                    this.record.send_modify(|record| {
                        record.calls.extend(message.calls.iter().cloned());
                        record.messages.push(message);
                    });
                }
                if !answers.is_empty()
                    && replies
                        .send(Ok(SessionResponse { replies: answers }))
                        .is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(
            UnboundedReceiverStream::new(outbound).boxed(),
        ))
    }

    async fn execute(
        &self,
        _: Request<ExecuteRequest>,
    ) -> Result<Response<ExecuteResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let request = request.into_inner();
        let script = Arc::clone(&*self.0.query_script.lock().unwrap());
        let pieces = script(&request);
        self.0
            .record
            .send_modify(|record| record.queries.push(request));
        Ok(Response::new(futures::stream::iter(pieces).boxed()))
    }

    async fn batch(&self, _: Request<BatchRequest>) -> Result<Response<BatchResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn transaction(
        &self,
        request: Request<Streaming<TransactionRequest>>,
    ) -> Result<Response<Self::TransactionStream>, Status> {
        use transaction_request::Kind as Asked;
        use transaction_response::Kind as Answer;
        let mut inbound = request.into_inner();
        let this = Arc::clone(&self.0);
        let (answers, outbound) = mpsc::channel(4);
        tokio::spawn(async move {
            let note = |what: String| {
                this.record
                    .send_modify(|record| record.transactions.push(what))
            };
            loop {
                let asked = match inbound.message().await {
                    Ok(Some(TransactionRequest { kind: Some(asked) })) => asked,
                    _ => return note("stream ended".into()),
                };
                let (answer, last) = match asked {
                    Asked::Begin(begin) => {
                        note(format!("begin {}", begin.database));
                        (Answer::Begun(TransactionBegun::default()), false)
                    }
                    Asked::Statement(statement) => {
                        note(statement.sql.clone());
                        match statement.sql.as_str() {
                            "HANG" => continue,
                            "LOSE" => return this.cut(),
                            "FAIL" => {
                                let failure = TransactionFailure {
                                    error: Some(Error {
                                        sqlite_code: 19,
                                        ..error(ErrorCode::Sql)
                                    }),
                                    ended: false,
                                };
                                (Answer::Failure(failure), false)
                            }
                            _ => (Answer::Result(StatementResult::default()), false),
                        }
                    }
                    Asked::Commit(_) if this.admin_error.lock().unwrap().is_some() => {
                        note("commit lost".into());
                        return this.cut();
                    }
                    Asked::Commit(_) => {
                        note("commit".into());
                        (
                            Answer::Committed(TransactionCommitted { session_index: 77 }),
                            true,
                        )
                    }
                    Asked::Rollback(_) => {
                        note("rollback".into());
                        (Answer::RolledBack(Null {}), true)
                    }
                };
                let sent = answers
                    .send(Ok(TransactionResponse { kind: Some(answer) }))
                    .await;
                if last || sent.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound).boxed()))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        if self.0.down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("down"));
        }
        let topology = self.0.topology.borrow().clone();
        Ok(Response::new(StatusResponse {
            node: Some(NodeStatus {
                node_id: self.0.node_id,
                addr: self.0.addr.clone(),
                cluster_id: topology.cluster_id.clone(),
                ..NodeStatus::default()
            }),
            topology: Some(topology),
        }))
    }

    async fn watch_topology(
        &self,
        _: Request<WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        self.0.record.send_modify(|record| record.watches += 1);
        let topologies = WatchStream::new(self.0.topology.subscribe()).map(Ok);
        Ok(Response::new(topologies.boxed()))
    }

    async fn stream_ltx(
        &self,
        request: Request<StreamLtxRequest>,
    ) -> Result<Response<Self::StreamLtxStream>, Status> {
        let request = request.into_inner();
        let script = Arc::clone(&*self.0.ltx_script.lock().unwrap());
        let pieces = script(&request);
        self.0.record.send_modify(|record| record.ltx.push(request));
        let ends = pieces.iter().any(Result::is_err);
        let pieces = futures::stream::iter(pieces);
        Ok(Response::new(if ends {
            pieces.boxed()
        } else {
            pieces.chain(futures::stream::pending()).boxed()
        }))
    }
}
