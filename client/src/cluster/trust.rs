//! Which cluster a client speaks with, if its addresses lead to nodes of more than one. Pure.
//!
//! A node that was left over from an older cluster still answers, and reads from it would be reads from long ago. So an answer counts only from
//! the cluster that can show a primary or a majority of its voters; without either, from the one that more nodes tell of.

use std::collections::{BTreeMap, BTreeSet};

use halite_proto::v1 as wire;

/// What a node told of itself when it was asked last.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) cluster_id: String,
    pub(super) node_id: u64,
    pub(super) is_primary: bool,
    /// Stopped, or removed.
    pub(super) takes_no_part: bool,
    pub(super) topology: wire::Topology,
}

/// The cluster that is believed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    pub(super) cluster_id: String,
    /// It has shown a primary or a majority: nothing else is believed any more.
    pub(super) firm: bool,
}

/// What follows from what was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody is believed yet.
    Undecided,
    Trusted(Trust),
    /// The addresses lead to these clusters, and nothing tells which one is meant.
    Conflict(BTreeSet<String>),
}

impl Told {
    /// As which member it serves; 0 if it serves nobody.
    pub(super) fn member_id(&self) -> u64 {
        if self.takes_no_part { 0 } else { self.node_id }
    }

    pub(super) fn of(status: &wire::StatusResponse) -> Self {
        let node = status.node.clone().unwrap_or_default();
        let topology = status.topology.clone().unwrap_or_default();
        Self {
            takes_no_part: matches!(node.role(), wire::Role::Stopped | wire::Role::Removed),
            is_primary: node.role() == wire::Role::Primary
                || (topology.primary_id != 0 && topology.primary_id == node.node_id),
            cluster_id: node.cluster_id,
            node_id: node.node_id,
            topology,
        }
    }
}

/// `all_asked`: every address has answered or failed once.
pub(super) fn decide(now: Option<&Trust>, told: &[&Told], all_asked: bool) -> Verdict {
    if let Some(trust) = now.filter(|trust| trust.firm) {
        return Verdict::Trusted(trust.clone());
    }
    let mut clusters: BTreeMap<&str, Vec<&Told>> = BTreeMap::new();
    for told in told.iter().filter(|told| !told.cluster_id.is_empty()) {
        clusters.entry(&told.cluster_id).or_default().push(told);
    }
    let firm: Vec<&str> = clusters
        .iter()
        .filter(|(_, nodes)| is_firm(nodes))
        .map(|(id, _)| *id)
        .collect();
    let names = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let trusted = |id: &str, firm| {
        Verdict::Trusted(Trust {
            cluster_id: id.to_owned(),
            firm,
        })
    };
    match (&firm[..], now) {
        ([id], _) => return trusted(id, true),
        ([_, _, ..], _) => return Verdict::Conflict(names(&firm)),
        ([], Some(trust)) => return Verdict::Trusted(trust.clone()),
        ([], None) => {}
    }
    if !all_asked {
        return Verdict::Undecided;
    }
    let most = clusters.values().map(Vec::len).max().unwrap_or(0);
    let largest: Vec<&str> = clusters
        .iter()
        .filter(|(_, nodes)| nodes.len() == most)
        .map(|(id, _)| *id)
        .collect();
    match &largest[..] {
        [] => Verdict::Undecided,
        [id] => trusted(id, false),
        _ => Verdict::Conflict(names(&largest)),
    }
}

/// A primary is among them, or they are a majority of the voters that the newest of them knows.
fn is_firm(nodes: &[&Told]) -> bool {
    let newest = nodes.iter().max_by_key(|told| told.topology.term);
    let voters: BTreeSet<u64> = newest.map_or_else(BTreeSet::new, |told| {
        let members = told.topology.members.iter();
        members.filter(|m| m.voter).map(|m| m.node_id).collect()
    });
    let answering: BTreeSet<u64> = nodes.iter().map(|told| told.node_id).collect();
    let majority = voters.intersection(&answering).count() * 2 > voters.len();
    majority || nodes.iter().any(|told| told.is_primary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cluster_id: &str, node_id: u64, voters: &[u64], primary_id: u64) -> Told {
        let topology = wire::Topology {
            term: 1,
            primary_id,
            cluster_id: cluster_id.to_owned(),
            members: voters
                .iter()
                .map(|id| wire::MemberInfo {
                    node_id: *id,
                    addr: format!("node{id}:7001"),
                    voter: true,
                })
                .collect(),
            ..wire::Topology::default()
        };
        Told {
            cluster_id: cluster_id.to_owned(),
            node_id,
            is_primary: primary_id == node_id,
            takes_no_part: false,
            topology,
        }
    }

    fn trust(id: &str, firm: bool) -> Trust {
        Trust {
            cluster_id: id.to_owned(),
            firm,
        }
    }

    #[test]
    fn a_primary_or_a_majority_is_believed_at_once() {
        let follower = told("a", 2, &[1, 2, 3], 1);
        let primary = told("a", 1, &[1, 2, 3], 1);
        let other = told("a", 3, &[1, 2, 3], 0);
        assert_eq!(decide(None, &[&follower], false), Verdict::Undecided);
        let firm = Verdict::Trusted(trust("a", true));
        assert_eq!(decide(None, &[&primary], false), firm);
        assert_eq!(decide(None, &[&follower, &other], false), firm);
    }

    #[test]
    fn a_node_left_over_from_an_older_cluster_is_not_believed_beside_the_cluster() {
        let stranger = told("old", 3, &[1, 2, 3], 0);
        let (one, two) = (told("new", 1, &[1, 2, 3], 1), told("new", 2, &[1, 2, 3], 1));
        let firm = Verdict::Trusted(trust("new", true));
        assert_eq!(decide(None, &[&stranger, &one], false), firm);
        assert_eq!(decide(None, &[&stranger, &two], false), Verdict::Undecided);
        // It was the only one that answered, and then the others came.
        let soft = trust("old", false);
        assert_eq!(
            decide(None, &[&stranger], true),
            Verdict::Trusted(soft.clone())
        );
        assert_eq!(
            decide(Some(&soft), &[&stranger, &two], true),
            Verdict::Trusted(soft.clone())
        );
        assert_eq!(decide(Some(&soft), &[&stranger, &two, &one], true), firm);
    }

    #[test]
    fn what_was_firm_once_stays() {
        let other = told("b", 1, &[1], 1);
        let now = trust("a", true);
        assert_eq!(
            decide(Some(&now), &[&other], true),
            Verdict::Trusted(now.clone())
        );
    }

    #[test]
    fn addresses_of_two_clusters_are_a_conflict() {
        let (a, b) = (told("a", 1, &[1], 1), told("b", 1, &[1], 1));
        let both = Verdict::Conflict(["a", "b"].map(str::to_owned).into());
        assert_eq!(decide(None, &[&a, &b], false), both);
        let (a, b) = (told("a", 1, &[1, 2, 3], 0), told("b", 2, &[1, 2, 3], 0));
        assert_eq!(decide(None, &[&a, &b], false), Verdict::Undecided);
        assert_eq!(decide(None, &[&a, &b], true), both);
    }

    #[test]
    fn blank_nodes_tell_of_no_cluster() {
        let blank = told("", 1, &[], 0);
        assert_eq!(decide(None, &[&blank], true), Verdict::Undecided);
    }
}
