//! Calls handed on to the primary over one stream per session. The client's own keys travel along, so a retry through another node
//! is still the same call.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use halite_proto::v1;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::failed;
use crate::cluster::{Cluster, ClusterError};
use crate::database::{CallReply, CallResults, ReplySink};

/// Messages waiting for the stream.
const QUEUED_MAX: usize = 256;

pub(crate) struct Forwarder {
    primary: v1::NodeAddress,
    requests: mpsc::Sender<v1::SessionRequest>,
    state: Arc<State>,
}

struct State {
    outstanding: Mutex<BTreeSet<u64>>,
    broken: AtomicBool,
    out: Arc<dyn ReplySink>,
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
            outstanding: Mutex::default(),
            broken: AtomicBool::new(false),
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
        self.primary == *primary && !self.state.broken.load(Ordering::Acquire)
    }

    pub(crate) fn send(&self, calls: Vec<v1::Call>, answered_below: u64) {
        let ids: Vec<u64> = calls.iter().map(|c| c.id).collect();
        self.state.outstanding.lock().extend(&ids);
        let request = v1::SessionRequest {
            calls,
            answered_below,
            forwarded: true,
            ..v1::SessionRequest::default()
        };
        if self.requests.try_send(request).is_err() {
            self.state.give_up(
                ids,
                &ClusterError::unavailable("the way to the primary is congested".into()),
            );
        } else if self.state.broken.load(Ordering::Acquire) {
            // The stream broke in between: its end has seen some of these, or none.
            self.state.break_off("the connection to the primary broke");
        }
    }
}

impl State {
    fn give_up(&self, ids: Vec<u64>, error: &ClusterError) {
        let error = error.to_wire();
        let mut outstanding = self.outstanding.lock();
        let replies: Vec<_> = ids
            .into_iter()
            .filter(|id| outstanding.remove(id))
            .map(|id| failed(id, &error))
            .collect();
        drop(outstanding);
        if !replies.is_empty() {
            self.out.deliver(replies);
        }
    }

    fn break_off(&self, why: &str) {
        self.broken.store(true, Ordering::Release);
        let ids: Vec<u64> = self.outstanding.lock().iter().copied().collect();
        self.give_up(ids, &ClusterError::outcome_unknown(why.to_owned()));
    }

    fn answer(&self, replies: Vec<v1::Reply>) {
        let mut outstanding = self.outstanding.lock();
        let mut out = Vec::with_capacity(replies.len());
        for reply in replies {
            let known = if reply.more {
                outstanding.contains(&reply.id)
            } else {
                outstanding.remove(&reply.id)
            };
            if known {
                out.push(from_wire(reply));
            }
        }
        drop(outstanding);
        self.out.deliver(out);
    }
}

async fn run(
    cluster: Arc<Cluster>,
    addr: String,
    queue: mpsc::Receiver<v1::SessionRequest>,
    state: Arc<State>,
) {
    let ended = pass_on(&cluster, &addr, queue, &state).await;
    match ended {
        Ok(()) => state.break_off("the primary ended the stream"),
        Err(status) => state.break_off(&format!(
            "the connection to the primary broke: {}",
            status.message()
        )),
    }
}

async fn pass_on(
    cluster: &Cluster,
    addr: &str,
    queue: mpsc::Receiver<v1::SessionRequest>,
    state: &State,
) -> Result<(), Status> {
    let mut primary = cluster.transport().halite(addr)?;
    let mut responses = primary
        .session(ReceiverStream::new(queue))
        .await?
        .into_inner();
    while let Some(response) = responses.message().await? {
        state.answer(response.replies);
    }
    Ok(())
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
