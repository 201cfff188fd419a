//! The cluster layer: Raft wiring, roles, membership, the ordered apply.
//!
//! Owns the openraft instance, the catalog and the set of databases of this node. Never touches SQLite (that is `database`) and
//! never speaks with clients (that is `api`). `server` starts it; `api` and `archiver` call it.
//!
//! Tasks: `heartbeat::send`, `role::watch_role` (opens and closes lanes), `chores::run` (what a primary does beside writing: registering nodes,
//! creating configured databases, purging), `repair::run` (pulls pages for databases in trouble), `databases::tend::run` (opens databases that
//! could not be opened, removes the files of dropped ones), `disk_watch::run` (makes room when the log's disk hangs), `commit_watch::run` (when nothing is
//! committed though the others hear it), the read-index rounds.
//! All end when `Cluster::shutdown` is called, in this order: lanes, Raft, tasks, databases, log.

mod better_off;
pub(crate) mod catalog;
mod chores;
pub(crate) mod command;
mod commit_watch;
mod convert;
mod copies;
pub(crate) mod databases;
mod disk_watch;
mod divergence;
pub(crate) mod error;
mod failed;
pub(crate) mod feature_level;
mod file_watch;
pub(crate) mod formation;
mod freshness;
mod hearing;
mod heartbeat;
pub(crate) mod identity;
mod keep;
pub(crate) mod ltx_log;
mod membership;
mod network;
mod next_version;
mod notice;
pub(crate) mod opener;
mod orphans;
pub(crate) mod page_diff;
pub(crate) mod peer_service;
mod purge;
mod raft_proposer;
mod read_index;
mod removal;
mod repair;
pub(crate) mod role;
mod snapshot;
mod standing;
mod start;
pub(crate) mod state_machine;
mod stop;
mod timing;
pub(crate) mod transport;
mod unconfirmed;
mod unsynced;
mod upgrade;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use halite_log::{LogId, Member, OnComplete, Payload, TypeConfig};
use halite_proto::v1;
use openraft::Raft;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use openraft::metrics::{RaftMetrics, RaftServerMetrics};
use openraft::raft::{AppendEntriesRequest, ClientWriteResponse, ClientWriteResult};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use databases::Capacity;
pub use disk_watch::DISK_HANGS;
pub use error::ClusterError;
pub use feature_level::{Level, Levels, Unfit};
pub use formation::FirstMember;
pub use orphans::HELD_OTHER;
pub use purge::PurgeRules;
pub use start::{ClusterOptions, StartError};
pub use transport::{Connector, TcpConnector};
pub(crate) use unsynced::BYTES_MAX as UNSYNCED_BYTES_MAX;

use identity::{Held, Identity};
use membership::transfer::Transfer;
use read_index::ReadIndex;
use role::Role;
use state_machine::{Shared, StateMachine};
use timing::Timing;
use transport::Transport;

use crate::archiver::Troubles;
use crate::database::{Host, ReaderPool};

type RaftNode = Raft<TypeConfig, StateMachine>;
type Metrics = RaftMetrics<TypeConfig>;
type MetricsReceiver = WatchReceiverOf<TypeConfig, Metrics>;
type Server = RaftServerMetrics<TypeConfig>;
type ServerReceiver = WatchReceiverOf<TypeConfig, Server>;
type Written =
    Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

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
    pulls: page_diff::Pulls,
    /// Why Raft stopped, once it has.
    failure: watch::Sender<Option<String>>,
    /// What first members said of themselves before the cluster was formed.
    heard_levels: Mutex<BTreeMap<u64, Levels>>,
    /// Written by `disk_watch` alone.
    disk_hangs: watch::Sender<bool>,
    /// Written by `commit_watch` alone.
    commits_stand: AtomicBool,
    archive_troubles: Troubles,
    /// See [`next_version`].
    pretended: AtomicBool,
    removed_files: Mutex<file_watch::Removed>,
    orphans: Mutex<orphans::Orphans>,
    /// What keeps the cluster from being formed, as long as it is not.
    waits_for: Mutex<Option<String>>,
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

    pub(crate) fn pulls(&self) -> &page_diff::Pulls {
        &self.pulls
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
        self.leader_of(&server_of(&self.raft.server_metrics()))
            .map(|(node_id, addr)| v1::NodeAddress { node_id, addr })
    }

    /// Who leads, as Raft has it: a node whose Raft has stopped does not know.
    fn leader_of(&self, server: &Server) -> Option<(u64, String)> {
        let stopped = self.failure.borrow().is_some();
        (!stopped).then(|| primary_of(server)).flatten()
    }

    /// The primary, if it is another node: where to hand a call on.
    pub(crate) fn other_primary(&self) -> Option<v1::NodeAddress> {
        self.primary()
            .filter(|p| p.node_id != self.identity().node_id)
    }

    pub(crate) fn not_primary(&self) -> ClusterError {
        match self.says_failed() {
            Some(why) => ClusterError::unavailable(why),
            None => ClusterError::not_primary(self.other_primary()),
        }
    }

    /// Nothing is served by a node that is not, or no longer, part of the cluster.
    pub(crate) fn check_member(&self) -> Result<(), ClusterError> {
        match self.role() {
            Role::Removed => Err(ClusterError::fenced(
                "this node was removed from the cluster and serves nothing".into(),
            )),
            Role::Joining => Err(ClusterError::unavailable(match &*self.waits_for.lock() {
                Some(reason) => format!("this node is no member of a cluster yet: {reason}"),
                None => "this node is no member of a cluster yet, as far as it knows".into(),
            })),
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

    /// How long no primary has spoken to this node; zero on a primary, `None` if none has since it started.
    pub(crate) fn silence(&self) -> Option<Duration> {
        if let Role::Primary { .. } = self.role() {
            return Some(Duration::ZERO);
        }
        self.shared.freshness.lock().silence(Instant::now())
    }

    fn signs_of_removal(&self) -> removal::Signs {
        let identity = self.identity();
        removal::Signs {
            silence: self.silence(),
            told: identity.was_told_removed(),
            registered: identity.instance_of(identity.node_id).as_deref()
                == Some(identity::REMOVED),
        }
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
        let entry = server.membership_config.log_id();
        let voters: Vec<u64> = membership.voter_ids().collect();
        v1::Topology {
            members_term: entry.map_or(0, |id| id.committed_leader_id().term),
            members_index: entry.map_or(0, |id| id.index()),
            term: server.vote.leader_id.term,
            primary_id: self.leader_of(&server).map_or(0, |(id, _)| id),
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

    /// What keeps databases from being archived, where this node archives.
    pub(crate) fn archive_troubles(&self) -> &Troubles {
        &self.archive_troubles
    }

    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    /// Commits a metadata command; the index it was committed at and its answer. On the primary only.
    pub(crate) async fn command(
        &self,
        kind: v1::command::Kind,
    ) -> Result<(u64, v1::CommandReply), ClusterError> {
        self.commit(self.encode(kind)?).await
    }

    /// The same, in `term` only: in any other one the command does not enter the log.
    async fn command_in(
        &self,
        term: u64,
        kind: v1::command::Kind,
    ) -> Result<(u64, v1::CommandReply), ClusterError> {
        let (done, written) = oneshot::channel();
        let responder = OnComplete::new(move |result: ClientWriteResult<TypeConfig>| {
            // Whoever asked may have given up.
            let _ = done.send(result);
        });
        let write = self.raft.write(self.encode(kind)?);
        let write = write.with_leader(term).responder(responder);
        self.answered(async {
            write.await?;
            // Dropped when Raft stops.
            let result = written.await.map_err(|_| Fatal::Stopped)?;
            result.map_err(RaftError::APIError)
        })
        .await
    }

    fn encode(&self, kind: v1::command::Kind) -> Result<Payload, ClusterError> {
        command::encode(self.identity().level.cluster(), kind)
    }

    async fn commit(&self, payload: Payload) -> Result<(u64, v1::CommandReply), ClusterError> {
        self.answered(self.raft.client_write(payload)).await
    }

    async fn answered(
        &self,
        written: impl Future<Output = Written>,
    ) -> Result<(u64, v1::CommandReply), ClusterError> {
        let response = match tokio::time::timeout(COMMAND_TIMEOUT, written).await {
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

    /// Resolves when Raft has stopped by itself, with the reason (its storage failed), or this build has met what it does not know.
    pub(crate) async fn stopped(&self) -> Stopped {
        let level = &self.identity().level;
        let mut failure = self.failure.subscribe();
        let failed = tokio::select! {
            biased;
            unfit = level.unfit_found() => return Stopped::Unfit(unfit),
            failed = failure.wait_for(Option::is_some) => match failed {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => "raft has stopped".to_owned(),
            },
        };
        // Raft stops for that reason, too.
        level
            .unfit()
            .map_or(Stopped::Failed(failed), Stopped::Unfit)
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
            level_min: identity.level.ours().min.get(),
            level_max: identity.level.ours().max.get(),
            your_registered_instance_id: identity.instance_of(asker).unwrap_or_default(),
            applied_index,
            unwell_database_ids: self.unwell(),
            boot_id: identity.boot_id.clone(),
            known_at: identity.known_at().as_ref().map(convert::log_id_to_wire),
            stopped: identity.stopped().as_deref().unwrap_or_default().to_owned(),
        }
    }
}

/// Why a node's part in the cluster ended by itself.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// What it stores on failed; it may start anew.
    Failed(String),
    /// It cannot take part with this program.
    Unfit(Unfit),
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
