//! Whom a primary makes room for that has databases in trouble: a voter that has fewer, or one that has what this node has to pull. Where
//! there is none, leadership stays.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1;

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

/// The voter with the fewest troubles that is better off; among equals the one whose log reaches furthest.
fn best(own: &Troubles, voters: &[Voter]) -> Option<u64> {
    let better = voters.iter().filter(|voter| voter.is_better_off(own));
    better
        .min_by_key(|v| (v.troubles.len(), u64::MAX - v.last_log_index, v.node_id))
        .map(|voter| voter.node_id)
}

/// Asks all voters how they are.
pub(super) async fn who(cluster: &Arc<Cluster>, own: &Troubles) -> Option<u64> {
    let members = cluster.topology().members.into_iter();
    let others = members.filter(|m| m.voter && m.node_id != cluster.identity().node_id);
    let asked = others.map(|member| async move {
        let answer = tokio::time::timeout(TIMEOUT, ask(cluster, &member.addr)).await;
        answer.ok().flatten()
    });
    let answers = futures::future::join_all(asked).await;
    best(own, &answers.into_iter().flatten().collect::<Vec<_>>())
}

async fn ask(cluster: &Arc<Cluster>, addr: &str) -> Option<Voter> {
    let mut node = cluster.transport().halite(addr).ok()?;
    let status = node.status(v1::StatusRequest::default()).await.ok()?;
    let node = status.into_inner().node?;
    let databases = node.databases.into_iter();
    Some(Voter {
        node_id: node.node_id,
        troubles: databases
            .filter(|d| !d.trouble.is_empty())
            .map(|d| d.name)
            .collect(),
        last_log_index: node.last_log_index,
    })
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
            assert_eq!(best(&own, &voters), expected, "{own:?} {voters:?}");
        }
    }
}
