//! The network between nodes, with faults.
//!
//! Every node listens at an address that nobody else is told; what it advertises is a listener of the proxy, which passes bytes on. One
//! listener serves all who call the node: who calls is found by the process that owns the other end of the connection (`caller`).
//! So each directed pair of nodes has [`Conditions`] of its own, and the nodes run as they are.
//!
//! A cut holds bytes back as a network does that drops packets: nobody is told, and what is held arrives after the cut unless somebody
//! has given up on the connection. It is not a lossy network to the last detail: the kernel of this machine completes the handshake of a
//! connection that is then held. [`crate::netns`] drops packets.

mod caller;
mod conditions;
mod connection;
mod link;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use halite::local_cluster::{LocalClusterOptions, LocalPlace, free_ports};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use caller::Caller;
pub use conditions::Conditions;
use connection::{Fate, Way, carry};
use link::Link;

/// Accepting fails when the process has too many files open, which passes.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// See the module. Everything it carries ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    places: BTreeMap<u64, LocalPlace>,
    network: Arc<Network>,
    tasks: Vec<JoinHandle<()>>,
}

/// What all connections share.
#[derive(Debug)]
struct Network {
    /// Where the directories of the nodes are: how their processes are known.
    dir: PathBuf,
    links: Mutex<BTreeMap<(Caller, Caller), Arc<Link>>>,
    connections: Mutex<Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    from: Caller,
    to: Caller,
    fate: watch::Sender<Fate>,
}

impl Proxy {
    /// Listeners for nodes 1 to `nodes` of the cluster in `dir`.
    ///
    /// # Errors
    /// Ports cannot be bound.
    pub async fn start(dir: &Path, nodes: u64) -> Result<Self> {
        let network = Arc::new(Network {
            dir: dir.to_owned(),
            links: Mutex::default(),
            connections: Mutex::default(),
        });
        let mut proxy = Self {
            places: BTreeMap::new(),
            network: network.clone(),
            tasks: Vec::new(),
        };
        for (id, port) in (1..=nodes).zip(free_ports(nodes)?) {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let place = LocalPlace {
                listen: Some(format!("127.0.0.1:{port}")),
                advertise: Some(listener.local_addr()?.to_string()),
                ..LocalPlace::default()
            };
            proxy.places.insert(id, place);
            let target = SocketAddr::from(([127, 0, 0, 1], port));
            let task = accept(network.clone(), listener, id, target);
            proxy.tasks.push(tokio::spawn(task));
        }
        Ok(proxy)
    }

    /// Makes the nodes of a cluster reach each other, and clients reach them, through this proxy.
    pub fn configure(&self, options: &mut LocalClusterOptions) {
        options.places.extend(self.places.clone());
    }

    /// Sets what happens to bytes on their way from one node to another, on connections there are and to come.
    pub fn set(&self, from: u64, to: u64, conditions: Conditions) {
        let (from, to) = (Caller::Node(from), Caller::Node(to));
        self.network.link(from, to).set(conditions);
    }

    /// The same for both directions.
    pub fn set_between(&self, a: u64, b: u64, conditions: Conditions) {
        self.set(a, b, conditions);
        self.set(b, a, conditions);
    }

    /// The same for every pair of nodes.
    pub fn set_all(&self, conditions: Conditions) {
        for &from in self.places.keys() {
            for &to in self.places.keys().filter(|&&to| to != from) {
                self.set(from, to, conditions);
            }
        }
    }

    /// Cuts a node off from all others, in both directions.
    pub fn isolate(&self, id: u64) {
        for &other in self.places.keys().filter(|&&other| other != id) {
            self.set_between(id, other, Conditions::cut());
        }
    }

    /// Bytes pass as they come again.
    pub fn heal(&self) {
        self.set_all(Conditions::default());
    }

    /// Resets every connection between nodes; both ends are told (RST). How many there were.
    pub fn reset_connections(&self) -> usize {
        self.network.end_connections(Fate::Reset)
    }

    /// Nothing passes on the connections there are between nodes, and nobody is told; new ones are not affected. How many there were.
    pub fn lose_connections(&self) -> usize {
        self.network.end_connections(Fate::Lost)
    }

    /// How many connections there are from one node to another.
    pub fn connections(&self, from: u64, to: u64) -> usize {
        let ends = (Caller::Node(from), Caller::Node(to));
        let mut open = lock(&self.network.connections);
        open.retain(|open| !open.fate.is_closed());
        open.iter()
            .filter(|open| (open.from, open.to) == ends)
            .count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // The connections have tasks of their own, which end with these.
        lock(&self.network.connections).clear();
    }
}

impl Network {
    fn link(&self, from: Caller, to: Caller) -> Arc<Link> {
        lock(&self.links).entry((from, to)).or_default().clone()
    }

    fn end_connections(&self, fate: Fate) -> usize {
        let mut ended = 0;
        for open in lock(&self.connections).iter() {
            let between_nodes = open.from != Caller::Client;
            if between_nodes && !open.fate.is_closed() && *open.fate.borrow() == Fate::Carried {
                open.fate.send_replace(fate);
                ended += 1;
            }
        }
        ended
    }

    async fn serve(self: Arc<Self>, inbound: TcpStream, to: u64, target: SocketAddr) -> Result<()> {
        let ends = (inbound.peer_addr()?, inbound.local_addr()?);
        let network = self.clone();
        let found = tokio::task::spawn_blocking(move || caller::find(&network.dir, ends.0, ends.1));
        let from = found
            .await?
            .context("the caller has hung up: nobody owns the other end")?;
        let to = Caller::Node(to);
        let way = Way {
            there: self.link(from, to),
            back: self.link(to, from),
        };
        let (fate, fated) = watch::channel(Fate::Carried);
        {
            let mut connections = lock(&self.connections);
            connections.retain(|open| !open.fate.is_closed());
            connections.push(Open { from, to, fate });
        }
        Ok(carry(inbound, target, way, fated).await?)
    }
}

async fn accept(network: Arc<Network>, listener: TcpListener, id: u64, target: SocketAddr) {
    loop {
        let Ok((inbound, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let network = network.clone();
        // A connection that cannot be carried is closed, as any network may do.
        tokio::spawn(async move { network.serve(inbound, id, target).await });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
