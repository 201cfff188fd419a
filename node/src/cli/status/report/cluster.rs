//! Which cluster the report is of, if the addresses lead to nodes of more than one.

use std::collections::{BTreeMap, BTreeSet};

use halite_client::{NodeStatus, Role};

use super::Told;

/// The cluster that shows a primary, else the one of which a majority of the voters answers, else the one of most nodes. Empty if no node knows
/// of a cluster yet.
pub(super) fn believed(told: &[Told]) -> String {
    let mut clusters: BTreeMap<&str, Shown> = BTreeMap::new();
    for status in told.iter().filter_map(|(_, told)| told.as_ref().ok()) {
        let Some(node) = status.node.as_ref().filter(|n| !n.cluster_id.is_empty()) else {
            continue;
        };
        let shown = clusters.entry(&node.cluster_id).or_default();
        shown.has_primary |= node.role() == Role::Primary;
        shown.nodes.insert(node.node_id);
        if let Some(topology) = status.topology.as_ref().filter(|t| t.term >= shown.term) {
            shown.term = topology.term;
            let voters = topology.members.iter().filter(|member| member.voter);
            shown.voters = voters.map(|member| member.node_id).collect();
        }
    }
    let best = clusters.iter().max_by_key(|(_, shown)| shown.weight());
    best.map(|(id, _)| (*id).to_owned()).unwrap_or_default()
}

/// The node belongs to another cluster than the believed one. A blank node belongs to none.
pub(super) fn is_stranger(node: &NodeStatus, believed: &str) -> bool {
    !node.cluster_id.is_empty() && node.cluster_id != believed
}

#[derive(Default)]
struct Shown {
    has_primary: bool,
    nodes: BTreeSet<u64>,
    term: u64,
    voters: BTreeSet<u64>,
}

impl Shown {
    fn weight(&self) -> (bool, bool, usize) {
        let majority = self.voters.intersection(&self.nodes).count() * 2 > self.voters.len();
        (self.has_primary, majority, self.nodes.len())
    }
}
