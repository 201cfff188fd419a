//! The topology as this client learns of it.

use std::sync::Arc;

use halite_proto::v1::Topology;
use tokio::sync::watch;

use crate::Client;
use crate::cluster::View;

/// The topology now, and again whenever it changes.
pub struct TopologyWatch {
    views: watch::Receiver<Arc<View>>,
    last: Option<Topology>,
    client: Client,
}

impl TopologyWatch {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            views: client.core.cluster.subscribe(),
            last: None,
            client,
        }
    }

    /// The topology as it is known now.
    pub fn current(&self) -> Topology {
        self.client.core.cluster.view().topology.clone()
    }

    /// At first the topology as it is known now, then the next one each time it changes. Changes in between may be skipped.
    pub async fn next(&mut self) -> Topology {
        loop {
            let topology = self.views.borrow_and_update().topology.clone();
            if self.last.as_ref() != Some(&topology) {
                self.last = Some(topology.clone());
                return topology;
            }
            if self.views.changed().await.is_err() {
                // The sender lives as long as the client, which this holds.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until a primary is known and connected; its topology.
    pub async fn primary(&mut self) -> Topology {
        let known = self.views.wait_for(|view| view.primary.is_some()).await;
        let topology = known.ok().map(|view| view.topology.clone());
        match topology {
            Some(topology) => topology,
            None => std::future::pending().await,
        }
    }
}

impl std::fmt::Debug for TopologyWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopologyWatch")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
