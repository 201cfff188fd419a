//! A node that serves the gRPC API from memory and misbehaves as told.

#[path = "fake_node/admin.rs"]
mod admin;
#[path = "fake_node/service.rs"]
mod service;

use std::collections::HashMap;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;
use halite_proto::v1::admin_server::AdminServer;
use halite_proto::v1::halite_server::HaliteServer;
use halite_proto::v1::*;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Status;

use service::Service;

pub(crate) type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Replies = mpsc::UnboundedSender<Result<SessionResponse, Status>>;
type Script = dyn Fn(&Call) -> Action + Send + Sync;
type QueryScript = dyn Fn(&QueryRequest) -> Vec<Result<QueryResponse, Status>> + Send + Sync;
type LtxScript = dyn Fn(&StreamLtxRequest) -> Vec<Result<StreamLtxResponse, Status>> + Send + Sync;

/// What the node does with one call.
pub(crate) enum Action {
    /// Carries it out (once per idempotency key in the whole cluster) and answers.
    Apply,
    /// Carries it out and drops all connections.
    ApplyAndDrop,
    /// Neither.
    Hold,
    /// Drops all connections.
    Drop,
    /// Answers with these.
    Reply(Vec<Reply>),
}

/// What all nodes of one fake cluster share.
#[derive(Default)]
pub(crate) struct FakeState {
    applied: Mutex<HashMap<(Vec<u8>, u64), Reply>>,
    index: AtomicU64,
    /// Executions per SQL text.
    pub(crate) executed: Mutex<HashMap<String, u64>>,
}

/// What reached one node.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) messages: Vec<SessionRequest>,
    pub(crate) calls: Vec<Call>,
    pub(crate) transactions: Vec<String>,
    pub(crate) queries: Vec<QueryRequest>,
    pub(crate) ltx: Vec<StreamLtxRequest>,
    pub(crate) admin: Vec<String>,
    pub(crate) sessions: u64,
    pub(crate) watches: u64,
}

pub(crate) struct Inner {
    pub(crate) node_id: u64,
    pub(crate) addr: String,
    pub(crate) state: Arc<FakeState>,
    pub(crate) topology: watch::Sender<Topology>,
    pub(crate) record: watch::Sender<Record>,
    script: Mutex<Arc<Script>>,
    query_script: Mutex<Arc<QueryScript>>,
    ltx_script: Mutex<Arc<LtxScript>>,
    pub(crate) admin_error: Mutex<Option<Error>>,
    /// Who takes over in place of whom a transfer names, from the last to the first.
    pub(crate) elected: Mutex<Vec<u64>>,
    pub(crate) image: Mutex<Vec<u8>>,
    sockets: Mutex<Vec<std::net::TcpStream>>,
    held: Mutex<Vec<(u64, Replies)>>,
    recording: AtomicBool,
    pub(crate) down: AtomicBool,
}

pub(crate) struct FakeNode {
    pub(crate) inner: Arc<Inner>,
    server: JoinHandle<()>,
}

/// `count` nodes with ids 1.., all members, led by node 1.
pub(crate) async fn cluster(count: u64) -> Vec<FakeNode> {
    let state = Arc::new(FakeState::default());
    let mut nodes = Vec::new();
    for node_id in 1..=count {
        nodes.push(FakeNode::start(node_id, Arc::clone(&state)).await);
    }
    let topology = Topology {
        term: 1,
        primary_id: 1,
        members: nodes.iter().map(FakeNode::member).collect(),
        cluster_id: "fake".into(),
        ..Topology::default()
    };
    for node in &nodes {
        node.inner.topology.send_replace(topology.clone());
    }
    nodes
}

pub(crate) fn addresses(nodes: &[FakeNode]) -> Vec<String> {
    nodes.iter().map(|node| node.inner.addr.clone()).collect()
}

/// All nodes learn that `primary_id` leads from now on.
pub(crate) fn lead(nodes: &[FakeNode], term: u64, primary_id: u64) {
    for node in nodes {
        node.inner.topology.send_modify(|topology| {
            topology.term = term;
            topology.primary_id = primary_id;
        });
    }
}

pub(crate) fn error(code: ErrorCode) -> Error {
    Error {
        code: code.into(),
        message: format!("scripted {code:?}"),
        ..Error::default()
    }
}

/// The whole answer to `call`: this error.
pub(crate) fn refuse(call: &Call, error: Error) -> Action {
    Action::Reply(vec![Reply {
        id: call.id,
        error: Some(error),
        ..Reply::default()
    }])
}

pub(crate) fn integer(integer: i64) -> Value {
    Value {
        kind: Some(value::Kind::Integer(integer)),
    }
}

pub(crate) fn row(integers: &[i64]) -> Row {
    Row {
        values: integers.iter().copied().map(integer).collect(),
    }
}

impl FakeNode {
    pub(crate) async fn start(node_id: u64, state: Arc<FakeState>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Inner {
            node_id,
            addr,
            state,
            topology: watch::Sender::default(),
            record: watch::Sender::default(),
            script: Mutex::new(Arc::new(|_| Action::Apply)),
            query_script: Mutex::new(Arc::new(|_| Vec::new())),
            ltx_script: Mutex::new(Arc::new(|_| Vec::new())),
            admin_error: Mutex::default(),
            elected: Mutex::default(),
            image: Mutex::default(),
            sockets: Mutex::default(),
            held: Mutex::default(),
            recording: AtomicBool::new(true),
            down: AtomicBool::new(false),
        });
        let server = tokio::spawn(serve(Arc::clone(&inner), listener));
        Self { inner, server }
    }

    pub(crate) fn member(&self) -> MemberInfo {
        MemberInfo {
            node_id: self.inner.node_id,
            addr: self.inner.addr.clone(),
            voter: true,
        }
    }

    pub(crate) fn address(&self) -> NodeAddress {
        NodeAddress {
            node_id: self.inner.node_id,
            addr: self.inner.addr.clone(),
        }
    }

    /// From now on calls of the pipelined stream go through `script`.
    pub(crate) fn script(&self, script: impl Fn(&Call) -> Action + Send + Sync + 'static) {
        *self.inner.script.lock().unwrap() = Arc::new(script);
    }

    pub(crate) fn query_script(
        &self,
        script: impl Fn(&QueryRequest) -> Vec<Result<QueryResponse, Status>> + Send + Sync + 'static,
    ) {
        *self.inner.query_script.lock().unwrap() = Arc::new(script);
    }

    /// From now on LTX streams bring what `script` says. After an error they end, else they stay open.
    pub(crate) fn ltx_script(
        &self,
        script: impl Fn(&StreamLtxRequest) -> Vec<Result<StreamLtxResponse, Status>>
        + Send
        + Sync
        + 'static,
    ) {
        *self.inner.ltx_script.lock().unwrap() = Arc::new(script);
    }

    pub(crate) fn stop_recording(&self) {
        self.inner.recording.store(false, Ordering::Relaxed);
    }

    /// Answers a call that is held.
    pub(crate) fn answer(&self, reply: Reply) {
        let held = self.inner.held.lock().unwrap();
        let (_, replies) = held
            .iter()
            .rev()
            .find(|(id, _)| *id == reply.id)
            .expect("call is not held");
        replies
            .send(Ok(SessionResponse {
                replies: vec![reply],
            }))
            .expect("stream has ended");
    }

    /// Waits until what reached the node satisfies `condition`.
    pub(crate) async fn seen<T>(&self, mut condition: impl FnMut(&Record) -> Option<T>) -> T {
        let mut news = self.inner.record.subscribe();
        let mut found = None;
        let waiting = news.wait_for(|record| {
            found = condition(record);
            found.is_some()
        });
        tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .expect("the node did not see it in time")
            .expect("node lives");
        found.unwrap()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner.record.borrow().calls.clone()
    }

    /// Cuts all connections; new ones are accepted.
    pub(crate) fn cut(&self) {
        self.inner.cut();
    }

    /// Dies: cuts all connections and accepts no more.
    pub(crate) fn kill(&self) {
        self.inner.down.store(true, Ordering::SeqCst);
        self.server.abort();
        self.inner.cut();
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let accepting = Arc::clone(&inner);
    let incoming = futures::stream::unfold(listener, move |listener| {
        let inner = Arc::clone(&accepting);
        async move {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let socket = socket.into_std().unwrap();
            inner
                .sockets
                .lock()
                .unwrap()
                .push(socket.try_clone().unwrap());
            if inner.down.load(Ordering::SeqCst) {
                inner.cut();
            }
            let socket = tokio::net::TcpStream::from_std(socket);
            Some((socket, listener))
        }
    });
    tonic::transport::Server::builder()
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(8 << 20)
        .add_service(
            HaliteServer::new(Service(Arc::clone(&inner))).max_decoding_message_size(32 << 20),
        )
        .add_service(AdminServer::new(Service(inner)))
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

impl Inner {
    fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn apply(&self, client_id: &[u8], call: &Call) -> Reply {
        let answer = || {
            let mut executed = self.state.executed.lock().unwrap();
            let results = call
                .statements
                .iter()
                .map(|statement| {
                    if self.recording.load(Ordering::Relaxed) {
                        *executed.entry(statement.sql.clone()).or_default() += 1;
                    }
                    StatementResult {
                        columns: statement
                            .args
                            .iter()
                            .enumerate()
                            .map(|(i, _)| format!("c{i}"))
                            .collect(),
                        rows: vec![Row {
                            values: statement.args.clone(),
                        }],
                        rows_affected: 1,
                        last_insert_rowid: 1,
                    }
                })
                .collect();
            Reply {
                id: call.id,
                results,
                session_index: self.state.index.fetch_add(1, Ordering::SeqCst) + 1,
                ..Reply::default()
            }
        };
        if call.read_only || !self.recording.load(Ordering::Relaxed) {
            return answer();
        }
        let mut applied = self.state.applied.lock().unwrap();
        applied
            .entry((client_id.to_vec(), call.id))
            .or_insert_with(answer)
            .clone()
    }

    fn carry_out(&self, client_id: &[u8], call: &Call, replies: &Replies) -> Vec<Reply> {
        if self.down.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let script = Arc::clone(&*self.script.lock().unwrap());
        let hold = || self.held.lock().unwrap().push((call.id, replies.clone()));
        match script(call) {
            Action::Apply => return vec![self.apply(client_id, call)],
            Action::ApplyAndDrop => {
                self.apply(client_id, call);
                self.cut();
            }
            Action::Hold => hold(),
            Action::Drop => self.cut(),
            Action::Reply(replies) => return replies,
        }
        Vec::new()
    }
}
