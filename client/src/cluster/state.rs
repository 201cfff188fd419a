//! What is known of each node and of the topology, and how news change it. No I/O.

use std::sync::Arc;

use halite_proto::v1 as wire;

use super::news::{Known, Source};
use super::trust::{Told, Trust, Verdict, decide};
use super::view::{View, ViewNode};
use crate::link::Link;

/// A node this client keeps a connection to. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerKey(u64);

#[derive(Default)]
pub(crate) struct State {
    peers: Vec<Peer>,
    known: Known,
    next_key: u64,
    /// Term and id of the primary that was connected last.
    last_reached: (u64, u64),
    /// The cluster that is believed in; links to other clusters are not used.
    trust: Option<Trust>,
}

/// What became of a connection that was made.
pub(crate) struct Linked {
    /// The node belongs to another cluster than the one that is believed in.
    pub(crate) accepted: Result<(), Arc<str>>,
    /// Links that turned out to lead to another cluster, and why they are given up.
    pub(crate) strangers: Vec<(Arc<Link>, Arc<str>)>,
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
    /// What it said when it was connected last; a node that is not believed says something, too.
    told: Option<Told>,
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
            told: None,
        });
    }

    /// A connection was made. It is used once its cluster is believed in, and refused if another one is.
    pub(crate) fn link_up(
        &mut self,
        key: PeerKey,
        link: &Arc<Link>,
        status: &wire::StatusResponse,
    ) -> Linked {
        let told = Told::of(status);
        let node_id = told.node_id;
        if let Some(peer) = self.peer_mut(key) {
            // One that takes no part may be a copy that runs elsewhere under the id of a member: whom the member's address leads to decides.
            peer.node_id = told.member_id();
            peer.link = Some(Arc::clone(link));
            peer.attempts += 1;
            peer.failure = None;
            peer.told = Some(told);
        }
        let mut strangers = self.judge();
        let refused = strangers
            .iter()
            .position(|(stranger, _)| Arc::ptr_eq(stranger, link))
            .map(|at| strangers.swap_remove(at).1);
        if refused.is_none()
            && self.is_usable(key)
            && let Some(topology) = &status.topology
        {
            self.adopt(topology, node_id, Source::Poll);
        }
        self.follow_members();
        Linked {
            accepted: refused.map_or(Ok(()), Err),
            strangers,
        }
    }

    /// Decides anew which cluster is believed in, and drops the links to others: these.
    fn judge(&mut self) -> Vec<(Arc<Link>, Arc<str>)> {
        let told: Vec<&Told> = self.peers.iter().filter_map(|p| p.told.as_ref()).collect();
        let verdict = decide(self.trust.as_ref(), &told, self.all_asked());
        let Verdict::Trusted(trust) = verdict else {
            return Vec::new();
        };
        let known = self.trust.replace(trust.clone());
        if known.is_none_or(|known| known.cluster_id != trust.cluster_id) {
            // What others said of their cluster says nothing of this one.
            self.known = Known::default();
            self.known.topology.cluster_id = trust.cluster_id.clone();
            self.last_reached = (0, 0);
            let believed: Vec<(wire::Topology, u64)> = self
                .peers
                .iter()
                .filter(|peer| peer.link.is_some())
                .filter_map(|peer| peer.told.as_ref())
                .filter(|told| told.cluster_id == trust.cluster_id)
                .map(|told| (told.topology.clone(), told.node_id))
                .collect();
            for (topology, by) in believed {
                self.adopt(&topology, by, Source::Poll);
            }
        }
        let mut strangers = Vec::new();
        for peer in &mut self.peers {
            let Some(told) = &peer.told else {
                continue;
            };
            if told.cluster_id.is_empty() || told.cluster_id == trust.cluster_id {
                continue;
            }
            let Some(link) = peer.link.take() else {
                continue;
            };
            let why: Arc<str> = format!(
                "node belongs to another cluster: expected={} found={}",
                trust.cluster_id, told.cluster_id
            )
            .into();
            tracing::warn!(addr = &*peer.addr, "{why}");
            peer.failure = Some(Arc::clone(&why));
            // Its id is that of a node of its own cluster.
            peer.node_id = 0;
            strangers.push((link, why));
        }
        self.follow_members();
        strangers
    }

    /// The node belongs to the cluster that is believed in, as far as it says.
    fn is_usable(&self, key: PeerKey) -> bool {
        let peer = self.peers.iter().find(|peer| peer.key == key);
        peer.is_some_and(|peer| self.believes(peer))
    }

    fn believes(&self, peer: &Peer) -> bool {
        let said = peer.told.as_ref().map_or("", |told| &told.cluster_id);
        let trusted = self.trust.as_ref().map_or("", |trust| &trust.cluster_id);
        said.is_empty() || said == trusted
    }

    /// The addresses lead to several clusters that could each be meant.
    pub(crate) fn conflict(&self) -> Option<Arc<str>> {
        let told: Vec<&Told> = self.peers.iter().filter_map(|p| p.told.as_ref()).collect();
        let undecided = self.trust.is_none();
        match decide(None, &told, undecided && self.all_asked()) {
            Verdict::Conflict(ids) => {
                let clusters: Vec<String> = ids.iter().map(|id| self.told_by(id)).collect();
                Some(
                    format!(
                        "the addresses lead to {} clusters, and nothing tells which one is meant: {}. Leave out the addresses of the others",
                        ids.len(),
                        clusters.join("; ")
                    )
                    .into(),
                )
            }
            _ => None,
        }
    }

    /// A cluster, and who told of it.
    fn told_by(&self, cluster_id: &str) -> String {
        let of_it = |peer: &&Peer| {
            let told = peer.told.as_ref();
            told.is_some_and(|told| told.cluster_id == cluster_id)
        };
        let peers = self.peers.iter().filter(of_it);
        let addrs: Vec<&str> = peers.map(|peer| &*peer.addr).collect();
        format!("cluster {cluster_id} at {}", addrs.join(", "))
    }

    /// A cluster is believed in.
    pub(crate) fn is_decided(&self) -> bool {
        self.trust.is_some()
    }

    fn all_asked(&self) -> bool {
        self.peers.iter().all(|peer| peer.attempts > 0)
    }

    /// The connection ended, or could not be made. True if anybody should know.
    pub(crate) fn link_down(&mut self, key: PeerKey, why: Arc<str>) -> bool {
        let Some(peer) = self.peer_mut(key) else {
            return false;
        };
        let news = peer.link.take().is_some() || peer.attempts == 0;
        peer.attempts += 1;
        peer.failure = Some(why);
        peer.told = None;
        news
    }

    /// Nobody is believed yet, and the last address that was waited for may just have failed: the links to other clusters than the one that is
    /// believed in from now on.
    pub(crate) fn judge_if_undecided(&mut self) -> Vec<(Arc<Link>, Arc<str>)> {
        if self.trust.is_some() {
            return Vec::new();
        }
        self.judge()
    }

    pub(crate) fn forget_links(&mut self) {
        for peer in &mut self.peers {
            peer.link = None;
        }
    }

    /// Takes over what of `offered` is newer; the node `by` told it. True if anything changed.
    pub(crate) fn adopt(&mut self, offered: &wire::Topology, by: u64, source: Source) -> bool {
        if !self.known.hear(offered, by, source) {
            return false;
        }
        let cluster_id = &self.known.topology.cluster_id;
        if self.trust.is_none() && !cluster_id.is_empty() {
            // The cluster was formed while this client was connected to it.
            self.trust = Some(Trust {
                cluster_id: cluster_id.clone(),
                firm: false,
            });
        }
        self.follow_members();
        true
    }

    /// What the node with this key told on its stream, or when it was asked.
    pub(crate) fn told(&mut self, by: PeerKey, offered: &wire::Topology, source: Source) -> bool {
        let by = self.peers.iter().find(|peer| peer.key == by);
        let by = by.map_or(0, |peer| peer.node_id);
        self.adopt(offered, by, source)
    }

    /// `by` is not the primary. If we thought it was, it knows better; where it points is only a hint for the call at hand.
    pub(crate) fn primary_denied(&mut self, by: PeerKey, hint: Option<&wire::NodeAddress>) -> bool {
        let Some(denier) = self.peers.iter().find(|peer| peer.key == by) else {
            return false;
        };
        let denier_id = denier.node_id;
        if denier_id == 0 || denier_id != self.known.topology.primary_id {
            return false;
        }
        self.known.topology.primary_id = hint
            .map(|hint| hint.node_id)
            .filter(|id| *id != denier_id)
            .unwrap_or(0);
        true
    }

    /// One peer per member; members that a seed reaches under another name need no second connection.
    fn follow_members(&mut self) {
        let members = self.known.topology.members.clone();
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

    /// The application has named an address of this node: this one, or another that leads to it.
    fn is_given(&self, peer: &Peer) -> bool {
        let same = |seed: &Peer| peer.node_id != 0 && seed.node_id == peer.node_id;
        peer.seed || self.peers.iter().any(|seed| seed.seed && same(seed))
    }

    pub(crate) fn view(&self) -> View {
        let members = &self.known.topology.members;
        let nodes: Vec<ViewNode> = self
            .peers
            .iter()
            .map(|peer| ViewNode {
                given: self.is_given(peer),
                key: peer.key,
                addr: Arc::clone(&peer.addr),
                node_id: peer.node_id,
                member: members.is_empty()
                    || members.iter().any(|member| member.node_id == peer.node_id),
                link: peer.link.clone().filter(|_| self.believes(peer)),
                attempts: peer.attempts,
            })
            .collect();
        let primary_id = self.known.topology.primary_id;
        View {
            primary: nodes.iter().position(|node| {
                primary_id != 0 && node.node_id == primary_id && node.link.is_some()
            }),
            nodes,
            topology: self.known.topology.clone(),
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
