//! The cluster layer: Raft wiring, roles, membership, the ordered apply.
//!
//! Owns the openraft instance, the catalog and the set of databases of this node. Never touches SQLite (that is `database`) and
//! never speaks with clients (that is `api`). `server` starts it; `api` and `archiver` call it.
//!
//! Tasks: [`role::watch_role`] (opens and closes lanes), [`chores::run`] (what a primary does beside writing: registering nodes,
//! creating configured databases, purging), [`repair::run`] (pulls pages for databases in trouble), [`databases::tend::run`] (opens databases that
//! could not be opened, removes the files of dropped ones), the read-index rounds. All end when [`Cluster::shutdown`] is called, in this
//! order: lanes, Raft, tasks, databases, log.

mod better_off;
pub(crate) mod catalog;
mod chores;
pub(crate) mod command;
mod convert;
mod copies;
pub(crate) mod databases;
mod divergence;
pub(crate) mod error;
pub(crate) mod formation;
mod freshness;
pub(crate) mod identity;
pub(crate) mod ltx_log;
mod membership;
mod network;
pub(crate) mod opener;
mod page_diff;
pub(crate) mod peer_service;
mod purge;
mod read_index;
mod repair;
pub(crate) mod role;
mod snapshot;
mod standing;
mod start;
pub(crate) mod state_machine;
mod timing;
pub(crate) mod transport;
mod unconfirmed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use halite_log::{LogId, Member, TypeConfig};
use halite_proto::v1;
use openraft::Raft;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver as _;
use openraft::metrics::{RaftMetrics, RaftServerMetrics};
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use databases::Capacity;
pub use error::ClusterError;
pub use formation::FirstMember;
pub use purge::PurgeRules;
pub use start::{ClusterOptions, StartError};
pub use transport::{Connector, TcpConnector};

use identity::{Held, Identity};
use membership::transfer::Transfer;
use read_index::ReadIndex;
use role::Role;
use state_machine::{Shared, StateMachine};
use timing::Timing;
use transport::Transport;

use crate::database::{Host, ReaderPool};

type RaftNode = Raft<TypeConfig, StateMachine>;
type Metrics = RaftMetrics<TypeConfig>;
type MetricsReceiver = WatchReceiverOf<TypeConfig, Metrics>;
type Server = RaftServerMetrics<TypeConfig>;
type ServerReceiver = WatchReceiverOf<TypeConfig, Server>;

/// How long a metadata command may take from proposal to apply.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// This node's part in the cluster.
pub(crate) struct Cluster {
    raft: RaftNode,
    runtime: Handle,
    shared: Arc<Shared>,
    transport: Arc<Transport>,
    read_index: ReadIndex,
    role: watch::Sender<Role>,
    addr: String,
    data_dir: PathBuf,
    timing: Timing,
    options: ClusterOptions,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    stopping: watch::Sender<bool>,
    /// Whoever changes the members, or the primary, holds it.
    changing: tokio::sync::Mutex<()>,
    transfer: Mutex<Option<Transfer>>,
    /// The latest term this node has heard of.
    known_term: AtomicU64,
    started: Instant,
    /// Why Raft stopped, once it has.
    failure: watch::Sender<Option<String>>,
}

impl Cluster {
    pub(crate) fn raft(&self) -> &RaftNode {
        &self.raft
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.shared.identity
    }

    pub(crate) fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    pub(crate) fn read_index(&self) -> &ReadIndex {
        &self.read_index
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where tasks run: for threads that are none of the runtime's.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Time, randomness and threads.
    pub(crate) fn host(&self) -> &Arc<dyn Host> {
        &self.options.database.host
    }

    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    /// Longest time from the last word of a primary to the election of another one.
    pub(crate) fn election_timeout(&self) -> Duration {
        self.options.election_timeout
    }

    pub(crate) fn role(&self) -> Role {
        *self.role.borrow()
    }

    pub(crate) fn watch_role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    pub(crate) fn metrics(&self) -> Metrics {
        metrics_of(&self.raft.metrics())
    }

    /// Who leads and who belongs to the cluster: changes with these and not with every entry.
    pub(crate) fn watch_server(&self) -> ServerReceiver {
        self.raft.server_metrics()
    }

    /// Who leads, if anybody is known to.
    pub(crate) fn primary(&self) -> Option<v1::NodeAddress> {
        primary_of(&server_of(&self.raft.server_metrics()))
            .map(|(node_id, addr)| v1::NodeAddress { node_id, addr })
    }

    /// The primary, if it is another node: where to hand a call on.
    pub(crate) fn other_primary(&self) -> Option<v1::NodeAddress> {
        self.primary()
            .filter(|p| p.node_id != self.identity().node_id)
    }

    pub(crate) fn not_primary(&self) -> ClusterError {
        ClusterError::not_primary(self.other_primary())
    }

    /// Nothing is served by a node that is not, or no longer, part of the cluster.
    pub(crate) fn check_member(&self) -> Result<(), ClusterError> {
        match self.role() {
            Role::Removed => Err(ClusterError::fenced(
                "this node was removed from the cluster and serves nothing".into(),
            )),
            Role::Joining => Err(ClusterError::unavailable(
                "this node is not part of a cluster yet".into(),
            )),
            Role::Stopped => Err(ClusterError::fenced(format!(
                "this node takes no part and serves nothing: {}",
                self.identity().stopped().as_deref().unwrap_or_default()
            ))),
            _ => Ok(()),
        }
    }

    pub(crate) fn applied_index(&self) -> u64 {
        *self.shared.applied.borrow()
    }

    /// Waits until everything up to `index` is visible on this node.
    pub(crate) async fn wait_applied(
        &self,
        index: u64,
        deadline: Instant,
    ) -> Result<(), ClusterError> {
        if self.applied_index() >= index {
            return Ok(());
        }
        let mut applied = self.shared.applied.subscribe();
        match tokio::time::timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await
        {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ClusterError::unavailable("the node is stopping".into())),
            Err(_) => Err(ClusterError::unavailable(format!(
                "this node has not caught up with the session: wanted index={index}, applied index={}",
                self.applied_index()
            ))),
        }
    }

    /// How long ago this node held everything committed; zero on a primary whose quorum answers.
    pub(crate) fn lag(&self) -> Option<Duration> {
        if let Role::Primary { .. } = self.role() {
            return Some(Duration::ZERO);
        }
        self.shared.freshness.lock().lag(Instant::now())
    }

    /// The primary's word on what is committed, on its way to Raft.
    fn note_committed(&self, request: &AppendEntriesRequest<TypeConfig>, now: Instant) {
        if request.vote.leader_id.term < self.known_term.load(Ordering::Relaxed) {
            return;
        }
        let mut freshness = self.shared.freshness.lock();
        freshness.committed(request.leader_commit.as_ref().map_or(0, LogId::index), now);
        freshness.applied(self.applied_index());
    }

    pub(crate) fn topology(&self) -> v1::Topology {
        let server = server_of(&self.raft.server_metrics());
        let membership = server.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        v1::Topology {
            term: server.vote.leader_id.term,
            primary_id: primary_of(&server).map_or(0, |(id, _)| id),
            members: membership
                .nodes()
                .map(|(id, member)| v1::MemberInfo {
                    node_id: *id,
                    addr: member.addr.clone(),
                    voter: voters.contains(id),
                })
                .collect(),
            cluster_id: self
                .identity()
                .cluster_id()
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    pub(crate) fn node_name(&self) -> &str {
        &self.options.node_name
    }

    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    /// Commits a metadata command; the index it was committed at and its answer. On the primary only.
    pub(crate) async fn command(
        &self,
        kind: v1::command::Kind,
    ) -> Result<(u64, v1::CommandReply), ClusterError> {
        let payload = command::encode(&v1::Command { kind: Some(kind) });
        let written = tokio::time::timeout(COMMAND_TIMEOUT, self.raft.client_write(payload)).await;
        let response = match written {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.forward_to_leader().is_some() => return Err(self.not_primary()),
            Ok(Err(error)) => {
                return Err(ClusterError::unavailable(format!(
                    "command not committed: {error}"
                )));
            }
            Err(_) => {
                return Err(ClusterError::outcome_unknown(
                    "no quorum answered the command within 5 s".into(),
                ));
            }
        };
        let index = response.log_id.index();
        let reply = command::decode_reply(response.data)?;
        match reply.error {
            Some(error) => Err(ClusterError {
                code: error.code(),
                message: error.message,
                primary: None,
                retry_after_ms: 0,
            }),
            None => Ok((index, reply)),
        }
    }

    async fn is_initialized(&self) -> Result<bool, ClusterError> {
        self.raft
            .is_initialized()
            .await
            .map_err(|e| ClusterError::unavailable(e.to_string()))
    }

    async fn initialize(&self, members: BTreeMap<u64, Member>) -> Result<(), ClusterError> {
        use openraft::error::{InitializeError, RaftError};
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(ClusterError::internal(format!(
                "the cluster could not be formed: {error}"
            ))),
        }
    }

    /// Resolves when Raft has stopped by itself, with the reason: its storage failed.
    pub(crate) async fn stopped(&self) -> String {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        match failed {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "raft has stopped".to_owned(),
        }
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The pool that reads the databases: it lets go of a database before that is dropped.
    pub(crate) fn use_readers(&self, readers: Arc<ReaderPool>) {
        if self.shared.readers.set(readers).is_err() {
            tracing::error!("a second reader pool is ignored");
        }
    }

    /// The databases of this node that do not follow their log.
    pub(crate) fn unwell(&self) -> Vec<u64> {
        let databases = self.shared.all_databases();
        let unwell = databases.iter().filter(|database| !database.is_fine());
        let shut = self.shared.databases.shut().into_iter().map(|shut| shut.id);
        unwell
            .map(|database| database.spec().id.get())
            .chain(shut)
            .collect()
    }

    /// How far this node's disk reaches.
    pub(crate) fn held(&self) -> Held {
        let log = &self.shared.log;
        let applied = self.shared.catalog.lock().point.applied;
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index());
        let index = index(log.last_log_id()).max(index(applied));
        // Last: a log is cut off after its vote for a later term is kept, and a shorter log beside the earlier vote would look like an old disk.
        let term = log.vote().map_or(0, |vote| vote.leader_id.term);
        Held { term, index }
    }

    /// What this node says to a peer that asks who it is.
    pub(crate) async fn identify(&self, request: &v1::IdentifyRequest) -> v1::IdentifyResponse {
        let identity = self.identity();
        // Before it is asked who is not well: what is counted as applied then is in those that are.
        let applied_index = self.applied_index();
        let asker = request.node_id;
        identity.meet(asker, &request.instance_id, &request.boot_id);
        v1::IdentifyResponse {
            cluster_name: identity.cluster_name.clone(),
            cluster_id: identity
                .cluster_id()
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
            node_id: identity.node_id,
            instance_id: identity.instance_id.clone(),
            initialized: self.is_initialized().await.unwrap_or(true),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            your_registered_instance_id: identity.instance_of(asker).unwrap_or_default(),
            applied_index,
            unwell_database_ids: self.unwell(),
            boot_id: identity.boot_id.clone(),
            known_at: identity.known_at().as_ref().map(convert::log_id_to_wire),
            stopped: identity.stopped().as_deref().unwrap_or_default().to_owned(),
        }
    }
}

fn primary_of(server: &Server) -> Option<(u64, String)> {
    let leader = server.current_leader?;
    let member = server.membership_config.membership().get_node(&leader)?;
    Some((leader, member.addr.clone()))
}

fn metrics_of(receiver: &MetricsReceiver) -> Metrics {
    receiver.borrow_watched().clone()
}

fn server_of(receiver: &ServerReceiver) -> Server {
    receiver.borrow_watched().clone()
}

async fn server_changed(receiver: &mut ServerReceiver) -> Result<(), ClusterError> {
    receiver
        .changed()
        .await
        .map_err(|_| ClusterError::unavailable("raft has stopped".into()))
}
