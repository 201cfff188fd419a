//! How news change what is known.

use halite_proto::v1 as wire;

use super::state::{Source, State};
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
    assert!(state.adopt(&topology(1, 1, &[1, 2]), Source::Watch));
    assert_eq!(known(&state.view()), [("node1:7001", 1), ("node2:7001", 2)]);
    assert!(state.adopt(&topology(1, 1, &[1, 3]), Source::Watch));
    assert_eq!(known(&state.view()), [("node1:7001", 1), ("node3:7001", 3)]);
    assert!(state.adopt(&topology(2, 3, &[3]), Source::Watch));
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
    state.adopt(&topology(5, 2, &[1, 2]), Source::Watch);
    assert!(!state.adopt(&topology(4, 1, &[1, 2]), Source::Watch));
    let foreign = wire::Topology {
        cluster_id: "other".into(),
        ..topology(9, 1, &[1])
    };
    assert!(!state.adopt(&foreign, Source::Watch));
    assert_eq!(state.view().topology.primary_id, 2);
}

#[test]
fn a_lagging_answer_takes_nothing_back_within_the_term() {
    let mut state = State::default();
    state.adopt(&topology(5, 0, &[1, 2, 3]), Source::Watch);
    assert!(state.adopt(&topology(5, 2, &[1, 2]), Source::Poll));
    assert!(!state.adopt(&topology(5, 0, &[1, 2]), Source::Poll));
    let now = state.view().topology;
    assert_eq!((now.primary_id, now.members.len()), (2, 3));
    // The stream itself may say that the primary has gone.
    assert!(state.adopt(&topology(5, 0, &[1, 2, 3]), Source::Watch));
    assert_eq!(state.view().topology.primary_id, 0);
}

#[test]
fn a_node_that_denies_leading_is_believed_about_itself_only() {
    let mut state = State::default();
    state.adopt(&topology(5, 1, &[1, 2, 3]), Source::Watch);
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
