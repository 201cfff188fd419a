//! The snapshot of the cluster that calls route by.

use std::sync::Arc;

use halite_proto::v1 as wire;

use super::state::PeerKey;
use crate::link::Link;
use crate::route::{Candidate, Need, route};

/// What is known at one moment. Immutable; a change makes a new one.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) nodes: Vec<ViewNode>,
    /// Index of the primary, if it is known and connected.
    pub(crate) primary: Option<usize>,
    pub(crate) topology: wire::Topology,
}

pub(crate) struct ViewNode {
    pub(crate) key: PeerKey,
    pub(crate) addr: Arc<str>,
    /// 0 while unknown.
    pub(crate) node_id: u64,
    pub(crate) member: bool,
    /// The application has named an address of it.
    pub(crate) given: bool,
    pub(crate) link: Option<Arc<Link>>,
    /// Connections made, lost and not made so far.
    pub(crate) attempts: u64,
}

impl View {
    /// The node for the next try of a call. `tried` are the nodes to leave out; `hint` is where another node sent us.
    pub(crate) fn route(
        &self,
        need: Need,
        tried: &[PeerKey],
        hint: Option<&wire::NodeAddress>,
        random: u64,
    ) -> Option<usize> {
        route(need, self.nodes.len(), random, |index| {
            let node = &self.nodes[index];
            Candidate {
                up: node.link.is_some(),
                member: node.member,
                primary: self.primary == Some(index),
                named: matches!(need, Need::Member(id) if node.node_id == id),
                given: node.given,
                hinted: hint.is_some_and(|hint| node.is(hint)),
                tried: tried.contains(&node.key),
                outstanding: node.link.as_ref().map_or(0, |link| link.outstanding()),
            }
        })
    }

    /// The connected nodes.
    pub(crate) fn links(&self) -> impl Iterator<Item = (&ViewNode, &Arc<Link>)> {
        self.nodes
            .iter()
            .filter_map(|node| node.link.as_ref().map(|link| (node, link)))
    }
}

impl ViewNode {
    fn is(&self, address: &wire::NodeAddress) -> bool {
        (address.node_id != 0 && self.node_id == address.node_id) || *self.addr == *address.addr
    }
}
