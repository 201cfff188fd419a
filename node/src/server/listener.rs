//! [`Listener`]: where the connections to a node come from.
//!
//! Owns the seam and its real form; the simulation puts its own network behind it. Called by `server` only.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

/// What bytes travel over.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection from a client or a peer.
pub struct Connection(Box<dyn Bytes>);

impl Connection {
    /// Over anything that carries bytes both ways.
    pub fn new(bytes: impl Bytes + 'static) -> Self {
        Self(Box::new(bytes))
    }
}

/// Connections as they arrive.
pub type Incoming = BoxStream<'static, io::Result<Connection>>;

/// Takes the address that a node listens on.
pub trait Listener: Send + Sync {
    /// Listens on `addr` until the stream is dropped.
    ///
    /// # Errors
    /// The operating system's: somebody else has the port, or the address is not this machine's.
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Incoming>>;
}

/// Plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpPorts;

impl Listener for TcpPorts {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async move {
            let listener = TcpListener::bind(addr).await?;
            let connections = TcpListenerStream::new(listener).map(|stream| {
                let stream = stream?;
                // A connection that is gone already says so when it is read.
                let _ = stream.set_nodelay(true);
                Ok(Connection::new(stream))
            });
            Ok(connections.boxed())
        })
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
