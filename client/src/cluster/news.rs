//! How a node's word about the topology changes what is known. Pure.
//!
//! Two things are told, and each has its own order. The members come from an entry of the log, so the newer entry wins, whoever tells it. The
//! primary belongs to a term, so the newer term wins, unless the node that tells it is no member any more: a node that was removed, and was
//! cut off when that happened, may stand for election for ever, in terms that mean nothing to the others.

use halite_proto::v1 as wire;

/// Where a topology comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The stream of one node, in the order it happened there.
    Watch,
    /// One answer of any node, maybe of one that lags.
    Poll,
}

/// What is known, and whose word the term is; 0: nobody's yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) topology: wire::Topology,
    pub(super) term_from: u64,
}

impl Known {
    /// Takes in what the node `by` tells (0: who it is is not known yet). True if anything changed.
    pub(super) fn hear(&mut self, offered: &wire::Topology, by: u64, source: Source) -> bool {
        let known = &self.topology;
        let foreign = !known.cluster_id.is_empty()
            && !offered.cluster_id.is_empty()
            && known.cluster_id != offered.cluster_id;
        if foreign {
            return false;
        }
        let mut next = known.clone();
        if next.cluster_id.is_empty() {
            next.cluster_id.clone_from(&offered.cluster_id);
        }
        let news_of_members = self.has_newer_members(offered, by, source);
        if news_of_members {
            next.members.clone_from(&offered.members);
            (next.members_term, next.members_index) = version(offered);
        }
        let is_member =
            by == 0 || next.members.is_empty() || next.members.iter().any(|m| m.node_id == by);
        let term_was_of_a_stranger = news_of_members
            && self.term_from != 0
            && next.members.iter().all(|m| m.node_id != self.term_from);
        let newer_term = offered.term > known.term && is_member;
        let lower_term = offered.term < known.term && term_was_of_a_stranger && is_member;
        if newer_term || lower_term {
            (next.term, next.primary_id) = (offered.term, offered.primary_id);
            self.term_from = by;
        } else if offered.term == known.term {
            // A node that lags behind within the term may know less than we do, never more about who leads it.
            let knows_best = source == Source::Watch && is_member;
            if knows_best || next.primary_id == 0 {
                next.primary_id = offered.primary_id;
            }
        }
        if next == self.topology {
            return false;
        }
        self.topology = next;
        true
    }

    fn has_newer_members(&self, offered: &wire::Topology, by: u64, source: Source) -> bool {
        let known = &self.topology;
        if offered.members.is_empty() {
            return false;
        }
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::FirstMembersCount) {
            let is_first = known.members.is_empty() || offered.term > known.term;
            return is_first || offered.term == known.term && source == Source::Watch;
        }
        // A primary has every entry of older terms that will ever count: what it lacks of them has been cut off the log.
        let is_primary = offered.primary_id != 0 && offered.primary_id == by;
        let was_cut_off =
            is_primary && offered.term >= known.term && offered.term > known.members_term;
        match version(offered).cmp(&version(known)) {
            _ if known.members.is_empty() || was_cut_off => true,
            std::cmp::Ordering::Less => false,
            // The same members, but for nodes that tell no version.
            std::cmp::Ordering::Equal => offered.term > known.term || source == Source::Watch,
            std::cmp::Ordering::Greater => true,
        }
    }
}

fn version(topology: &wire::Topology) -> (u64, u64) {
    (topology.members_term, topology.members_index)
}
