//! A running node: everything started in order, and stopped in order.
//!
//! Start: log, databases, Raft (`Cluster::start`), gRPC, formation of the cluster, archiver. Stop: no new calls, leadership handed
//! over, archiver, Raft, databases, log. When the log's disk fails, Raft stops by itself; the node then goes on answering, until files can be
//! written again, and starts anew on the same directory until it works, so that it recovers when the cause is gone.

mod descriptors;
mod listener;
mod node_view;
mod options;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1::ErrorCode;
use halite_proto::v1::admin_server::AdminServer;
use halite_proto::v1::halite_server::HaliteServer;
use halite_proto::v1::peer_server::PeerServer;
use tokio::sync::watch;
use tonic::transport::Server;
use tracing::{debug, error, info, warn};

pub use crate::api::grpc::Limits;
use crate::api::grpc::{AdminService, SqlService, Stopping};
use crate::api::router::Router;
use crate::archiver::{self, ArchiverOptions};
use crate::cluster::formation;
use crate::cluster::peer_service::PeerService;
use crate::cluster::transport::MESSAGE_BYTES_MAX;
use crate::cluster::{Cluster, ClusterError, ClusterOptions, StartError, Stopped, Unfit};
use crate::database::{ReaderPool, blocking};
pub use listener::{Connection, Incoming, Listener, TcpPorts};
pub use node_view::{
    DatabaseView, LogEntryView, LogView, NodeView, PageDiffsView, TransactionView, TroubleView,
};

/// Calls that are under way when the node stops get this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a node whose disk failed tries again.
const RESTART_EVERY: Duration = Duration::from_secs(1);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// What a node is started with.
#[derive(Clone)]
pub struct ServerOptions {
    /// Where gRPC listens.
    pub listen: SocketAddr,
    /// The cluster part.
    pub cluster: ClusterOptions,
    /// The archive part.
    pub archiver: ArchiverOptions,
    /// What clients may ask for at one time.
    pub limits: Limits,
    /// Threads that run reads.
    pub reader_threads: usize,
    /// Where connections come from.
    pub listener: Arc<dyn Listener>,
    /// Called with each life of the node, before it answers anybody.
    pub on_start: Option<Arc<dyn Fn(NodeView) + Send + Sync>>,
}

/// Why a node does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Somebody else has the port, or the address is not this machine's.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The cluster part does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// This node must not take part in the cluster.
    #[error("{0}")]
    Refused(ClusterError),
    /// This build is too old, or too new, for the cluster.
    #[error(transparent)]
    Unfit(Unfit),
    /// gRPC ended by itself.
    #[error("gRPC server failed: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// Threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
}

/// Runs a node in a process of its own until `shutdown` resolves.
///
/// # Errors
/// [`ServeError`]; a clean stop is `Ok`.
pub async fn run(
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    descriptors::raise();
    serve(options, shutdown).await
}

/// Why one life of the node ended.
enum Ended {
    Shutdown,
    /// Raft stopped: its storage failed.
    RaftStopped(String),
}

/// Runs a node until `shutdown` resolves.
///
/// # Errors
/// [`ServeError`]; a clean stop is `Ok`.
pub async fn serve(
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (stop, stopping) = watch::channel(false);
    let life = lives(options, stopping);
    tokio::pin!(life, shutdown);
    tokio::select! {
        ended = &mut life => ended,
        () = &mut shutdown => {
            stop.send_replace(true);
            life.await
        }
    }
}

async fn lives(
    options: ServerOptions,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let mut first = true;
    loop {
        match live(&options, stopping.clone()).await {
            Ok(Ended::Shutdown) => return Ok(()),
            Ok(Ended::RaftStopped(_)) => {}
            Err(error) if first => return Err(error),
            // What it has met is there the next time, too.
            Err(
                error @ (ServeError::Refused(_)
                | ServeError::Unfit(_)
                | ServeError::Start(StartError::Unfit { .. })),
            ) => return Err(error),
            Err(error) => warn!(%error, "not started yet, trying again"),
        }
        first = false;
        tokio::select! {
            () = tokio::time::sleep(RESTART_EVERY) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
        }
    }
}

async fn live(
    options: &ServerOptions,
    stopping: watch::Receiver<bool>,
) -> Result<Ended, ServeError> {
    let addr = options.listen;
    // The port first: a second node on the same machine finds out before it touches anything.
    let incoming = options
        .listener
        .listen(addr)
        .await
        .map_err(|source| ServeError::Listen { addr, source })?;
    let cluster = Cluster::start(options.cluster.clone()).await?;
    let host = cluster.host().clone();
    let readers =
        ReaderPool::start(options.reader_threads, host.clone()).map_err(ServeError::Threads)?;
    cluster.use_readers(readers.clone());
    let router = Router::new(cluster.clone(), readers.clone());

    if let Some(on_start) = &options.on_start {
        on_start(NodeView::new(&cluster));
    }

    let (stop_grpc, grpc_stopping) = watch::channel(false);
    let (stop_archiver, archiver_stopping) = watch::channel(false);
    let grpc = tokio::spawn(serve_grpc(incoming, router, options.limits, grpc_stopping));
    info!(node = options.cluster.node_id, %addr, "listening");
    let archiver = tokio::spawn(archiver::run(
        cluster.clone(),
        options.archiver.clone(),
        archiver_stopping,
    ));

    let ended = wait(&cluster, options, stopping.clone()).await;

    stop_archiver.send_replace(true);
    if archiver.await.is_err() {
        warn!("the archiver did not end cleanly");
    }
    if let Ok(Ended::RaftStopped(why)) = &ended {
        error!(
            why,
            "the node's storage failed: starting anew when it works"
        );
        rest(&cluster, stopping).await;
    }
    // While it hands leadership over, this node still answers: callers learn who leads next.
    cluster.hand_over().await;
    stop_grpc.send_replace(true);
    match tokio::time::timeout(DRAIN_TIMEOUT, grpc).await {
        Ok(Ok(result)) => result?,
        Ok(Err(_)) => warn!("the gRPC server did not end cleanly"),
        Err(_) => warn!("calls were still under way after 5 s"),
    }
    if blocking(&host, move || readers.shutdown()).await.is_err() {
        warn!("the reader threads did not end cleanly");
    }
    cluster.shutdown().await;
    ended
}

async fn wait(
    cluster: &Arc<Cluster>,
    options: &ServerOptions,
    mut stopping: watch::Receiver<bool>,
) -> Result<Ended, ServeError> {
    let form = async {
        let first = &options.cluster.initial_members;
        if first.is_empty() {
            // One that has been in a cluster either is a member, or is told by `role` what it is.
            if cluster.identity().cluster_id().is_none() {
                info!(
                    "waiting to be added: halite member add {} {}",
                    options.cluster.node_id,
                    cluster.addr()
                );
            }
        } else {
            formation::form(cluster, first).await?;
        }
        formation::remark(cluster, first);
        Ok::<_, ClusterError>(())
    };
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => return Ok(Ended::Shutdown),
        stopped = cluster.stopped() => return ended_by_itself(stopped),
        formed = form => match formed {
            Ok(()) => {}
            Err(error) if error.code == ErrorCode::Fenced => return Err(ServeError::Refused(error)),
            // Raft stopped while it was asked.
            Err(error) => return Ok(Ended::RaftStopped(error.to_string())),
        },
    }
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => Ok(Ended::Shutdown),
        stopped = cluster.stopped() => ended_by_itself(stopped),
    }
}

/// Goes on answering, without a part in the cluster, until files can be written again: whoever asks is told why, and reads what is there. A node
/// that closed would look like one that is gone, and could not start on that disk either.
async fn rest(cluster: &Arc<Cluster>, mut stopping: watch::Receiver<bool>) {
    if !cluster.rest().await {
        return;
    }
    let stores = async {
        while let Err(why) = cluster.try_to_write().await {
            debug!(why, "files cannot be written yet");
            tokio::time::sleep(RESTART_EVERY).await;
        }
    };
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = stores => info!("files can be written again"),
    }
}

fn ended_by_itself(stopped: Stopped) -> Result<Ended, ServeError> {
    match stopped {
        Stopped::Failed(why) => Ok(Ended::RaftStopped(why)),
        Stopped::Unfit(unfit) => Err(ServeError::Unfit(unfit)),
    }
}

async fn serve_grpc(
    incoming: Incoming,
    router: Arc<Router>,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let cluster = router.cluster().clone();
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .add_service(
            HaliteServer::new(SqlService::new(router, limits, Stopping(stopping.clone())))
                .max_decoding_message_size(limits.message_bytes_max)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            AdminServer::new(AdminService::new(cluster.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            PeerServer::new(PeerService::new(cluster, stopping.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .serve_with_incoming_shutdown(incoming, async move {
            // The sender lives as long as the node.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        })
        .await
}
