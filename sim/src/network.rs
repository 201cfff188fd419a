//! The simulated network as nodes and clients want it.

use std::io;
use std::net::SocketAddr;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use halite::cluster::Connector;
use halite::server::{Connection, Incoming, Listener};
use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};

/// Port of every node.
pub const PORT: u16 = 7000;

/// A node's connections to its peers, and theirs to it.
#[derive(Clone, Copy, Debug)]
pub struct SimNetwork;

/// A connection to what `uri` names.
pub async fn connect(uri: Uri) -> io::Result<TcpStream> {
    let host = uri.host().unwrap_or_default().to_owned();
    TcpStream::connect((host, uri.port_u16().unwrap_or(PORT))).await
}

impl Connector for SimNetwork {
    fn channel(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(service_fn(async |uri| {
            connect(uri).await.map(TokioIo::new)
        }))
    }
}

impl Listener for SimNetwork {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async move {
            let listener = TcpListener::bind(addr).await?;
            let connections = futures::stream::unfold(listener, async |listener| {
                let accepted = listener.accept().await;
                Some((
                    accepted.map(|(stream, _)| Connection::new(stream)),
                    listener,
                ))
            });
            Ok(connections.boxed())
        })
    }
}
