//! How to reach a cluster and what to expect of it.

use std::time::Duration;

use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

use crate::connector::{BoxError, Connector};
use crate::options::Options;
use crate::{Client, Error, ReadLevel};

/// Sets up a [`Client`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `connect`"]
pub struct ClientBuilder {
    addresses: Vec<String>,
    options: Options,
    connector: Connector,
    seed: Option<u64>,
}

impl ClientBuilder {
    /// A client of the cluster that any of `addresses` (`host:port`) belongs to. The other members are found by themselves.
    pub fn new<I>(addresses: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            options: Options::default(),
            connector: Connector::tcp(),
            seed: None,
        }
    }

    /// Longest wait for one connection. Default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Longest wait for the answer to one try of a call. Default 5 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.options.call_timeout = timeout;
        self
    }

    /// Longest time a call may take with all its retries. Default 10 s.
    pub fn retry_deadline(mut self, deadline: Duration) -> Self {
        self.options.retry_deadline = deadline;
        self
    }

    /// How fresh reads are where nothing else is said. Default [`ReadLevel::Session`].
    pub fn read_level(mut self, level: ReadLevel) -> Self {
        self.options.read_level = level;
        self
    }

    /// Reads that any member may answer go to the addresses given here as long as one of them can be reached, instead of being spread over all
    /// members: for tools that somebody points at a node. Default false.
    pub fn prefer_given_addresses(mut self, prefer: bool) -> Self {
        self.options.prefers_given = prefer;
        self
    }

    /// Calls that may be in flight at once; further callers wait. Default 4096, at least 1.
    pub fn in_flight_max(mut self, calls: usize) -> Self {
        self.options.in_flight_max = calls.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// Largest result that is buffered when a node sends it in parts. Default 256 MiB.
    pub fn result_bytes_max(mut self, bytes: usize) -> Self {
        self.options.result_bytes_max = bytes;
        self
    }

    /// Connections are made by `service` instead of TCP: it gets `http://host:port` and gives the bytes of a connection to there.
    pub fn connector<S>(mut self, service: S) -> Self
    where
        S: Service<Uri> + Clone + Send + Sync + 'static,
        S::Response: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        self.connector = Connector::from_service(service);
        self
    }

    /// Draws the client's id, its jitter and its choice of nodes from `seed`, so that a run can be repeated. Two clients of one cluster
    /// must never have the same seed: the id is what tells their writes apart.
    pub fn rng_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Connects. Succeeds as soon as one address answers.
    ///
    /// Errors with [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) without a usable address and with
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), naming each address and why it failed, if none answers.
    pub async fn connect(self) -> Result<Client, Error> {
        let addresses: Vec<String> = self
            .addresses
            .iter()
            .map(|address| address.trim())
            .map(|address| {
                address
                    .strip_prefix("http://")
                    .unwrap_or(address)
                    .trim_end_matches('/')
                    .to_owned()
            })
            .collect();
        if addresses.is_empty() {
            return Err(Error::invalid("no address given"));
        }
        for address in &addresses {
            check(address)?;
        }
        Client::start(addresses, self.options, self.connector, self.seed).await
    }
}

fn check(address: &str) -> Result<(), Error> {
    let uri: Option<Uri> = format!("http://{address}").parse().ok();
    match uri {
        Some(uri)
            if uri.host().is_some_and(|host| !host.is_empty())
                && uri.port_u16().is_some()
                && uri.path() == "/" =>
        {
            Ok(())
        }
        _ => Err(Error::invalid(format!(
            "address is not host:port: addr={address}"
        ))),
    }
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("addresses", &self.addresses)
            .field("options", &self.options)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
