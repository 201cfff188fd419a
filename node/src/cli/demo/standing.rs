//! Reading what nodes say of themselves: who leads, who is how far. Pure.

use halite_client::{DatabaseStatus, NodeStatus, Role};

/// Where all copies of a database stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) txid: u64,
    pub(super) checksum: String,
    pub(super) pages: u32,
}

/// The primary of the newest term.
pub(super) fn primary(nodes: &[NodeStatus]) -> Option<&NodeStatus> {
    nodes
        .iter()
        .filter(|node| node.role() == Role::Primary)
        .max_by_key(|node| node.term)
}

fn copy<'a>(node: &'a NodeStatus, database: &str) -> Result<&'a DatabaseStatus, String> {
    let found = node.databases.iter().find(|db| db.name == database);
    let copy = found.ok_or_else(|| format!("node {} does not have it", node.node_id))?;
    if copy.trouble.is_empty() {
        Ok(copy)
    } else {
        Err(format!(
            "node {} is in trouble: {}",
            node.node_id, copy.trouble
        ))
    }
}

/// All `count` nodes have the database, at the same transaction with the same checksum; else what keeps it from being so.
pub(super) fn in_step(
    nodes: &[NodeStatus],
    database: &str,
    count: usize,
) -> Result<Standing, String> {
    if nodes.len() < count {
        return Err(format!("only {} of {count} nodes answer", nodes.len()));
    }
    let copies = nodes
        .iter()
        .map(|node| Ok((node.node_id, copy(node, database)?)));
    let copies: Vec<(u64, &DatabaseStatus)> = copies.collect::<Result<_, String>>()?;
    let (first_id, first) = copies.first().ok_or("no node answers")?;
    for (id, other) in &copies {
        if other.txid != first.txid {
            return Err(format!(
                "node {first_id} is at transaction {}, node {id} at {}",
                first.txid, other.txid
            ));
        }
        if other.checksum != first.checksum || other.page_count != first.page_count {
            return Err(format!(
                "at transaction {} node {first_id} has checksum {} and {} pages, node {id} has {} and {}",
                first.txid, first.checksum, first.page_count, other.checksum, other.page_count
            ));
        }
    }
    Ok(Standing {
        txid: first.txid,
        checksum: first.checksum.clone(),
        pages: first.page_count,
    })
}

/// The TXID a node has reached, if it answers and all is well with its copy.
pub(super) fn txid_of(nodes: &[NodeStatus], node_id: u64, database: &str) -> Result<u64, String> {
    let node = nodes.iter().find(|node| node.node_id == node_id);
    let node = node.ok_or_else(|| format!("node {node_id} does not answer"))?;
    Ok(copy(node, database)?.txid)
}

/// The archive holds the database up to `txid`, by what the primary says.
pub(super) fn archived(nodes: &[NodeStatus], database: &str, txid: u64) -> Result<u64, String> {
    let primary = primary(nodes).ok_or("there is no primary")?;
    let reached = copy(primary, database)?.archived_txid;
    if reached >= txid {
        Ok(reached)
    } else {
        Err(format!("the archive is at transaction {reached} of {txid}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node_id: u64, role: Role, term: u64, txid: u64, checksum: &str) -> NodeStatus {
        NodeStatus {
            node_id,
            role: role.into(),
            term,
            databases: vec![DatabaseStatus {
                name: "demo".into(),
                txid,
                checksum: checksum.into(),
                page_count: 7,
                archived_txid: txid - 1,
                ..DatabaseStatus::default()
            }],
            ..NodeStatus::default()
        }
    }

    #[test]
    fn the_newest_primary_counts() {
        let old = node(1, Role::Primary, 1, 5, "a");
        let new = node(2, Role::Primary, 2, 5, "a");
        let none = node(3, Role::Follower, 3, 5, "a");
        let nodes = [new, old, none.clone()];
        assert_eq!(primary(&nodes).map(|node| node.node_id), Some(2));
        assert_eq!(primary(&[none]), None);
    }

    #[test]
    fn in_step_means_all_and_the_same() {
        let [a, b, c] = [1, 2, 3].map(|id| node(id, Role::Follower, 1, 5, "a"));
        let standing = in_step(&[a.clone(), b.clone(), c.clone()], "demo", 3).unwrap();
        assert_eq!((standing.txid, standing.pages), (5, 7));
        let why = |nodes: &[NodeStatus]| in_step(nodes, "demo", 3).unwrap_err();
        assert!(why(&[a.clone(), b.clone()]).contains("only 2 of 3"));
        let behind = node(3, Role::Follower, 1, 4, "a");
        assert!(why(&[a.clone(), b.clone(), behind]).contains("node 3 at 4"));
        let other = node(3, Role::Follower, 1, 5, "b");
        assert!(why(&[a.clone(), b.clone(), other]).contains("checksum a"));
        let mut troubled = c.clone();
        troubled.databases[0].trouble = "disk full".into();
        assert!(why(&[a.clone(), b.clone(), troubled]).contains("disk full"));
        let mut without = c;
        without.databases.clear();
        assert!(why(&[a, b, without]).contains("does not have it"));
    }

    #[test]
    fn progress_is_read_from_the_right_node() {
        let nodes = [
            node(1, Role::Primary, 1, 9, "a"),
            node(2, Role::Follower, 1, 5, "b"),
        ];
        assert_eq!(txid_of(&nodes, 2, "demo"), Ok(5));
        assert!(txid_of(&nodes, 3, "demo").is_err());
        assert_eq!(archived(&nodes, "demo", 8), Ok(8));
        assert!(archived(&nodes, "demo", 9).is_err());
        assert!(archived(&nodes[1..], "demo", 1).is_err());
    }
}
