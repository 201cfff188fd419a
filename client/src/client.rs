//! One application's connection to a cluster.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Cluster, Tasks};
use crate::connector::Connector;
use crate::options::Options;
use crate::session_token::SessionToken;
use crate::{Admin, ClientBuilder, ClientStats, Database, Error, TopologyWatch};

/// How long a client that is connected waits for its other addresses to answer as well.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(100);

/// A connection to a cluster: follows its topology, sends each call to the right node, retries what may be retried.
///
/// Cheap to clone; clones share connections and the session. When the last handle is dropped, the connections end.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    pub(crate) token: SessionToken,
}

pub(crate) struct Core {
    pub(crate) cluster: Arc<Cluster>,
    tasks: Tasks,
}

impl Client {
    /// Connects to the cluster that any of `addresses` (`host:port`) belongs to, with the default settings.
    ///
    /// Errors as [`ClientBuilder::connect`] does.
    pub async fn connect<I>(addresses: I) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        ClientBuilder::new(addresses).connect().await
    }

    /// To set more than the addresses.
    pub fn builder<I>(addresses: I) -> ClientBuilder
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        ClientBuilder::new(addresses)
    }

    pub(crate) async fn start(
        addresses: Vec<String>,
        options: Options,
        connector: Connector,
        seed: Option<u64>,
    ) -> Result<Self, Error> {
        let seed = seed.unwrap_or_else(rand::random);
        let cluster = Cluster::new(options, connector, seed, &addresses);
        let mut news = cluster.subscribe();
        let client = Self {
            core: Arc::new(Core {
                tasks: Tasks::start(&cluster),
                cluster,
            }),
            token: SessionToken::default(),
        };
        let settled = news
            .wait_for(|view| {
                view.links().next().is_some() || view.nodes.iter().all(|node| node.attempts > 0)
            })
            .await;
        let settled = settled.is_ok_and(|view| view.links().next().is_some());
        if settled {
            // Addresses of two clusters show when the others have answered, too; a slow one is not waited for.
            let all_asked = news.wait_for(|view| view.nodes.iter().all(|node| node.attempts > 0));
            let _ = tokio::time::timeout(OTHERS_TIMEOUT, all_asked).await;
        }
        if let Some(conflict) = client.core.cluster.conflict() {
            client.close().await;
            return Err(Error::invalid(conflict.to_string()));
        }
        if settled {
            return Ok(client);
        }
        let reasons: Vec<String> = client
            .core
            .cluster
            .failures()
            .into_iter()
            .map(|(addr, why)| format!("{addr}=\"{}\"", why.as_deref().unwrap_or("not tried")))
            .collect();
        client.close().await;
        Err(Error::unavailable(format!(
            "no address answers: {}",
            reasons.join(" ")
        )))
    }

    /// A handle for the database of this name. The name is not checked before the first call.
    pub fn database(&self, name: impl Into<String>) -> Database {
        Database::new(self.clone(), name.into())
    }

    /// Operations on the cluster itself.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// The same connections with a session of its own, which has seen nothing yet.
    pub fn session(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            token: SessionToken::default(),
        }
    }

    /// How far this session has seen the cluster (a Raft index), to be handed to another process.
    pub fn token(&self) -> u64 {
        self.token.get()
    }

    /// From now on this session sees at least what `token` stands for. Never goes back.
    pub fn observe_token(&self, token: u64) {
        self.token.observe(token);
    }

    /// The topology now, and again whenever it changes.
    pub fn watch_topology(&self) -> TopologyWatch {
        TopologyWatch::new(self.clone())
    }

    /// What this client has done so far.
    pub fn stats(&self) -> ClientStats {
        self.core.cluster.stats()
    }

    /// The 16 random bytes that tell this client's writes from those of others.
    pub fn id(&self) -> &[u8] {
        &self.core.cluster.client_id
    }

    /// Ends all connections and waits until they have. Calls in flight on clones fail.
    pub async fn close(&self) {
        self.core.cluster.in_flight.close();
        self.core.tasks.stop().await;
        self.core.cluster.disconnect();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.core.cluster.view();
        let nodes: Vec<_> = view.links().map(|(node, _)| &*node.addr).collect();
        f.debug_struct("Client")
            .field("connected", &nodes)
            .field("token", &self.token())
            .finish_non_exhaustive()
    }
}
