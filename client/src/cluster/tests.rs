//! How news change what is known.

use halite_proto::v1 as wire;

use super::news::{Known, Source};
use super::state::State;
use super::view::View;

fn topology(term: u64, primary_id: u64, members: &[u64]) -> wire::Topology {
    wire::Topology {
        term,
        primary_id,
        members: members
            .iter()
            .map(|id| wire::MemberInfo {
                node_id: *id,
                addr: format!("node{id}:7001"),
                voter: true,
            })
            .collect(),
        cluster_id: "c".into(),
        ..wire::Topology::default()
    }
}

/// The same, of members that the entry at `index` of `term` made.
fn since(version: (u64, u64), topology: wire::Topology) -> wire::Topology {
    wire::Topology {
        members_term: version.0,
        members_index: version.1,
        ..topology
    }
}

fn known(view: &View) -> Vec<(&str, u64)> {
    view.nodes
        .iter()
        .map(|node| (&*node.addr, node.node_id))
        .collect()
}

#[test]
fn members_become_peers_and_lost_members_go() {
    let mut state = State::default();
    state.add_seed("node1:7001");
    assert!(state.adopt(&topology(1, 1, &[1, 2]), 1, Source::Watch));
    assert_eq!(known(&state.view()), [("node1:7001", 1), ("node2:7001", 2)]);
    assert!(state.adopt(&topology(1, 1, &[1, 3]), 1, Source::Watch));
    assert_eq!(known(&state.view()), [("node1:7001", 1), ("node3:7001", 3)]);
    assert!(state.adopt(&topology(2, 3, &[3]), 3, Source::Watch));
    let view = state.view();
    assert_eq!(
        view.nodes.len(),
        2,
        "a seed stays to be asked when all else fails"
    );
    assert!(!view.nodes[0].member, "but serves no calls");
}

#[test]
fn older_terms_and_other_clusters_are_ignored() {
    let mut state = State::default();
    state.adopt(&topology(5, 2, &[1, 2]), 1, Source::Watch);
    assert!(!state.adopt(&topology(4, 1, &[1, 2]), 1, Source::Watch));
    let foreign = wire::Topology {
        cluster_id: "other".into(),
        ..topology(9, 1, &[1])
    };
    assert!(!state.adopt(&foreign, 1, Source::Watch));
    assert_eq!(state.view().topology.primary_id, 2);
}

#[test]
fn a_lagging_answer_takes_nothing_back_within_the_term() {
    let mut state = State::default();
    state.adopt(&topology(5, 0, &[1, 2, 3]), 1, Source::Watch);
    assert!(state.adopt(&topology(5, 2, &[1, 2]), 3, Source::Poll));
    assert!(!state.adopt(&topology(5, 0, &[1, 2]), 3, Source::Poll));
    let now = state.view().topology;
    assert_eq!((now.primary_id, now.members.len()), (2, 3));
    // The stream itself may say that the primary has gone.
    assert!(state.adopt(&topology(5, 0, &[1, 2, 3]), 1, Source::Watch));
    assert_eq!(state.view().topology.primary_id, 0);
}

#[test]
fn a_node_that_denies_leading_is_believed_about_itself_only() {
    let mut state = State::default();
    state.adopt(&topology(5, 1, &[1, 2, 3]), 1, Source::Watch);
    let keys: Vec<_> = state.view().nodes.iter().map(|node| node.key).collect();
    let hint = wire::NodeAddress {
        node_id: 3,
        addr: String::new(),
    };
    assert!(!state.primary_denied(keys[1], Some(&hint)));
    assert_eq!(state.view().topology.primary_id, 1);
    assert!(state.primary_denied(keys[0], Some(&hint)));
    assert_eq!(state.view().topology.primary_id, 3);
    assert!(state.primary_denied(keys[2], None));
    assert_eq!(state.view().topology.primary_id, 0);
}

fn ids(known: &Known) -> Vec<u64> {
    known.topology.members.iter().map(|m| m.node_id).collect()
}

#[test]
fn the_newer_members_count_whoever_tells_them() {
    let mut known = Known::default();
    let old = since((5, 10), topology(5, 4, &[1, 4]));
    let new = since((5, 20), topology(5, 4, &[4, 5]));
    assert!(known.hear(&old, 1, Source::Watch));
    // The stream of node 1 says nothing more, since it was removed.
    assert!(known.hear(&new, 4, Source::Poll));
    assert_eq!(ids(&known), [4, 5]);
    assert!(!known.hear(&old, 1, Source::Poll));
    let old = since((5, 10), topology(5, 0, &[1, 4]));
    assert!(!known.hear(&old, 1, Source::Watch), "nor that nobody leads");
    assert_eq!((ids(&known), known.topology.primary_id), (vec![4, 5], 4));
}

#[test]
fn a_removed_node_in_a_term_of_its_own_hides_nobody() {
    let lonely = since((5, 10), topology(40, 0, &[1, 4]));
    let cluster = since((5, 20), topology(6, 5, &[4, 5]));
    let mut known = Known::default();
    known.hear(&cluster, 4, Source::Poll);
    assert!(!known.hear(&lonely, 1, Source::Watch));
    // Also when it was heard first.
    let mut known = Known::default();
    known.hear(&lonely, 1, Source::Watch);
    assert!(known.hear(&cluster, 4, Source::Poll));
    let now = &known.topology;
    assert_eq!((ids(&known), now.term, now.primary_id), (vec![4, 5], 6, 5));
}

#[test]
fn members_of_an_entry_that_was_cut_off_the_log_are_forgotten() {
    let mut known = Known::default();
    known.hear(
        &since((3, 10), topology(3, 1, &[1, 2, 3, 4])),
        1,
        Source::Poll,
    );
    let cluster = since((2, 8), topology(4, 2, &[1, 2, 3]));
    // A follower may not have the entry yet.
    assert!(known.hear(&cluster, 3, Source::Poll));
    assert_eq!((ids(&known).len(), known.topology.term), (4, 4));
    // The primary has whatever was committed before its term.
    assert!(known.hear(&cluster, 2, Source::Poll));
    assert_eq!(ids(&known), [1, 2, 3]);
}
