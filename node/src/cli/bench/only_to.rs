//! Connections to one address only: for measuring one node with a client that would spread its calls over all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use tokio::net::TcpStream;
use tower::Service;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct OnlyTo {
    addr: Arc<str>,
}

impl OnlyTo {
    /// `addr` is `host:port`.
    pub(super) fn new(addr: &str) -> Self {
        Self { addr: addr.into() }
    }
}

impl Service<Uri> for OnlyTo {
    type Response = TcpStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let addr = Arc::clone(&self.addr);
        Box::pin(async move {
            if uri.authority().is_none_or(|wanted| *wanted != *addr) {
                return Err(io::Error::other("not the node that is measured"));
            }
            let stream = TcpStream::connect(&*addr).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_addresses_are_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let mut only = OnlyTo::new(&addr);
        let mut to = |addr: &str| only.call(format!("http://{addr}").parse().unwrap());
        assert!(to("127.0.0.1:1").await.is_err());
        assert!(to(&addr).await.is_ok());
    }
}
