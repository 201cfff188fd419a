//! How a node's part in the cluster is started.
//!
//! Start: open the log, find out who this data directory is, bring catalog and databases to the state at M (architecture,
//! redo), and only then let Raft run. M is the highest index of which it is certain that the quorum has it. A database that cannot be opened
//! is left to [`super::databases`], which tries again; the others do not wait for it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use halite_log::{Entry, LogId, LogOptions, LogStore, MemDisk, MetaKey, OpenError, Rt};
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use openraft::entry::RaftEntry as _;
use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::catalog::{Catalog, Effect, Standing};
use super::command::{Content, Undecoded};
use super::databases::{self, Capacity, Databases};
use super::feature_level::{Level, Levels, Unfit};
use super::formation::FirstMember;
use super::freshness::Freshness;
use super::identity::Identity;
use super::ltx_log::{self, OpenChunks};
use super::network::NetworkFactory;
use super::opener::{self, Opener};
use super::page_diff::{self, Pulls};
use super::purge::PurgeRules;
use super::raft_proposer::RaftProposer;
use super::read_index::ReadIndex;
use super::role::{self, Role};
use super::state_machine::{Shared, StateMachine, catalog_key};
use super::timing::Timing;
use super::transport::{Connector, Transport};
use super::{
    Cluster, chores, commit_watch, copies, disk_watch, file_watch, heartbeat, repair, standing,
};
use crate::archiver::Troubles;
use crate::database::recovery::{self, EntryId, Evidence};
use crate::database::{DatabaseOptions, Host, blocking};
use crate::staging_file::staging_dir;

/// What a node's part in the cluster is started with.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Id of this node, unique in the cluster for ever.
    pub node_id: u64,
    /// Name of this node for people.
    pub node_name: String,
    /// Name of the cluster: nodes of another name are refused.
    pub cluster_name: String,
    /// `host:port` that peers and clients reach this node at.
    pub addr: String,
    /// Where log and databases live.
    pub data_dir: PathBuf,
    /// The members that form the cluster the first time; empty for a node that waits to be added.
    pub initial_members: Vec<FirstMember>,
    /// Longest time without a word of the primary until the others elect a new one.
    pub election_timeout: Duration,
    /// How often the primary speaks when it has nothing to say.
    pub heartbeat_interval: Duration,
    /// Bytes of recent log entries kept in memory.
    pub log_cache_bytes: usize,
    /// Bytes of entries that a follower takes in before what came before is on its disk. A vote comes behind them.
    pub unsynced_bytes_max: usize,
    /// Settings of the databases.
    pub database: DatabaseOptions,
    /// Databases that the primary creates when they are missing: name and page size.
    pub databases: Vec<(String, u32)>,
    /// How many of them this process can have open; `None`: as many as there are.
    pub capacity: Option<Capacity>,
    /// Entries are kept until they are archived, up to a cap.
    pub archived: bool,
    /// What leaves the log, and when.
    pub purge: PurgeRules,
    /// Keeps the log on a disk in memory instead of in the data directory: for the simulation.
    pub log_disk: Option<MemDisk>,
    /// What is read and written: this build's levels, or the next version's for tests of upgrades.
    pub levels: Levels,
    /// How peers are reached.
    pub connector: Arc<dyn Connector>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("data directory cannot be used: {source}, path={}", path.display())]
    DataDir {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log(OpenError),
    /// The log lacks what this node has acknowledged, or may: it must not vote with it.
    #[error(
        "{source}. Do not let this node vote with it. If it has peers: run `halite member remove {node_id}` at one of them, then here \
         `halite set-aside {data_dir}`, start it with `join: true`, and `halite member add {node_id} {addr}`. If it is alone, \
         `halite set-aside` keeps its databases as files that `halite import` takes",
        data_dir = data_dir.display()
    )]
    LogLost {
        /// This node.
        node_id: u64,
        /// Where peers reach it.
        addr: String,
        /// Where the log is.
        data_dir: PathBuf,
        /// What is wrong with it.
        source: OpenError,
    },
    /// The directory belongs to somebody else.
    #[error("data directory belongs to {found}, this node is configured as {configured}: path={}", path.display())]
    WrongNode {
        /// Where.
        path: PathBuf,
        /// What the directory says.
        found: String,
        /// What the configuration says.
        configured: String,
    },
    /// This build is too old, or too new, for what is stored.
    #[error("{unfit}, path={}", path.display())]
    Unfit {
        /// Where.
        path: PathBuf,
        /// Why.
        unfit: Unfit,
    },
    /// What is stored does not make sense.
    #[error("stored state is damaged: {0}")]
    Corrupt(String),
    /// Raft refused to start.
    #[error("raft does not start: {0}")]
    Raft(String),
}

impl Cluster {
    /// Starts everything but the cluster itself: see [`super::formation::form`].
    pub(crate) async fn start(options: ClusterOptions) -> Result<Arc<Self>, StartError> {
        let data_dir = options.data_dir.clone();
        let log = open_log(&options).await?;
        let pulls = Pulls::new(sweep_staging(&options).await?);
        // openraft draws its randomness (election timeouts) from this seed.
        let seed = options.database.host.random();
        let identity = load_identity(&log, &options, format!("{seed:016x}")).await?;
        let identity = Arc::new(identity);
        let transport = Arc::new(Transport::new(identity.clone(), options.connector.clone()));
        let proposer = Arc::new(RaftProposer::new(
            tokio::runtime::Handle::current(),
            &*options.database.host,
        ));
        let opener = Opener {
            data_dir: data_dir.clone(),
            log: log.clone(),
            proposer: proposer.clone(),
            options: options.database.clone(),
        };
        let shared = recover(log.clone(), identity, opener, options.capacity).await?;
        let state_machine = StateMachine {
            shared: shared.clone(),
        };
        let network = NetworkFactory {
            transport: transport.clone(),
        };
        let config = Arc::new(raft_config(&options)?);
        let raft = Raft::new(options.node_id, config, network, log, state_machine);
        let raft = Rt::scope(seed, raft)
            .await
            .map_err(|e| StartError::Raft(e.to_string()))?;
        let stopping = watch::Sender::new(false);
        let (read_index, rounds) =
            ReadIndex::start(raft.clone(), transport.clone(), stopping.subscribe());
        proposer.connect(raft.clone(), read_index.clone(), &shared);

        let cluster = Arc::new(Self {
            read_index,
            raft,
            runtime: tokio::runtime::Handle::current(),
            role: shared.role.clone(),
            shared,
            transport,
            addr: options.addr.clone(),
            data_dir,
            timing: timing_of(&options),
            options,
            changing: tokio::sync::Mutex::default(),
            transfer: Mutex::default(),
            tasks: Mutex::default(),
            stopping,
            known_term: AtomicU64::new(0),
            started: Instant::now(),
            pulls,
            failure: watch::Sender::new(None),
            heard_levels: Mutex::default(),
            disk_hangs: watch::Sender::new(false),
            commits_stand: AtomicBool::new(false),
            archive_troubles: Troubles::default(),
            pretended: AtomicBool::new(false),
            removed_files: Mutex::default(),
            orphans: Mutex::default(),
            waits_for: Mutex::default(),
        });
        let mut tasks = vec![
            rounds,
            tokio::spawn(heartbeat::send(cluster.clone())),
            tokio::spawn(role::watch_role(cluster.clone())),
            tokio::spawn(chores::run(cluster.clone())),
            tokio::spawn(repair::run(cluster.clone())),
            tokio::spawn(databases::tend::run(cluster.shared.clone())),
            tokio::spawn(copies::run(cluster.clone())),
            tokio::spawn(disk_watch::run(cluster.clone())),
            tokio::spawn(commit_watch::run(cluster.clone())),
        ];
        // What the kernel says of open files is no part of a simulation.
        if cluster.options.log_disk.is_none() {
            tasks.push(tokio::spawn(file_watch::run(cluster.clone())));
        }
        *cluster.tasks.lock() = tasks;
        Ok(cluster)
    }
}

fn timing_of(options: &ClusterOptions) -> Timing {
    Timing::of(options.election_timeout, options.heartbeat_interval)
}

fn raft_config(options: &ClusterOptions) -> Result<Config, StartError> {
    let timing = timing_of(options);
    let config = Config {
        cluster_name: options.cluster_name.clone(),
        election_timeout_min: timing.election_min_ms,
        election_timeout_max: timing.election_max_ms,
        // Sent by `heartbeat`, in its own rhythm: for Raft this is how long the answer to one may take.
        enable_heartbeat: false,
        heartbeat_interval: timing.heartbeat_answer_ms,
        enable_pre_vote: Some(true),
        // Snapshots and purging are decided by `purge`, not by a count of entries.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 64,
        // Raft's core must not wait for the apply, which may wait for a file.
        state_machine_channel_size: Some(65_536),
        broadcast_submitted_on_append: Some(true),
        backoff: "20ms 40ms 80ms ..200ms".to_owned(),
        // A restarted primary is elected like any other.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    #[cfg(feature = "planted-bugs")]
    let config = match halite_planted::on(halite_planted::Bug::HeartbeatsGivenUpEarly) {
        true => Config {
            heartbeat_interval: u64::try_from(timing.heartbeat.as_millis()).unwrap_or(u64::MAX),
            ..config
        },
        false => config,
    };
    config
        .validate()
        .map_err(|e| StartError::Raft(e.to_string()))
}

async fn open_log(options: &ClusterOptions) -> Result<LogStore, StartError> {
    let dir = options.data_dir.clone();
    let mut log_options = LogOptions::default();
    log_options.cache_bytes = options.log_cache_bytes;
    log_options.formats = options.levels.formats();
    let disk = options.log_disk.clone();
    let opened = blocking(&options.database.host, move || {
        std::fs::create_dir_all(&dir).map_err(|source| StartError::DataDir {
            path: dir.clone(),
            source,
        })?;
        Ok::<_, StartError>(dir.join("log"))
    });
    let dir = opened
        .await
        .map_err(|e| StartError::Raft(e.to_string()))??;
    if let Some(disk) = disk {
        return LogStore::open_memory(&disk, log_options).map_err(|e| not_opened(e, options));
    }
    let opened = blocking(&options.database.host, move || {
        LogStore::open(&dir, log_options)
    });
    let opened = opened.await.map_err(|e| StartError::Raft(e.to_string()))?;
    opened.map_err(|e| not_opened(e, options))
}

/// The number in the data directory is the level of the newest that may be in it.
fn not_opened(error: OpenError, options: &ClusterOptions) -> StartError {
    if let OpenError::UnknownFormat { dir, format } = &error
        && let Ok(format) = u32::try_from(*format)
        && let Err(unfit) = options
            .levels
            .check("the data directory", Level::from_wire(format))
    {
        let path = dir.clone();
        return StartError::Unfit { path, unfit };
    }
    match error {
        source @ (OpenError::Corrupt { .. } | OpenError::LostWrites { .. }) => {
            StartError::LogLost {
                node_id: options.node_id,
                addr: options.addr.clone(),
                data_dir: options.data_dir.clone(),
                source,
            }
        }
        other => StartError::Log(other),
    }
}

/// Pages that an earlier run has pulled are of use, uploads are not. The databases of which there are some.
async fn sweep_staging(options: &ClusterOptions) -> Result<BTreeSet<u64>, StartError> {
    let path = staging_dir(&options.data_dir);
    let swept = blocking(&options.database.host, {
        let path = path.clone();
        move || page_diff::sweep(&path)
    });
    let swept = swept.await.and_then(|swept| swept);
    swept.map_err(|source| StartError::DataDir { path, source })
}

/// Who this data directory is; a new one becomes whom the configuration names.
async fn load_identity(
    log: &LogStore,
    options: &ClusterOptions,
    boot_id: String,
) -> Result<Identity, StartError> {
    let key = MetaKey::node("identity").expect("a constant key without slashes");
    let damaged = |e: String| StartError::Corrupt(e);
    let ours = (options.cluster_name.clone(), options.node_id);
    let stored = log.meta_get(&key).map_err(|e| damaged(e.to_string()))?;
    let instance_id = match stored {
        Some(bytes) => {
            let stored: v1::IdentifyResponse = v1::IdentifyResponse::decode(bytes)
                .map_err(|e| damaged(format!("identity: {e}")))?;
            if (&stored.cluster_name, stored.node_id) != (&ours.0, ours.1) {
                let name = |cluster: &str, id| format!("node {id} of cluster {cluster:?}");
                return Err(StartError::WrongNode {
                    path: options.data_dir.clone(),
                    found: name(&stored.cluster_name, stored.node_id),
                    configured: name(&ours.0, ours.1),
                });
            }
            stored.instance_id
        }
        None => {
            let instance_id = random_id(&*options.database.host);
            let identity = v1::IdentifyResponse {
                cluster_name: ours.0.clone(),
                node_id: ours.1,
                instance_id: instance_id.clone(),
                ..v1::IdentifyResponse::default()
            };
            log.meta_put(vec![(key, Some(identity.encode_to_vec().into()))], true)
                .await
                .map_err(|e| damaged(e.to_string()))?;
            instance_id
        }
    };
    let identity = Identity::new(ours.0, ours.1, instance_id, boot_id, options.levels);
    standing::recall(log, &identity).map_err(damaged)?;
    Ok(identity)
}

pub(crate) fn random_id(host: &dyn Host) -> String {
    format!("{:016x}{:016x}", host.random(), host.random())
}

/// Brings catalog and databases to the state at M.
async fn recover(
    log: LogStore,
    identity: Arc<Identity>,
    opener: Opener,
    capacity: Option<Capacity>,
) -> Result<Arc<Shared>, StartError> {
    let corrupt = |e: String| StartError::Corrupt(e);
    let unfit = |unfit| StartError::Unfit {
        path: opener.data_dir.clone(),
        unfit,
    };
    let mut catalog = match log
        .meta_get(&catalog_key())
        .map_err(|e| corrupt(e.to_string()))?
    {
        Some(bytes) => {
            let wire = v1::Catalog::decode(bytes).map_err(|e| corrupt(format!("catalog: {e}")))?;
            Catalog::check_level(&wire, identity.level.ours()).map_err(unfit)?;
            Catalog::from_wire(wire).map_err(|e| corrupt(e.to_string()))?
        }
        None => Catalog::default(),
    };
    if let Some(purged) = log.purged_log_id()
        && catalog
            .point
            .applied
            .is_none_or(|id| id.index() < purged.index())
    {
        // What is purged was applied, and the catalog was kept whenever it changed. The whole log may be gone: then no entry is left to say so.
        catalog.purged_beyond(purged);
    }
    let known = catalog.point.applied.as_ref().map_or(0, LogId::index);
    let targets = opener::targets(&log).map_err(|e| corrupt(format!("checkpoints: {e}")))?;
    let evidence = Evidence {
        known,
        last: log.indexes().end.saturating_sub(1),
        committed: log.committed_log_id().map(|id| EntryId {
            term: id.committed_leader_id().term,
            index: id.index(),
        }),
        seen: targets
            .iter()
            .map(opener::entry_id)
            .chain(catalog.newest_entries())
            .collect(),
    };
    let to = recovery::redo_to(&evidence, |index| ltx_log::term_at(&log, index));
    #[cfg(feature = "planted-bugs")]
    let to = match halite_planted::on(halite_planted::Bug::RedoPastCommitted) {
        true => to.max(evidence.last),
        false => to,
    };
    let open_chunks = OpenChunks::default();
    let first = log.indexes().start.max(known + 1);
    for entry in ltx_log::entries(&log, first, to) {
        let entry = entry.map_err(|e| corrupt(e.to_string()))?;
        let ours = identity.level.ours();
        replay_metadata(&mut catalog, entry, &open_chunks, ours).map_err(|error| match error {
            Undecoded::Unfit(why) => unfit(why),
            Undecoded::Damaged(_) => corrupt(error.to_string()),
        })?;
    }
    // A crash may have come before the apply could note it.
    let format = u64::from(catalog.level.get());
    if log.format() < format {
        log.raise_format(format)
            .await
            .map_err(|e| corrupt(e.to_string()))?;
    }
    identity.level.learn(catalog.level);
    identity.learn(
        &catalog.cluster_id,
        catalog.nodes.clone(),
        catalog.point.applied,
    );

    let shared = Arc::new(Shared {
        catalog: Mutex::new(catalog),
        databases: Databases::new(capacity),
        applied: watch::Sender::new(to),
        freshness: Mutex::new(Freshness::default()),
        open_chunks,
        log,
        identity,
        opener,
        role: watch::Sender::new(Role::Joining),
        readers: OnceLock::new(),
    });
    databases::recover(&shared)
        .await
        .map_err(|e| corrupt(format!("databases: {e}")))?;
    info!(
        index = to,
        databases = shared.all_databases().len(),
        shut = shared.databases.shut().len(),
        "state recovered"
    );
    Ok(shared)
}

/// One entry of the redo range, as far as the catalog is concerned.
fn replay_metadata(
    catalog: &mut Catalog,
    entry: Entry,
    open_chunks: &OpenChunks,
    ours: Levels,
) -> Result<(), Undecoded> {
    let log_id = entry.log_id();
    let content = Content::of(entry.payload, ours)?;
    let chunks = open_chunks.follow(log_id.index(), &content, || catalog.whole().clone());
    match content {
        Content::Membership(membership) => catalog.set_membership(log_id, membership),
        Content::Blank | Content::Command(Kind::Chunk(_)) => {}
        // Page data is the databases' own business, but not what it leads to.
        Content::Command(Kind::Ltx(ltx)) => {
            if ltx_log::is_whole(&ltx, &chunks)
                && let Standing::Foreign(why) = catalog.commit(&ltx, &log_id)
            {
                warn!(why, "a committed transaction is passed over");
            }
        }
        Content::Command(metadata) => {
            let (_, effect) = catalog.apply(log_id.index(), metadata);
            // The files follow from the catalog when all is replayed.
            drop::<Effect>(effect);
        }
    }
    catalog.advance(log_id, open_chunks.before());
    Ok(())
}
