//! Whom a primary makes room for that has databases in trouble: a voter that has fewer, or one that has what this node has to pull. Where
//! there is none, leadership stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1;
use tracing::{info, warn};

use super::Cluster;

/// How long a voter may take to say how it is.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What is wrong with the primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Troubles {
    /// Databases in trouble.
    pub(super) databases: BTreeSet<String>,
    /// Those of them whose pages have to come from another node: a primary has nobody to pull them from.
    pub(super) to_pull: BTreeSet<String>,
}

/// A voter that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Voter {
    node_id: u64,
    /// Databases in trouble.
    troubles: BTreeSet<String>,
    /// How far its log reaches.
    last_log_index: u64,
}

impl Voter {
    /// With it as primary there would be less trouble, or there will be.
    fn is_better_off(&self, own: &Troubles) -> bool {
        let has = |name: &String| !self.troubles.contains(name);
        self.troubles.len() < own.databases.len() || own.to_pull.iter().any(has)
    }
}

/// The voter with the fewest troubles that is better off, and whose log reaches this far; among equals the one whose log reaches furthest.
fn best(own: &Troubles, voters: &[Voter], reaches: u64) -> Option<u64> {
    let better = voters
        .iter()
        .filter(|voter| voter.is_better_off(own) && voter.last_log_index >= reaches);
    better
        .min_by_key(|v| (v.troubles.len(), u64::MAX - v.last_log_index, v.node_id))
        .map(|voter| voter.node_id)
}

/// Leadership goes to a voter that is better off than a node which can keep nothing of what it writes, and whose log reaches this far: one that is
/// no better off says so of all its databases. Where there is none it stays.
pub(super) async fn make_room(cluster: &Arc<Cluster>, reaches: u64, why: &str) {
    let databases = cluster.shared().all_databases();
    let own = Troubles {
        databases: databases.iter().map(|d| d.spec().name.clone()).collect(),
        ..Troubles::default()
    };
    let Some(to) = who(cluster, &own, reaches).await else {
        warn!(why, "leading on, since no voter is better off");
        return;
    };
    // Waits for nobody: heartbeats end with it, so that the others elect one where that voter does not take over.
    info!(to, why, "giving way");
    cluster.give_way_to(to).await;
}

/// Asks all voters how they are.
pub(super) async fn who(cluster: &Cluster, own: &Troubles, reaches: u64) -> Option<u64> {
    best(own, &voters(cluster, |_| true).await, reaches)
}

/// How many databases are in trouble at each of these voters, as far as they say so in time.
pub(super) async fn troubles_of(cluster: &Cluster, nodes: &BTreeSet<u64>) -> BTreeMap<u64, usize> {
    let told = voters(cluster, |id| nodes.contains(&id)).await;
    let counts = told.into_iter().map(|v| (v.node_id, v.troubles.len()));
    counts.collect()
}

/// The other voters that are `wanted` and answer in time.
async fn voters(cluster: &Cluster, wanted: impl Fn(u64) -> bool) -> Vec<Voter> {
    let own = cluster.identity().node_id;
    let members = cluster.topology().members.into_iter();
    let others = members.filter(|m| m.voter && m.node_id != own && wanted(m.node_id));
    let asked = others.map(|member| async move { ask(cluster, &member.addr).await.map(voter) });
    let answers = futures::future::join_all(asked).await;
    answers.into_iter().flatten().collect()
}

/// What the node at `addr` says of itself; `None` if it does not answer in time.
pub(super) async fn ask(cluster: &Cluster, addr: &str) -> Option<v1::NodeStatus> {
    let mut node = cluster.transport().halite(addr).ok()?;
    let answer = tokio::time::timeout(TIMEOUT, node.status(v1::StatusRequest::default())).await;
    answer.ok()?.ok()?.into_inner().node
}

fn voter(node: v1::NodeStatus) -> Voter {
    let databases = node.databases.into_iter();
    Voter {
        node_id: node.node_id,
        troubles: databases
            .filter(|d| !d.trouble.is_empty())
            .map(|d| d.name)
            .collect(),
        last_log_index: node.last_log_index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &str) -> BTreeSet<String> {
        names.chars().map(String::from).collect()
    }

    #[test]
    fn leadership_goes_to_less_trouble_and_never_round() {
        let voter = |node_id, troubles, last_log_index| Voter {
            node_id,
            troubles: names(troubles),
            last_log_index,
        };
        for (own, to_pull, voters, expected) in [
            ("a", "", vec![voter(2, "", 9), voter(3, "", 10)], Some(3)),
            ("a", "", vec![voter(2, "", 9), voter(3, "a", 10)], Some(2)),
            ("ab", "", vec![voter(2, "a", 9), voter(3, "b", 9)], Some(2)),
            // All are in trouble: whoever leads stays.
            ("a", "", vec![voter(2, "a", 9), voter(3, "b", 10)], None),
            ("a", "", vec![voter(2, "ab", 9)], None),
            ("a", "", vec![], None),
            // Once node 2 leads, this one pulls what it lacks, and is better off itself.
            ("a", "a", vec![voter(2, "b", 9)], Some(2)),
            ("a", "a", vec![voter(2, "a", 9)], None),
        ] {
            let own = Troubles {
                databases: names(own),
                to_pull: names(to_pull),
            };
            assert_eq!(best(&own, &voters, 0), expected, "{own:?} {voters:?}");
        }
    }
}
