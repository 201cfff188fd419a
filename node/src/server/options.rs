//! A configuration as what a node is started with.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use halite_archive::{Backends, ThreadPool};

use super::{ServeError, ServerOptions, TcpPorts, descriptors};
use crate::api::grpc::Limits;
use crate::archiver::{ArchiveTarget, ArchiverOptions};
use crate::cluster::{
    Capacity, ClusterOptions, FirstMember, Levels, PurgeRules, TcpConnector, UNSYNCED_BYTES_MAX,
};
use crate::config::Config;
use crate::database::DatabaseOptions;

/// Threads that run reads: SQLite reads from memory most of the time, so more than the cores do not help. One more is for short reads while long
/// ones have all the others.
const READER_THREADS_MIN: usize = 2;

impl ServerOptions {
    /// What a node with this configuration is started with. The one way from settings to options: whoever needs other options than the
    /// product's changes these.
    ///
    /// # Errors
    /// The address to listen on does not resolve.
    pub fn from_config(config: &Config) -> Result<Self, ServeError> {
        from_config(config)
    }
}

fn from_config(config: &Config) -> Result<ServerOptions, ServeError> {
    let database = DatabaseOptions {
        checkpoint_wal_bytes: config.checkpoint.wal_size.bytes(),
        scrub_interval: config.scrub_interval,
        ..DatabaseOptions::default()
    };
    let archiver = archiver_options(config);
    let cores = std::thread::available_parallelism().map_or(READER_THREADS_MIN, usize::from);
    let reader_threads = cores.max(READER_THREADS_MIN) + 1;
    let cluster = ClusterOptions {
        node_id: config.node_id,
        node_name: config.name.clone(),
        cluster_name: config.cluster.name.clone(),
        addr: config.advertise.clone(),
        data_dir: config.data_dir.clone(),
        initial_members: config
            .first_members()
            .into_iter()
            .map(|m| FirstMember {
                id: m.id,
                addr: m.addr,
            })
            .collect(),
        election_timeout: config.election_timeout,
        heartbeat_interval: config.heartbeat_interval,
        unsynced_bytes_max: UNSYNCED_BYTES_MAX,
        log_cache_bytes: usize::try_from(config.log_cache.bytes()).unwrap_or(usize::MAX),
        database,
        databases: config
            .dbs
            .iter()
            .map(|db| (db.name.clone(), db.page_size))
            .collect(),
        capacity: Some(Capacity {
            open_files: descriptors::limit(),
            reader_threads,
        }),
        archived: !archiver.is_empty(),
        purge: PurgeRules::default(),
        log_disk: None,
        levels: Levels::OURS,
        connector: Arc::new(TcpConnector),
    };
    Ok(ServerOptions {
        listen: resolve(&config.listen)?,
        cluster,
        archiver,
        limits: Limits {
            sessions_max: config.limits.max_sessions as usize,
            calls_per_session_max: config.limits.max_inflight,
            message_bytes_max: usize::try_from(config.limits.max_message.bytes())
                .unwrap_or(usize::MAX),
            transaction_max: config.transaction_timeout,
        },
        listener: Arc::new(TcpPorts),
        on_start: None,
        reader_threads,
    })
}

fn resolve(listen: &str) -> Result<SocketAddr, ServeError> {
    listen
        .to_socket_addrs()
        .ok()
        .and_then(|mut addrs| addrs.next())
        .ok_or_else(|| {
            ServeError::Config(format!(
                "listen address does not resolve: listen={listen:?}"
            ))
        })
}

fn archiver_options(config: &Config) -> ArchiverOptions {
    let target = |url: &str, sync_interval| ArchiveTarget {
        url: url.to_owned(),
        sync_interval,
    };
    let own = config.dbs.iter().filter_map(|db| {
        let replicas = db.replicas.as_ref()?;
        Some((
            db.name.clone(),
            replicas
                .iter()
                .map(|r| target(&r.url, r.sync_interval))
                .collect(),
        ))
    });
    ArchiverOptions {
        destinations: Arc::new(Backends::new(Arc::new(ThreadPool))),
        own: own.collect(),
        default: config
            .archive
            .as_ref()
            .map(|a| target(&a.url, a.sync_interval)),
        schedule: config.archive_schedule.clone(),
    }
}
