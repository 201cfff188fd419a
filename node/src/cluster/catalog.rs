//! What the state machine knows beside the databases' own files: databases, nodes, archive progress, the cluster's id.
//!
//! Pure: metadata commands go in, in log order, the same on every node; answers come out.

use std::collections::BTreeMap;

use halite_log::{LogId, Membership};
use halite_ltx::{Checksum, Position, Txid};
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use openraft::alias::StoredMembershipOf;

use super::error::ClusterError;
use super::feature_level::{Level, Levels, Unfit};
use crate::config::database_name_fault;
use crate::database::Mark;
use crate::database::recovery::EntryId;

/// Longest name in bytes of a database that an entry of the log may create. Longer than the names that are proposed now: earlier versions
/// proposed such, and every node has to make the same of an entry.
const NAME_BYTES_MAX: usize = 128;

pub(crate) type Stored = StoredMembershipOf<halite_log::TypeConfig>;

/// One database of the catalog. Ids are never used twice; a dropped database keeps its row, so that late entries are recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CatalogDatabase {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) page_size: u32,
    pub(crate) dropped: bool,
    /// Its newest committed transaction. From this every node tells, after a restart too, whether its own copy is what was committed.
    /// `None` before the first, and where an older version did not note it.
    pub(crate) newest: Option<Mark>,
}

/// Where a committed entry stands in the history of its database.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the newest transaction now, or was counted before.
    Counted,
    /// It does not follow: no node applies it.
    Foreign(String),
    /// There is no such database (any more).
    NoDatabase,
}

/// How far one destination holds one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ArchivePosition {
    pub(crate) txid: u64,
    pub(crate) raft_index: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) point: Point,
    pub(crate) cluster_id: String,
    /// What the cluster may write, and every member reads.
    pub(crate) level: Level,
    pub(crate) nodes: BTreeMap<u64, String>,
    databases: BTreeMap<u64, CatalogDatabase>,
    archive: BTreeMap<(u64, String), ArchivePosition>,
    /// While a transaction is applied with some of its chunks only: the point before its first.
    before_open: Option<Point>,
}

/// How far the log is applied, and the membership there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: Stored,
}

/// What a metadata command asks of the shell around the catalog.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Create(CatalogDatabase),
    Drop(CatalogDatabase),
    IdentityChanged,
}

impl Catalog {
    pub(crate) fn databases(&self) -> impl Iterator<Item = &CatalogDatabase> {
        self.databases.values().filter(|d| !d.dropped)
    }

    /// Databases that are gone.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = &CatalogDatabase> {
        self.databases.values().filter(|d| d.dropped)
    }

    pub(crate) fn database(&self, id: u64) -> Option<&CatalogDatabase> {
        self.databases.get(&id).filter(|d| !d.dropped)
    }

    /// It is here, or was dropped.
    pub(crate) fn knows(&self, id: u64) -> bool {
        self.databases.contains_key(&id)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&CatalogDatabase> {
        self.databases().find(|d| d.name == name)
    }

    /// The entries that committed the newest transaction of each database.
    pub(crate) fn newest_entries(&self) -> impl Iterator<Item = EntryId> {
        let newest = self.databases().filter_map(|database| database.newest);
        newest.map(|Mark { term, index, .. }| EntryId { term, index })
    }

    /// `None`: this database has not begun to be archived there.
    pub(crate) fn archived(&self, database_id: u64, destination: &str) -> Option<ArchivePosition> {
        self.archive
            .get(&(database_id, destination.to_owned()))
            .copied()
    }

    /// Archive progress of every destination of a database.
    pub(crate) fn archives_of(
        &self,
        database_id: u64,
    ) -> impl Iterator<Item = (&str, ArchivePosition)> {
        self.archive
            .iter()
            .filter(move |((id, _), _)| *id == database_id)
            .map(|((_, d), p)| (d.as_str(), *p))
    }

    /// Applies one metadata command that was committed at `index`.
    pub(crate) fn apply(&mut self, index: u64, kind: Kind) -> (v1::CommandReply, Effect) {
        match self.decide(index, kind) {
            Ok((database_id, effect)) => (
                v1::CommandReply {
                    database_id,
                    changed: effect != Effect::None,
                    error: None,
                },
                effect,
            ),
            Err(error) => (
                v1::CommandReply {
                    error: Some(error.to_wire()),
                    ..v1::CommandReply::default()
                },
                Effect::None,
            ),
        }
    }

    fn decide(&mut self, index: u64, kind: Kind) -> Result<(u64, Effect), ClusterError> {
        match kind {
            Kind::CreateDatabase(create) => self.create(index, create),
            Kind::DropDatabase(drop) => {
                let Some(database) = self
                    .databases
                    .get_mut(&drop.database_id)
                    .filter(|d| !d.dropped)
                else {
                    return Ok((drop.database_id, Effect::None));
                };
                database.dropped = true;
                let effect = Effect::Drop(database.clone());
                self.archive.retain(|(id, _), _| *id != drop.database_id);
                Ok((drop.database_id, effect))
            }
            Kind::RegisterNode(node) => {
                // An empty instance forgets a removed node: its id may be used again.
                let changed = if node.instance_id.is_empty() {
                    self.nodes.remove(&node.node_id).is_some()
                } else {
                    self.nodes.insert(node.node_id, node.instance_id.clone())
                        != Some(node.instance_id)
                };
                Ok((
                    0,
                    if changed {
                        Effect::IdentityChanged
                    } else {
                        Effect::None
                    },
                ))
            }
            Kind::FormCluster(form) => {
                if !self.cluster_id.is_empty() {
                    return Ok((0, Effect::None));
                }
                self.cluster_id = form.cluster_id;
                self.level = self.level.max(Level::from_wire(form.level));
                Ok((0, Effect::IdentityChanged))
            }
            Kind::RaiseLevel(raise) => {
                let level = Level::from_wire(raise.level);
                if level <= self.level {
                    return Ok((0, Effect::None));
                }
                self.level = level;
                Ok((0, Effect::IdentityChanged))
            }
            Kind::ArchiveProgress(progress) => {
                let position = ArchivePosition {
                    txid: progress.txid,
                    raft_index: progress.raft_index,
                };
                let slot = self
                    .archive
                    .entry((progress.database_id, progress.destination))
                    .or_insert(position);
                if position.txid > slot.txid {
                    *slot = position;
                }
                Ok((progress.database_id, Effect::None))
            }
            Kind::Ltx(_) | Kind::Chunk(_) => Err(ClusterError::internal(
                "page data is not a metadata command".to_owned(),
            )),
        }
    }

    fn create(
        &mut self,
        index: u64,
        create: v1::CreateDatabaseCommand,
    ) -> Result<(u64, Effect), ClusterError> {
        check_name(&create.name)?;
        if let Some(existing) = self.by_name(&create.name) {
            return Err(ClusterError::already_exists(format!(
                "database {:?} exists already with page size {}",
                existing.name, existing.page_size
            )));
        }
        // The index of the creating entry is unique for ever, and the same everywhere.
        let database = CatalogDatabase {
            id: index,
            name: create.name,
            page_size: create.page_size,
            dropped: false,
            newest: None,
        };
        self.databases.insert(index, database.clone());
        Ok((index, Effect::Create(database)))
    }

    /// Counts a transaction that was committed at `at`. All nodes see the same entries, so all agree on what follows and what does not: an entry
    /// that was made for another content than the one committed can only be of a node whose copy is wrong.
    pub(crate) fn commit(&mut self, ltx: &v1::LtxCommand, at: &LogId) -> Standing {
        let database = self.databases.get_mut(&ltx.database_id);
        let Some(database) = database.filter(|database| !database.dropped) else {
            return Standing::NoDatabase;
        };
        let (term, index) = (at.committed_leader_id().term, at.index());
        if let Some(newest) = &database.newest {
            // A start goes over what the copy of the catalog has seen already.
            if index <= newest.index {
                return Standing::Counted;
            }
            let here = newest.position;
            if Txid::new(ltx.txid) != here.txid.next() || ltx.pre_checksum != here.checksum.get() {
                return Standing::Foreign(format!(
                    "a transaction does not follow what is committed: index={index} txid={} pre_checksum={:016x} committed={here}",
                    ltx.txid, ltx.pre_checksum
                ));
            }
        }
        let position = Position::new(Txid::new(ltx.txid), Checksum::new(ltx.post_checksum));
        database.newest = Some(Mark {
            position,
            term,
            index,
        });
        Standing::Counted
    }

    /// All up to `applied` is in; `before_open` is the point before the first chunk of what is not closed there.
    pub(crate) fn advance(&mut self, applied: LogId, before_open: Option<Point>) {
        self.point.applied = Some(applied);
        self.before_open = before_open;
    }

    /// The log was purged up to here, and this copy of the catalog is older: a build that keeps no positions ran in between, and what it
    /// purged may have led further than they say.
    pub(crate) fn purged_beyond(&mut self, purged: LogId) {
        for database in self.databases.values_mut() {
            database.newest = None;
        }
        self.advance(purged, None);
    }

    /// The newest point at which no transaction is half applied: from there on, the log has all of each.
    ///
    /// A copy of the catalog says that it is of that point, and may hold what came after it: applied again, in order, metadata commands lead
    /// to the same.
    pub(crate) fn whole(&self) -> &Point {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::SnapshotInsideTransaction) {
            return &self.point;
        }
        self.before_open.as_ref().unwrap_or(&self.point)
    }

    pub(crate) fn to_wire(&self) -> v1::Catalog {
        let Point {
            applied,
            membership,
        } = self.whole();
        v1::Catalog {
            applied_index: applied.as_ref().map_or(0, LogId::index),
            applied_term: applied
                .as_ref()
                .map_or(0, |id| id.committed_leader_id().term),
            applied_leader: u64::from(applied.is_some()),
            cluster_id: self.cluster_id.clone(),
            level: self.level.to_wire(),
            databases: self
                .databases
                .values()
                .map(|d| v1::CatalogDatabase {
                    database_id: d.id,
                    name: d.name.clone(),
                    page_size: d.page_size,
                    dropped: d.dropped,
                    position: d.newest.map(|newest| v1::CommittedPosition {
                        txid: newest.position.txid.get(),
                        checksum: newest.position.checksum.get(),
                        raft_index: newest.index,
                        raft_term: newest.term,
                    }),
                })
                .collect(),
            nodes: self
                .nodes
                .iter()
                .map(|(id, instance)| v1::RegisterNodeCommand {
                    node_id: *id,
                    instance_id: instance.clone(),
                })
                .collect(),
            archive: self
                .archive
                .iter()
                .map(|((id, destination), at)| v1::ArchiveProgressCommand {
                    database_id: *id,
                    destination: destination.clone(),
                    txid: at.txid,
                    raft_index: at.raft_index,
                })
                .collect(),
            membership: serde_json::to_vec(membership).unwrap_or_default().into(),
        }
    }

    /// Whether a node that reads `ours` understands all of a catalog: fields that it does not know would be dropped in silence.
    pub(crate) fn check_level(wire: &v1::Catalog, ours: Levels) -> Result<(), Unfit> {
        ours.check("the catalog", Level::from_wire(wire.level))
    }

    /// A copy is of a point that no transaction crosses: nothing is open in it. Its level has been checked.
    pub(crate) fn from_wire(wire: v1::Catalog) -> Result<Self, ClusterError> {
        let membership: Stored = serde_json::from_slice(&wire.membership).map_err(|e| {
            ClusterError::corrupt(format!("catalog: membership does not parse: {e}"))
        })?;
        Ok(Self {
            before_open: None,
            point: Point {
                applied: (wire.applied_leader != 0)
                    .then(|| LogId::new_term_index(wire.applied_term, wire.applied_index)),
                membership,
            },
            cluster_id: wire.cluster_id,
            level: Level::from_wire(wire.level),
            nodes: wire
                .nodes
                .into_iter()
                .map(|n| (n.node_id, n.instance_id))
                .collect(),
            databases: wire
                .databases
                .into_iter()
                .map(|d| {
                    let database = CatalogDatabase {
                        id: d.database_id,
                        name: d.name,
                        page_size: d.page_size,
                        dropped: d.dropped,
                        newest: d.position.map(|newest| Mark {
                            position: Position::new(
                                Txid::new(newest.txid),
                                Checksum::new(newest.checksum),
                            ),
                            term: newest.raft_term,
                            index: newest.raft_index,
                        }),
                    };
                    (database.id, database)
                })
                .collect(),
            archive: wire
                .archive
                .into_iter()
                .map(|a| {
                    (
                        (a.database_id, a.destination),
                        ArchivePosition {
                            txid: a.txid,
                            raft_index: a.raft_index,
                        },
                    )
                })
                .collect(),
        })
    }

    pub(crate) fn set_membership(&mut self, log_id: LogId, membership: Membership) {
        self.point.membership = Stored::new(Some(log_id), membership);
    }
}

/// A name is a file name on every node: letters, digits, `_`, `-` and `.`, not starting with a dot.
/// Whether a database of this name may be proposed. Those that are there keep their names.
pub(crate) fn check_new_name(catalog: &Catalog, name: &str) -> Result<(), ClusterError> {
    match database_name_fault(name) {
        Some(fault) if catalog.by_name(name).is_none() => Err(ClusterError::invalid(fault)),
        _ => Ok(()),
    }
}

/// Whether an entry of the log may create a database of this name.
fn check_name(name: &str) -> Result<(), ClusterError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 128 bytes"
    } else if name.starts_with('.') {
        "starts with a dot"
    } else if !name.chars().all(allowed) {
        "may hold only letters, digits, '_', '-' and '.'"
    } else {
        return Ok(());
    };
    Err(ClusterError::invalid(format!(
        "database name {reason}: name={name:?}"
    )))
}

#[cfg(test)]
mod tests;
