//! Calls handed on to the primary: those of a client's stream over a stream of their own, which ends with the session or when it is not needed for
//! a while, a unary call by a unary call. The client's own keys travel along, so a retry through another node is still the same call.
//!
//! Owns the wait for their answers. Never retries, and never hands on what another node has handed on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use halite_proto::{error_detail, v1};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{failed, timeout};
use crate::api::grpc::{forwarded, unreached};
use crate::cluster::{Cluster, ClusterError};
use crate::database::{CallReply, CallResults, ReplySink};

/// Messages waiting for the stream.
const QUEUED_MAX: usize = 256;
/// A stream on which nothing waits for an answer is closed after this: it holds a place at the primary.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// The primary is given this much longer than the call, so that its own answer comes first.
const ANSWER_GRACE: Duration = Duration::from_millis(250);

pub(crate) struct Forwarder {
    primary: v1::NodeAddress,
    requests: mpsc::Sender<v1::SessionRequest>,
    state: Arc<State>,
}

struct State {
    calls: Mutex<Calls>,
    out: Arc<dyn ReplySink>,
}

#[derive(Default)]
struct Calls {
    outstanding: BTreeSet<u64>,
    /// The stream is over, or about to be: nothing is sent on it any more.
    over: bool,
}

impl Forwarder {
    pub(crate) fn start(
        cluster: &Arc<Cluster>,
        primary: v1::NodeAddress,
        client_id: Option<[u8; 16]>,
        out: Arc<dyn ReplySink>,
    ) -> Self {
        let (requests, queue) = mpsc::channel(QUEUED_MAX);
        let state = Arc::new(State {
            calls: Mutex::default(),
            out,
        });
        // A caller without a key will not retry: any id serves.
        let client_id = client_id.unwrap_or_else(|| {
            let host = cluster.host();
            (u128::from(host.random()) << 64 | u128::from(host.random())).to_be_bytes()
        });
        let hello = v1::SessionRequest {
            client_id: Bytes::copy_from_slice(&client_id),
            forwarded: true,
            ..v1::SessionRequest::default()
        };
        // The queue is new and has room.
        let _ = requests.try_send(hello);
        // Answers of reads arrive on reader threads, which know no runtime.
        cluster.runtime().spawn(run(
            cluster.clone(),
            primary.addr.clone(),
            queue,
            state.clone(),
        ));
        Self {
            primary,
            requests,
            state,
        }
    }

    pub(crate) fn leads_to(&self, primary: &v1::NodeAddress) -> bool {
        self.primary == *primary
    }

    /// Hands calls on. They come back if the stream is over: none of them was sent then.
    pub(crate) fn send(
        &self,
        calls: Vec<v1::Call>,
        answered_below: u64,
    ) -> Result<(), Vec<v1::Call>> {
        let ids: Vec<u64> = calls.iter().map(|c| c.id).collect();
        {
            let mut state = self.state.calls.lock();
            if state.over {
                return Err(calls);
            }
            state.outstanding.extend(&ids);
        }
        let request = v1::SessionRequest {
            calls,
            answered_below,
            forwarded: true,
            ..v1::SessionRequest::default()
        };
        if self.requests.try_send(request).is_err() {
            // The stream may have broken in between: then they have been given up already.
            self.state.give_up(
                ids,
                &ClusterError::unavailable("the way to the primary is congested".into()).to_wire(),
            );
        }
        Ok(())
    }

    /// Tells the primary that nobody waits for the answers to these calls any more. Those that it does not hear of end at their deadlines.
    pub(crate) fn give_up(&self, mut ids: Vec<u64>) {
        let calls = self.state.calls.lock();
        ids.retain(|id| calls.outstanding.contains(id));
        drop(calls);
        if !ids.is_empty() {
            let _ = self.requests.try_send(v1::SessionRequest {
                given_up: ids,
                forwarded: true,
                ..v1::SessionRequest::default()
            });
        }
    }
}

impl State {
    fn give_up(&self, ids: Vec<u64>, error: &v1::Error) {
        let mut calls = self.calls.lock();
        let replies: Vec<_> = ids
            .into_iter()
            .filter(|id| calls.outstanding.remove(id))
            .map(|id| failed(id, error))
            .collect();
        drop(calls);
        if !replies.is_empty() {
            self.out.deliver(replies);
        }
    }

    fn break_off(&self, error: &v1::Error) {
        let mut calls = self.calls.lock();
        calls.over = true;
        let ids = calls.outstanding.iter().copied().collect();
        drop(calls);
        self.give_up(ids, error);
    }

    /// Whether the stream is over now, since nothing waits for an answer.
    fn end_if_idle(&self) -> bool {
        let mut calls = self.calls.lock();
        calls.over |= calls.outstanding.is_empty();
        calls.over
    }

    fn answer(&self, replies: Vec<v1::Reply>) {
        let mut calls = self.calls.lock();
        let mut out = Vec::with_capacity(replies.len());
        for reply in replies {
            let known = if reply.more {
                calls.outstanding.contains(&reply.id)
            } else {
                calls.outstanding.remove(&reply.id)
            };
            if known {
                out.push(from_wire(reply));
            }
        }
        drop(calls);
        self.out.deliver(out);
    }
}

async fn run(
    cluster: Arc<Cluster>,
    addr: String,
    queue: mpsc::Receiver<v1::SessionRequest>,
    state: Arc<State>,
) {
    let error = match pass_on(&cluster, &addr, queue, &state).await {
        Ok(()) => unknown("the primary ended the stream"),
        Err(status) => broken(&status),
    };
    state.break_off(&error);
}

async fn pass_on(
    cluster: &Cluster,
    addr: &str,
    queue: mpsc::Receiver<v1::SessionRequest>,
    state: &State,
) -> Result<(), Status> {
    let mut primary = cluster.transport().halite(addr)?;
    // Ours ends with this function: HTTP/2 leaves a stream open of which only the answers are dropped, and it would keep its place at the primary.
    let (_end, ended) = oneshot::channel::<()>();
    let requests = ReceiverStream::new(queue).take_until(ended);
    let gone = state.out.clone().gone();
    tokio::pin!(gone);
    let mut responses = primary.session(forwarded(requests)).await?.into_inner();
    loop {
        tokio::select! {
            biased;
            // The primary hears of it by the end of the stream.
            () = &mut gone => return Ok(()),
            response = responses.message() => match response? {
                Some(response) => state.answer(response.replies),
                None => return Ok(()),
            },
            () = tokio::time::sleep(IDLE_MAX) => if state.end_if_idle() {
                return Ok(());
            },
        }
    }
}

fn unknown(why: &str) -> v1::Error {
    ClusterError::outcome_unknown(why.to_owned()).to_wire()
}

/// What callers are told of a call or stream that ended with `status`: what the primary said, if it said something.
fn broken(status: &Status) -> v1::Error {
    let said = error_detail::from_status(status);
    let said = said.or_else(|| unreached(status).map(|error| error.to_wire()));
    said.unwrap_or_else(|| {
        unknown(&format!(
            "the connection to the primary broke: {}",
            status.message()
        ))
    })
}

/// Hands one unary call on, by a unary call: it takes no session of the primary.
pub(super) fn hand_on(
    cluster: &Arc<Cluster>,
    primary: v1::NodeAddress,
    client_id: Option<[u8; 16]>,
    call: v1::Call,
    out: Arc<dyn ReplySink>,
) {
    let handing_on = cluster.clone();
    // Answers of reads arrive on reader threads, which know no runtime.
    cluster.runtime().spawn(async move {
        let token = call.id;
        let outcome = tokio::select! {
            biased;
            // The primary hears of it by the end of the call.
            () = out.clone().gone() => return,
            outcome = batch(&handing_on, &primary.addr, client_id, call) => outcome,
        };
        out.deliver(vec![CallReply {
            token,
            outcome,
            more: false,
        }]);
    });
}

async fn batch(
    cluster: &Cluster,
    addr: &str,
    client_id: Option<[u8; 16]>,
    call: v1::Call,
) -> Result<CallResults, v1::Error> {
    let wait = timeout(&call) + ANSWER_GRACE;
    let request = v1::BatchRequest {
        database: call.database,
        statements: call.statements,
        idempotency_key: client_id.map(|client_id| v1::IdempotencyKey {
            client_id: Bytes::copy_from_slice(&client_id),
            call_id: call.id,
        }),
        timeout_ms: call.timeout_ms,
    };
    let answer = async {
        let mut primary = cluster.transport().halite(addr)?;
        primary.batch(forwarded(request)).await
    };
    match tokio::time::timeout(wait, answer).await {
        Ok(Ok(response)) => {
            let response = response.into_inner();
            Ok(CallResults {
                first_statement: 0,
                results: response.results,
                raft_index: response.session_index,
            })
        }
        Ok(Err(status)) => Err(broken(&status)),
        Err(_) => Err(unknown("the primary did not answer in time")),
    }
}

fn from_wire(reply: v1::Reply) -> CallReply {
    let outcome = match reply.error {
        Some(error) => Err(error),
        None => Ok(CallResults {
            first_statement: reply.first_statement,
            results: reply.results,
            raft_index: reply.session_index,
        }),
    };
    CallReply {
        token: reply.id,
        outcome,
        more: reply.more,
    }
}
