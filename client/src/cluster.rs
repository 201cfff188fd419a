//! What the client knows of the cluster, kept up to date by its background tasks.
//!
//! [`state`] is the knowledge and its rules, [`news`] whose word counts, [`trust`] which cluster is believed (all pure), [`view`] the snapshot that calls route by, [`peer`] keeps one node connected,
//! [`watcher`] follows the topology, [`supervisor`] runs a task per known node. Calls only read the view.

mod news;
mod peer;
mod state;
mod supervisor;
#[cfg(test)]
mod tests;
mod trust;
mod view;
mod watcher;

use std::sync::Arc;

use bytes::Bytes;
use halite_proto::v1 as wire;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::Error;
use crate::call_ledger::CallLedger;
use crate::connector::Connector;
use crate::link::Link;
use crate::options::Options;
use crate::random::Random;
use crate::stats::{ClientStats, Stats};
use news::Source;
pub(crate) use state::PeerKey;
use state::{Linked, State};
pub(crate) use view::View;

/// Shared by all handles of one client and by its tasks.
pub(crate) struct Cluster {
    pub(crate) options: Options,
    pub(crate) client_id: Bytes,
    pub(crate) ledger: Arc<CallLedger>,
    pub(crate) in_flight: Semaphore,
    pub(crate) random: Random,
    pub(crate) stats: Arc<Stats>,
    connector: Connector,
    state: Mutex<State>,
    view: watch::Sender<Arc<View>>,
    /// A call found that what is known of the primary is wrong.
    doubt: Notify,
}

impl Cluster {
    pub(crate) fn new(
        options: Options,
        connector: Connector,
        seed: u64,
        addresses: &[String],
    ) -> Arc<Self> {
        let random = Random::from_seed(seed);
        let client_id: Vec<u8> =
            [random.next().to_be_bytes(), random.next().to_be_bytes()].concat();
        let mut state = State::default();
        for address in addresses {
            state.add_seed(address);
        }
        let view = watch::Sender::new(Arc::new(state.view()));
        Arc::new(Self {
            client_id: client_id.into(),
            ledger: CallLedger::new(),
            in_flight: Semaphore::new(options.in_flight_max),
            random,
            stats: Arc::default(),
            connector,
            state: Mutex::new(state),
            view,
            doubt: Notify::new(),
            options,
        })
    }

    /// What is known now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// To wait for news.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// A node said that it is not the primary, or no member at all, and maybe who is primary.
    pub(crate) fn primary_denied(&self, by: PeerKey, hint: Option<&wire::NodeAddress>) {
        self.change(|state| state.primary_denied(by, hint));
        self.doubt.notify_one();
    }

    pub(crate) fn stats(&self) -> ClientStats {
        let stats = &self.stats;
        ClientStats {
            calls_sent: stats.calls_sent.get(),
            messages_sent: stats.messages_sent.get(),
            messages_received: stats.messages_received.get(),
            retries: stats.retries.get(),
            connections: stats.connections.get(),
            calls_in_flight: (self.options.in_flight_max - self.in_flight.available_permits())
                as u64,
        }
    }

    /// Every known address that is not connected, and why.
    pub(crate) fn failures(&self) -> Vec<(Arc<str>, Option<Arc<str>>)> {
        self.state.lock().failures()
    }

    /// Connects to `address` aside from the members that are followed, for a call to exactly that node.
    pub(crate) async fn connect_channel(
        &self,
        address: &str,
    ) -> Result<tonic::transport::Channel, Error> {
        peer::connect_channel(self, address).await.map_err(|why| {
            Error::unavailable(format!(
                "cannot connect to the node: addr={address} reason={why}"
            ))
        })
    }

    /// All connections are given up, for good: the tasks that would make new ones have ended.
    pub(crate) fn disconnect(&self) {
        self.change(|state| {
            state.forget_links();
            true
        });
    }

    fn link_up(
        &self,
        key: PeerKey,
        link: &Arc<Link>,
        status: &wire::StatusResponse,
    ) -> Result<(), Arc<str>> {
        self.stats.connections.add(1);
        let mut linked = None;
        self.change(|state| {
            linked = Some(state.link_up(key, link, status));
            true
        });
        let Some(Linked {
            accepted,
            strangers,
        }) = linked
        else {
            return Ok(());
        };
        for (stranger, why) in strangers {
            stranger.close(&why);
        }
        accepted
    }

    /// The addresses lead to several clusters, and nothing tells which one is meant.
    pub(crate) fn conflict(&self) -> Option<Arc<str>> {
        self.state.lock().conflict()
    }

    fn link_down(&self, key: PeerKey, why: Arc<str>) {
        let mut strangers = Vec::new();
        self.change(|state| {
            let before = state.is_decided();
            let news = state.link_down(key, why);
            strangers = state.judge_if_undecided();
            news || state.is_decided() != before
        });
        for (stranger, why) in strangers {
            stranger.close(&why);
        }
    }

    fn told(&self, by: PeerKey, topology: &wire::Topology, source: Source) {
        self.change(|state| state.told(by, topology, source));
    }

    /// Applies a change and publishes it. Writes that wait at a node that does not lead any more are given back.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state.lock();
        if !change(&mut state) {
            return;
        }
        let view = Arc::new(state.view());
        let moved = state.leadership_moved(&view);
        // Sent under the lock: views arrive in the order of the changes.
        self.view.send_replace(Arc::clone(&view));
        drop(state);
        let Some(primary) = view.primary.filter(|_| moved) else {
            return;
        };
        let why: Arc<str> = "another node leads now".into();
        for (index, node) in view.nodes.iter().enumerate() {
            if let Some(link) = node.link.as_ref().filter(|_| index != primary) {
                link.release_writes(&why);
            }
        }
    }
}

/// The background tasks of one client. Dropping it ends them.
pub(crate) struct Tasks {
    abort: Vec<AbortHandle>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Tasks {
    pub(crate) fn start(cluster: &Arc<Cluster>) -> Self {
        let handles = vec![
            tokio::spawn(supervisor::run(Arc::clone(cluster))),
            tokio::spawn(watcher::run(Arc::clone(cluster))),
        ];
        Self {
            abort: handles.iter().map(JoinHandle::abort_handle).collect(),
            handles: Mutex::new(handles),
        }
    }

    /// Ends the tasks and waits until they have.
    pub(crate) async fn stop(&self) {
        self.abort.iter().for_each(AbortHandle::abort);
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles {
            // The only error is the cancellation just asked for, or a panic that was reported already.
            let _ = handle.await;
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.abort.iter().for_each(AbortHandle::abort);
    }
}
