//! From what the nodes say to what is true of the cluster. Pure.

mod cluster;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use halite_client::{DatabaseStatus, Error, NodeStatus, Role, StatusResponse, Topology};
use serde::Serialize;

use crate::cli::database::txid_text;
use crate::cli::error::message_of;

/// The state of a cluster as its nodes tell it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ClusterReport {
    pub(super) cluster_name: String,
    pub(super) cluster_id: String,
    pub(super) term: u64,
    /// The cluster's feature level.
    pub(super) level: u32,
    /// The node that leads and answers as primary.
    pub(super) primary_id: Option<u64>,
    pub(super) voters: usize,
    pub(super) voters_reachable: usize,
    /// There is a primary, a majority of the voters answers, and no database of the primary is in trouble.
    pub(super) takes_writes: bool,
    /// All is well: beside that every member answers, no copy is in trouble, and nothing keeps a database from being archived.
    pub(super) healthy: bool,
    pub(super) nodes: Vec<NodeReport>,
    pub(super) databases: Vec<DatabaseReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct NodeReport {
    /// Unknown for an address that never answered and is no member's.
    pub(super) id: Option<u64>,
    pub(super) addr: String,
    pub(super) voter: bool,
    #[serde(flatten)]
    pub(super) state: NodeState,
}

/// The role of a node that knows of no cluster yet.
pub(super) const JOINING: &str = "joining";

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum NodeState {
    Reachable {
        /// For people; from the node's configuration.
        name: String,
        role: &'static str,
        term: u64,
        last_log_index: u64,
        committed_index: u64,
        applied_index: u64,
        /// `None`: never caught up yet.
        lag_ms: Option<u64>,
        uptime_ms: u64,
        version: String,
        /// Highest feature level that it supports.
        level_max: u32,
        /// Why the node takes no part; empty when it does.
        trouble: String,
        /// What is wrong around it, though it takes part; empty when nothing is.
        notice: String,
        /// It hears the primary, and acknowledges nothing that is written.
        log_hangs: bool,
    },
    /// It answers, and belongs to another cluster: nothing it says counts.
    Stranger {
        cluster_id: String,
    },
    Unreachable {
        error: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DatabaseReport {
    pub(super) name: String,
    /// As the primary has it, or whoever is furthest while there is none.
    pub(super) txid: String,
    pub(super) checksum: String,
    pub(super) page_size: u32,
    pub(super) pages: u32,
    /// `None` without an archive.
    pub(super) archived_txid: Option<String>,
    /// Transactions that the archive does not hold yet.
    pub(super) archive_behind: Option<u64>,
    /// Where it is archived.
    pub(super) archive_urls: Vec<String>,
    /// What keeps it from being archived; empty when nothing does.
    pub(super) archive_trouble: String,
    /// A majority answers, and the primary's copy is not in trouble.
    pub(super) takes_writes: bool,
    /// Every member says that its copy needs repair: none of them is left to repair another one from.
    pub(super) no_sound_copy: bool,
    pub(super) copies: Vec<CopyReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct CopyReport {
    pub(super) node_id: u64,
    #[serde(flatten)]
    pub(super) copy: CopyState,
}

/// How a node's copy stands to the reference. A copy may be a moment ahead: nodes are not asked in the same instant.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "copy", rename_all = "snake_case")]
pub(super) enum CopyState {
    InStep,
    Behind {
        transactions: u64,
    },
    /// Same transaction, other content.
    Differs,
    /// The node does not have the database.
    Missing,
    Trouble {
        message: String,
    },
    Unreachable,
}

/// Address, and what answered there.
pub(super) type Told = (String, Result<StatusResponse, Error>);

impl ClusterReport {
    pub(super) fn of(told: Vec<Told>) -> Self {
        let cluster_id = cluster::believed(&told);
        let topology = newest_topology(&told, &cluster_id);
        let nodes = nodes(&told, &topology, &cluster_id);
        let mut statuses: Vec<&NodeStatus> = told
            .iter()
            .filter_map(|(_, told)| told.as_ref().ok()?.node.as_ref())
            .filter(|node| !cluster::is_stranger(node, &cluster_id))
            .collect();
        // What a copy of a node says under its id comes after the word of the node.
        statuses.sort_by_key(|node| !node.trouble.is_empty());
        let leads =
            |node: &&&NodeStatus| node.role() == Role::Primary && node.term == topology.term;
        let primary_id = statuses.iter().find(leads).map(|node| node.node_id);
        let voters = topology
            .members
            .iter()
            .filter(|member| member.voter)
            .count();
        let voters_reachable = nodes
            .iter()
            .filter(|node| node.voter && node.acknowledges())
            .count();
        let first = statuses.first();
        let has_quorum = primary_id.is_some() && voters_reachable * 2 > voters;
        let databases = databases(&statuses, primary_id, has_quorum, &nodes);
        let takes_writes = has_quorum && databases.iter().all(|db| db.takes_writes);
        Self {
            cluster_name: first
                .map(|node| node.cluster_name.clone())
                .unwrap_or_default(),
            cluster_id: topology.cluster_id.clone(),
            term: topology.term,
            // A node that does not say was built before there were levels.
            level: statuses
                .iter()
                .map(|node| node.level)
                .max()
                .unwrap_or(0)
                .max(1),
            primary_id,
            voters,
            voters_reachable,
            takes_writes,
            healthy: takes_writes
                && nodes.iter().all(NodeReport::is_well)
                && databases.iter().all(DatabaseReport::is_well),
            databases,
            nodes,
        }
    }
}

impl DatabaseReport {
    /// Copies that are behind come up by themselves.
    fn is_well(&self) -> bool {
        let well =
            |copy: &CopyReport| matches!(copy.copy, CopyState::InStep | CopyState::Behind { .. });
        self.archive_trouble.is_empty() && self.copies.iter().all(well)
    }
}

impl NodeReport {
    /// It answers, takes part, and has nothing to tell of.
    fn is_well(&self) -> bool {
        let NodeState::Reachable { notice, .. } = &self.state else {
            return false;
        };
        self.takes_part() && notice.is_empty() && (!self.voter || self.acknowledges())
    }

    /// What a voter acknowledges counts: it is on its disk, and the voter knows that it is one. A node that has lost its disk does not.
    fn acknowledges(&self) -> bool {
        matches!(
            &self.state,
            NodeState::Reachable { role, log_hangs: false, .. } if self.takes_part() && *role != JOINING
        )
    }

    pub(super) fn is_reachable(&self) -> bool {
        matches!(self.state, NodeState::Reachable { .. })
    }

    /// Of two that answer under one id, the one that takes part is the node.
    fn standing(&self) -> (bool, bool) {
        (self.takes_part(), self.is_reachable())
    }

    /// It answers, and says nothing of not taking part.
    fn takes_part(&self) -> bool {
        matches!(&self.state, NodeState::Reachable { trouble, .. } if trouble.is_empty())
    }
}

/// The primary's word; without one, that of the node that knows of the newest members: one that was removed and does not know it may be in a
/// term of its own.
fn newest_topology(told: &[Told], cluster_id: &str) -> Topology {
    let topologies = told
        .iter()
        .filter_map(|(_, told)| told.as_ref().ok())
        .filter_map(|told| Some((told.node.as_ref(), told.topology.as_ref()?)))
        .filter(|(node, _)| !node.is_some_and(|node| cluster::is_stranger(node, cluster_id)));
    topologies
        .max_by_key(|(node, topology)| {
            let leads = node.is_some_and(|node| node.role() == Role::Primary);
            let members = (topology.members_term, topology.members_index);
            let has_primary = topology.primary_id != 0;
            (
                leads.then_some(topology.term),
                members,
                topology.term,
                has_primary,
            )
        })
        .map(|(_, topology)| topology.clone())
        .unwrap_or_default()
}

/// Members and whoever else was asked, each node once, by id.
fn nodes(told: &[Told], topology: &Topology, cluster_id: &str) -> Vec<NodeReport> {
    let mut known: BTreeMap<u64, NodeReport> = BTreeMap::new();
    let mut strangers = Vec::new();
    for (addr, told) in told {
        let member = topology.members.iter().find(|member| member.addr == *addr);
        let node = told.as_ref().ok().and_then(|status| status.node.as_ref());
        if let Some(node) = node.filter(|node| cluster::is_stranger(node, cluster_id)) {
            // Whatever it calls itself, the member of that id is somebody else; at its address nobody answers.
            strangers.push(NodeReport {
                id: None,
                addr: addr.clone(),
                voter: false,
                state: NodeState::Stranger {
                    cluster_id: node.cluster_id.clone(),
                },
            });
            continue;
        }
        let id = node
            .map(|node| node.node_id)
            .or(member.map(|member| member.node_id));
        let state = match (node, told) {
            (Some(node), _) => reachable(node),
            (None, Err(error)) => NodeState::Unreachable {
                error: message_of(error),
            },
            (None, Ok(_)) => NodeState::Unreachable {
                error: "the node says nothing of itself".to_owned(),
            },
        };
        // A copy says the address of the node that it was copied from.
        let addr = node
            .filter(|node| node.trouble.is_empty())
            .map(|node| &node.addr)
            .filter(|addr| !addr.is_empty())
            .unwrap_or(addr)
            .clone();
        let voter = id.is_some_and(|id| {
            topology
                .members
                .iter()
                .any(|member| member.node_id == id && member.voter)
        });
        let report = NodeReport {
            id,
            addr,
            voter,
            state,
        };
        match id {
            None => strangers.push(report),
            Some(id) => match known.entry(id) {
                Entry::Vacant(new) => {
                    new.insert(report);
                }
                Entry::Occupied(mut other) => {
                    // Asked under two addresses. A copy of it, which takes no part, stands beside it.
                    let mut rest = report;
                    if rest.standing() > other.get().standing() {
                        rest = other.insert(rest);
                    }
                    if other.get().takes_part() && rest.is_reachable() && !rest.takes_part() {
                        rest.voter = false;
                        strangers.push(rest);
                    }
                }
            },
        }
    }
    for member in &topology.members {
        let error = match strangers.iter().any(|node| node.addr == member.addr) {
            true => "a node of another cluster answers at its address",
            false => "not asked",
        };
        known.entry(member.node_id).or_insert_with(|| NodeReport {
            id: Some(member.node_id),
            addr: member.addr.clone(),
            voter: member.voter,
            state: NodeState::Unreachable {
                error: error.to_owned(),
            },
        });
    }
    known.into_values().chain(strangers).collect()
}

fn reachable(node: &NodeStatus) -> NodeState {
    NodeState::Reachable {
        name: node.name.clone(),
        role: role_text(node.role()),
        term: node.term,
        last_log_index: node.last_log_index,
        committed_index: node.committed_index,
        applied_index: node.applied_index,
        lag_ms: (node.lag_ms != u64::MAX).then_some(node.lag_ms),
        uptime_ms: node.uptime_ms,
        version: node.version.clone(),
        level_max: node.level_max.max(1),
        trouble: node.trouble.clone(),
        notice: node.notice.clone(),
        log_hangs: node.log_hangs,
    }
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Follower => "follower",
        Role::Learner => "learner",
        Role::Candidate => "candidate",
        Role::Joining => JOINING,
        Role::Removed => "removed",
        Role::Stopped => "stopped",
        Role::Unspecified => "unknown",
    }
}

fn databases(
    statuses: &[&NodeStatus],
    primary_id: Option<u64>,
    has_quorum: bool,
    nodes: &[NodeReport],
) -> Vec<DatabaseReport> {
    let mut references: BTreeMap<&str, &DatabaseStatus> = BTreeMap::new();
    let primary = statuses
        .iter()
        .filter(|node| Some(node.node_id) == primary_id);
    let others = statuses
        .iter()
        .filter(|node| Some(node.node_id) != primary_id);
    // A node that is behind may still hold what was dropped.
    let dropped = |db: &DatabaseStatus| {
        let mut own = primary.clone().flat_map(|node| &node.databases);
        has_quorum && own.all(|own| own.name != db.name)
    };
    for node in primary.clone().chain(others) {
        for db in node.databases.iter().filter(|db| !dropped(db)) {
            let reference = references.entry(&db.name).or_insert(db);
            let from_primary = primary.clone().any(|node| {
                let sound = |other: &DatabaseStatus| other.trouble.is_empty();
                let mut own = node.databases.iter();
                own.any(|other| other.name == db.name && sound(other))
            });
            if !from_primary && standing(db) > standing(reference) {
                *reference = db;
            }
        }
    }
    let archived = |name: &str| {
        let copies = statuses
            .iter()
            .flat_map(|node| &node.databases)
            .filter(|db| db.name == name);
        copies
            .map(|db| db.archived_txid)
            .max()
            .filter(|txid| *txid > 0)
    };
    let report = |db: &DatabaseStatus| {
        let archived = archived(&db.name);
        let of_primary = primary.clone().flat_map(|node| &node.databases);
        let own = of_primary.filter(|own| own.name == db.name);
        let archive_trouble = own.map(|own| own.archive_trouble.clone()).collect();
        DatabaseReport {
            name: db.name.clone(),
            txid: txid_text(db.txid),
            checksum: db.checksum.clone(),
            page_size: db.page_size,
            pages: db.page_count,
            archived_txid: archived.map(txid_text),
            // A place that has nothing yet lacks all of it.
            archive_behind: archived
                .or((!db.archive_urls.is_empty()).then_some(0))
                .map(|txid| db.txid.saturating_sub(txid)),
            archive_urls: db.archive_urls.clone(),
            archive_trouble,
            takes_writes: has_quorum
                && primary.clone().all(|node| {
                    let mut own = node.databases.iter();
                    own.all(|own| own.name != db.name || own.trouble.is_empty())
                }),
            no_sound_copy: no_sound_copy(&db.name, statuses, nodes),
            copies: copies(db, statuses, nodes),
        }
    };
    references.into_values().map(report).collect()
}

/// A node that does not answer, or lacks the database for now, may have one.
fn no_sound_copy(name: &str, statuses: &[&NodeStatus], nodes: &[NodeReport]) -> bool {
    let needs_repair = |node: &NodeReport| {
        let of_node = |status: &&&NodeStatus| Some(status.node_id) == node.id && node.takes_part();
        let status = statuses.iter().find(of_node)?;
        status
            .databases
            .iter()
            .find(|db| db.name == name)
            .map(|db| db.needs_repair)
    };
    let mut members = nodes.iter().filter(|node| node.id.is_some());
    members.all(|node| needs_repair(node) == Some(true))
}

/// A copy in trouble is no reference where another one is sound.
fn standing(db: &DatabaseStatus) -> (bool, u64) {
    (db.trouble.is_empty(), db.txid)
}

fn copies(
    reference: &DatabaseStatus,
    statuses: &[&NodeStatus],
    nodes: &[NodeReport],
) -> Vec<CopyReport> {
    let copy = |node: &NodeReport| {
        let node_id = node.id?;
        let status = statuses
            .iter()
            .find(|status| status.node_id == node_id && node.is_reachable());
        let copy = match status
            .map(|status| status.databases.iter().find(|db| db.name == reference.name))
        {
            None => CopyState::Unreachable,
            Some(None) => CopyState::Missing,
            Some(Some(db)) => copy_state(db, reference),
        };
        Some(CopyReport { node_id, copy })
    };
    nodes.iter().filter_map(copy).collect()
}

fn copy_state(copy: &DatabaseStatus, reference: &DatabaseStatus) -> CopyState {
    if !copy.trouble.is_empty() {
        return CopyState::Trouble {
            message: copy.trouble.clone(),
        };
    }
    if !copy.notice.is_empty() {
        return CopyState::Trouble {
            message: copy.notice.clone(),
        };
    }
    match reference.txid.checked_sub(copy.txid) {
        Some(0) if copy.checksum != reference.checksum => CopyState::Differs,
        Some(transactions) if transactions > 0 => CopyState::Behind { transactions },
        _ => CopyState::InStep,
    }
}

#[cfg(test)]
mod tests;
