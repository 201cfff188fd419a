//! A configuration as what a node is started with.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use super::{ServeError, ServerOptions};
use crate::archiver::ArchiverOptions;
use crate::cluster::{ClusterOptions, FirstMember, TcpConnector};
use crate::config::Config;
use crate::database::DatabaseOptions;

/// Threads that run reads: SQLite reads from memory most of the time, so more than the cores do not help.
const READER_THREADS_MIN: usize = 2;

pub(super) fn from_config(config: &Config) -> Result<ServerOptions, ServeError> {
    let database = DatabaseOptions {
        checkpoint_wal_bytes: config.checkpoint.wal_size.bytes(),
        ..DatabaseOptions::default()
    };
    let archiver = archiver_options(config);
    let cluster = ClusterOptions {
        node_id: config.node_id,
        cluster_name: config.cluster.name.clone(),
        addr: config.advertise.clone(),
        data_dir: config.data_dir.clone(),
        initial_members: config.first_members().into_iter().map(|m| FirstMember { id: m.id, addr: m.addr }).collect(),
        election_timeout: config.election_timeout,
        heartbeat_interval: config.heartbeat_interval,
        log_cache_bytes: usize::try_from(config.log_cache.bytes()).unwrap_or(usize::MAX),
        database,
        databases: config.dbs.iter().map(|db| (db.name.clone(), db.page_size)).collect(),
        archived: !archiver.is_empty(),
        connector: Arc::new(TcpConnector),
    };
    let cores = std::thread::available_parallelism().map_or(READER_THREADS_MIN, usize::from);
    Ok(ServerOptions {
        listen: resolve(&config.listen)?,
        cluster,
        archiver,
        reader_threads: cores.max(READER_THREADS_MIN),
    })
}

fn resolve(listen: &str) -> Result<SocketAddr, ServeError> {
    listen
        .to_socket_addrs()
        .ok()
        .and_then(|mut addrs| addrs.next())
        .ok_or_else(|| ServeError::Config(format!("listen address does not resolve: listen={listen:?}")))
}

fn archiver_options(config: &Config) -> ArchiverOptions {
    let destinations: HashMap<String, Vec<String>> = config
        .dbs
        .iter()
        .filter_map(|db| Some((db.name.clone(), db.replicas.as_ref()?.iter().map(|r| r.url.clone()).collect())))
        .collect();
    let own = config.dbs.iter().filter_map(|db| db.replicas.as_ref()).flatten().map(|r| r.sync_interval);
    let default = config.archive.as_ref();
    // The shortest interval that anybody asked for: more often than asked does no harm, an idle database costs nothing.
    let sync_interval = own.chain(default.map(|a| a.sync_interval)).min().unwrap_or(std::time::Duration::from_secs(1));
    ArchiverOptions { destinations, default_url: default.map(|a| a.url.clone()), sync_interval }
}
