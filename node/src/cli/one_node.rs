//! [`OneNode`]: connects a client to one node and to no other, so that a question about that node is answered by it, and a measurement of it
//! does not spread over all. Used by `demo` and `bench`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use tokio::net::TcpStream;
use tower::Service;

/// Connections to `host:port` are made, all others refused.
#[derive(Debug, Clone)]
pub(crate) struct OneNode {
    addr: String,
}

impl OneNode {
    pub(crate) fn new(addr: impl Into<String>) -> Self {
        Self { addr: addr.into() }
    }
}

impl Service<Uri> for OneNode {
    type Response = TcpStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let addr = self.addr.clone();
        let wanted = uri.authority().is_some_and(|other| other.as_str() == addr);
        Box::pin(async move {
            if !wanted {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    "not the node that is asked",
                ));
            }
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_one_node_is_reached() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let mut connector = OneNode::new(&addr);
        let uri = |addr: &str| format!("http://{addr}").parse::<Uri>().unwrap();
        assert!(connector.call(uri(&addr)).await.is_ok());
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = other.local_addr().unwrap().to_string();
        let refused = connector.call(uri(&other)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
