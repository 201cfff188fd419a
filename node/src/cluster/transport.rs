//! Connections to peers: one lazily made HTTP/2 channel per address and purpose, with keep-alive, deadlines and bounded messages.
//!
//! Owns how a connection is made; the simulation supplies its own [`Connector`]. Never retries: openraft and the callers decide.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1::admin_client::AdminClient;
use halite_proto::v1::halite_client::HaliteClient;
use halite_proto::v1::peer_client::PeerClient;
use parking_lot::Mutex;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::hearing::Hearing;
use super::identity::Identity;

/// Largest message between nodes: a chunk entry is at most 1 MiB, so this leaves room for a batch of them.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A dead peer that sends no RST is noticed within interval + timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(1000);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// What a channel is for: bulk transfers must not stand in the way of heartbeats, so each has its own connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Append,
    Control,
    Bulk,
    Forward,
}

/// How a node reaches a peer's address.
pub trait Connector: Send + Sync + 'static {
    /// A channel that connects when first used and again whenever it is lost.
    fn channel(&self, endpoint: Endpoint) -> Channel;
}

/// Plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn channel(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_lazy()
    }
}

/// Signs each call with who makes it and whom it means.
#[derive(Clone)]
pub(crate) struct Sign {
    identity: Arc<Identity>,
    to: u64,
}

impl Interceptor for Sign {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        self.identity.sign(self.to, request.metadata_mut())?;
        Ok(request)
    }
}

pub(crate) type Peer = PeerClient<InterceptedService<Channel, Sign>>;

pub(crate) struct Transport {
    identity: Arc<Identity>,
    connector: Arc<dyn Connector>,
    hearing: Arc<Hearing>,
    /// In order, so that they are also closed in an order that repeats.
    channels: Mutex<BTreeMap<(String, Purpose), Channel>>,
}

impl Transport {
    pub(crate) fn new(identity: Arc<Identity>, connector: Arc<dyn Connector>) -> Self {
        Self {
            identity,
            connector,
            hearing: Arc::default(),
            channels: Mutex::default(),
        }
    }

    fn channel(&self, addr: &str, purpose: Purpose) -> Result<Channel, Status> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(&(addr.to_owned(), purpose)) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))
            .map_err(|e| {
                Status::invalid_argument(format!(
                    "peer address is not host:port: addr={addr:?} ({e})"
                ))
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = self.connector.channel(endpoint);
        channels.insert((addr.to_owned(), purpose), channel.clone());
        Ok(channel)
    }

    pub(super) fn hearing(&self) -> &Arc<Hearing> {
        &self.hearing
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn peer(&self, node_id: u64, addr: &str, purpose: Purpose) -> Result<Peer, Status> {
        let sign = Sign {
            identity: self.identity.clone(),
            to: node_id,
        };
        Ok(
            PeerClient::with_interceptor(self.channel(addr, purpose)?, sign)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
    }

    /// The client service of another node: calls that only the primary can answer are handed on through it.
    pub(crate) fn halite(&self, addr: &str) -> Result<HaliteClient<Channel>, Status> {
        Ok(HaliteClient::new(self.channel(addr, Purpose::Forward)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub(crate) fn admin(&self, addr: &str) -> Result<AdminClient<Channel>, Status> {
        Ok(AdminClient::new(self.channel(addr, Purpose::Forward)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}
