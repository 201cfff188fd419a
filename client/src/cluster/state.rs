//! What is known of each node and of the topology, and how news change it. No I/O.

use std::sync::Arc;

use halite_proto::v1 as wire;

use super::view::{View, ViewNode};
use crate::link::Link;

/// A node this client keeps a connection to. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerKey(u64);

/// Where a topology comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The stream of one node, in the order it happened there.
    Watch,
    /// One answer of any node, maybe of one that lags.
    Poll,
}

#[derive(Default)]
pub(crate) struct State {
    peers: Vec<Peer>,
    topology: wire::Topology,
    next_key: u64,
    /// Term and id of the primary that was connected last.
    last_reached: (u64, u64),
}

struct Peer {
    key: PeerKey,
    addr: Arc<str>,
    /// The application named this address: it is kept even if no member has it.
    seed: bool,
    node_id: u64,
    link: Option<Arc<Link>>,
    attempts: u64,
    failure: Option<Arc<str>>,
}

impl State {
    pub(crate) fn add_seed(&mut self, addr: &str) {
        match self.peers.iter_mut().find(|peer| *peer.addr == *addr) {
            Some(peer) => peer.seed = true,
            None => self.add_peer(addr, 0, true),
        }
    }

    fn add_peer(&mut self, addr: &str, node_id: u64, seed: bool) {
        self.next_key += 1;
        self.peers.push(Peer {
            key: PeerKey(self.next_key),
            addr: addr.into(),
            seed,
            node_id,
            link: None,
            attempts: 0,
            failure: None,
        });
    }

    /// A connection was made. Refused if the node belongs to another cluster than the ones before it.
    pub(crate) fn link_up(
        &mut self,
        key: PeerKey,
        link: &Arc<Link>,
        status: &wire::StatusResponse,
    ) -> Result<(), Arc<str>> {
        let node = status.node.clone().unwrap_or_default();
        let known = &self.topology.cluster_id;
        if !known.is_empty() && !node.cluster_id.is_empty() && *known != node.cluster_id {
            let why: Arc<str> = format!(
                "node belongs to another cluster: expected={known} found={}",
                node.cluster_id
            )
            .into();
            self.link_down(key, Arc::clone(&why));
            return Err(why);
        }
        if let Some(peer) = self.peer_mut(key) {
            peer.node_id = node.node_id;
            peer.link = Some(Arc::clone(link));
            peer.attempts += 1;
            peer.failure = None;
        }
        if self.topology.cluster_id.is_empty() {
            self.topology.cluster_id = node.cluster_id;
        }
        if let Some(topology) = &status.topology {
            self.adopt(topology, Source::Poll);
        }
        self.follow_members();
        Ok(())
    }

    /// The connection ended, or could not be made. True if anybody should know.
    pub(crate) fn link_down(&mut self, key: PeerKey, why: Arc<str>) -> bool {
        match self.peer_mut(key) {
            Some(peer) => {
                let news = peer.link.take().is_some() || peer.attempts == 0;
                peer.attempts += 1;
                peer.failure = Some(why);
                news
            }
            None => false,
        }
    }

    pub(crate) fn forget_links(&mut self) {
        for peer in &mut self.peers {
            peer.link = None;
        }
    }

    /// Takes over `offered` if it is newer. True if anything changed.
    pub(crate) fn adopt(&mut self, offered: &wire::Topology, source: Source) -> bool {
        let known = &self.topology;
        let foreign = !known.cluster_id.is_empty()
            && !offered.cluster_id.is_empty()
            && known.cluster_id != offered.cluster_id;
        if foreign || offered.term < known.term {
            return false;
        }
        let mut next = offered.clone();
        if next.cluster_id.is_empty() {
            next.cluster_id = known.cluster_id.clone();
        }
        if offered.term == known.term && source == Source::Poll {
            // A node that lags behind within the term may know less than we do, never more about who leads it.
            if next.primary_id == 0 {
                next.primary_id = known.primary_id;
            }
            if !known.members.is_empty() {
                next.members = known.members.clone();
            }
        }
        if next.members.is_empty() {
            next.members = known.members.clone();
        }
        if next == *known {
            return false;
        }
        self.topology = next;
        self.follow_members();
        true
    }

    /// `by` is not the primary. If we thought it was, it knows better; where it points is only a hint for the call at hand.
    pub(crate) fn primary_denied(&mut self, by: PeerKey, hint: Option<&wire::NodeAddress>) -> bool {
        let Some(denier) = self.peers.iter().find(|peer| peer.key == by) else {
            return false;
        };
        let denier_id = denier.node_id;
        if denier_id == 0 || denier_id != self.topology.primary_id {
            return false;
        }
        self.topology.primary_id = hint
            .map(|hint| hint.node_id)
            .filter(|id| *id != denier_id)
            .unwrap_or(0);
        true
    }

    /// One peer per member; members that a seed reaches under another name need no second connection.
    fn follow_members(&mut self) {
        let members = self.topology.members.clone();
        for member in &members {
            if let Some(peer) = self
                .peers
                .iter_mut()
                .find(|peer| *peer.addr == *member.addr)
            {
                if peer.node_id == 0 {
                    peer.node_id = member.node_id;
                }
            } else if !member.addr.is_empty()
                && !self.peers.iter().any(|peer| peer.node_id == member.node_id)
            {
                self.add_peer(&member.addr, member.node_id, false);
            }
        }
        if !members.is_empty() {
            self.peers.retain(|peer| {
                peer.seed || members.iter().any(|member| member.node_id == peer.node_id)
            });
        }
    }

    pub(crate) fn view(&self) -> View {
        let members = &self.topology.members;
        let nodes: Vec<ViewNode> = self
            .peers
            .iter()
            .map(|peer| ViewNode {
                key: peer.key,
                addr: Arc::clone(&peer.addr),
                node_id: peer.node_id,
                member: members.is_empty()
                    || members.iter().any(|member| member.node_id == peer.node_id),
                link: peer.link.clone(),
                attempts: peer.attempts,
            })
            .collect();
        let primary_id = self.topology.primary_id;
        View {
            primary: nodes.iter().position(|node| {
                primary_id != 0 && node.node_id == primary_id && node.link.is_some()
            }),
            nodes,
            topology: self.topology.clone(),
        }
    }

    /// True once for each primary that can be reached after another one: the other nodes then give the writes back that wait with them. The first
    /// one is no news to them: they hand writes on to it, and a retry would be answered without the rows.
    pub(crate) fn leadership_moved(&mut self, view: &View) -> bool {
        let Some(primary) = view.primary else {
            return false;
        };
        let leads = (view.topology.term, view.nodes[primary].node_id);
        let before = std::mem::replace(&mut self.last_reached, leads);
        before != (0, 0) && before != leads
    }

    pub(crate) fn failures(&self) -> Vec<(Arc<str>, Option<Arc<str>>)> {
        self.peers
            .iter()
            .filter(|peer| peer.link.is_none())
            .map(|peer| (Arc::clone(&peer.addr), peer.failure.clone()))
            .collect()
    }

    fn peer_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.key == key)
    }
}
