//! Who this node is, and whom it may talk to.
//!
//! A cluster has a name (configured) and an id (made when it is formed); a node has an id (configured) and an instance id (made
//! once per data directory). The instance id tells a node that lost its disk from itself: such a node has forgotten its
//! votes and its log, so letting it vote again could elect a primary that lacks acknowledged writes. Every call between nodes
//! carries who speaks and whom it means; both sides check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

const CLUSTER_NAME: &str = "halite-cluster-name";
const CLUSTER_ID: &str = "halite-cluster-id";
const FROM: &str = "halite-from";
const FROM_INSTANCE: &str = "halite-from-instance";
const TO: &str = "halite-to";
const TO_INSTANCE: &str = "halite-to-instance";

/// A call that is not meant for this node, or does not come from whom it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MistakenIdentity {
    #[error("this node belongs to cluster {ours:?}, the caller to {theirs:?}")]
    ClusterName { ours: String, theirs: String },
    #[error("this node belongs to another cluster of the same name: ours={ours} theirs={theirs}")]
    ClusterId { ours: String, theirs: String },
    #[error("the call is meant for node {meant}, this is node {node_id}")]
    NodeId { meant: u64, node_id: u64 },
    #[error(
        "the data directory of node {node_id} is not the one the cluster knows (expected instance {expected}, found {found}): \
         remove the node from the cluster and add it again"
    )]
    Instance {
        node_id: u64,
        expected: String,
        found: String,
    },
    #[error("node {node_id} was removed from the cluster")]
    Removed { node_id: u64 },
    #[error("the call does not say who makes it: missing or malformed metadata key={key}")]
    Missing { key: &'static str },
}

/// Registered for a removed node: no data directory has this instance id.
pub(crate) const REMOVED: &str = "removed";
/// Set on the refusal of a node that was removed, so that it knows.
const REMOVED_KEY: &str = "halite-removed";

impl MistakenIdentity {
    /// The refusal that the caller gets.
    pub(crate) fn to_status(&self) -> Status {
        let mut status = Status::permission_denied(self.to_string());
        if let Self::Removed { .. } = self {
            status
                .metadata_mut()
                .insert(REMOVED_KEY, MetadataValue::from_static("1"));
        }
        status
    }
}

/// What this node knows of itself and its peers. Shared by all that make or answer calls.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_name: String,
    pub(crate) node_id: u64,
    pub(crate) instance_id: String,
    known: RwLock<Known>,
    fenced: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    cluster_id: Option<Arc<str>>,
    instances: BTreeMap<u64, String>,
}

impl Identity {
    pub(crate) fn new(cluster_name: String, node_id: u64, instance_id: String) -> Self {
        Self {
            cluster_name,
            node_id,
            instance_id,
            known: RwLock::default(),
            fenced: AtomicBool::new(false),
        }
    }

    /// A peer that knows the cluster said that this node is not part of it any more.
    pub(crate) fn fence(&self) {
        self.fenced.store(true, Ordering::Relaxed);
    }

    /// Learns from a peer's refusal whether this node was removed.
    pub(crate) fn note_refusal(&self, status: &Status) {
        if status.metadata().contains_key(REMOVED_KEY) {
            self.fence();
        }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    pub(crate) fn cluster_id(&self) -> Option<Arc<str>> {
        self.known.read().cluster_id.clone()
    }

    pub(crate) fn instance_of(&self, node_id: u64) -> Option<String> {
        self.known.read().instances.get(&node_id).cloned()
    }

    /// Takes over what the catalog says.
    pub(crate) fn learn(&self, cluster_id: &str, instances: BTreeMap<u64, String>) {
        let mut known = self.known.write();
        known.cluster_id = (!cluster_id.is_empty()).then(|| cluster_id.into());
        if instances
            .get(&self.node_id)
            .is_some_and(|ours| *ours == self.instance_id)
        {
            self.fenced.store(false, Ordering::Relaxed);
        }
        known.instances = instances;
    }

    /// Signs an outgoing call to node `to`.
    pub(crate) fn sign(&self, to: u64, metadata: &mut MetadataMap) {
        let known = self.known.read();
        let mut put = |key: &'static str, value: &str| {
            if let Ok(value) = MetadataValue::try_from(value) {
                metadata.insert(key, value);
            }
        };
        put(CLUSTER_NAME, &self.cluster_name);
        put(CLUSTER_ID, known.cluster_id.as_deref().unwrap_or_default());
        put(FROM, &self.node_id.to_string());
        put(FROM_INSTANCE, &self.instance_id);
        put(TO, &to.to_string());
        put(
            TO_INSTANCE,
            known
                .instances
                .get(&to)
                .map(String::as_str)
                .unwrap_or_default(),
        );
    }

    /// Checks an incoming call; the caller's node id.
    pub(crate) fn verify(&self, metadata: &MetadataMap) -> Result<u64, MistakenIdentity> {
        let text = |key: &'static str| {
            metadata
                .get(key)
                .and_then(|v| v.to_str().ok())
                .ok_or(MistakenIdentity::Missing { key })
        };
        let number = |key| {
            text(key)?
                .parse::<u64>()
                .map_err(|_| MistakenIdentity::Missing { key })
        };

        let theirs = text(CLUSTER_NAME)?;
        if theirs != self.cluster_name {
            return Err(MistakenIdentity::ClusterName {
                ours: self.cluster_name.clone(),
                theirs: theirs.into(),
            });
        }
        let meant = number(TO)?;
        if meant != self.node_id {
            return Err(MistakenIdentity::NodeId {
                meant,
                node_id: self.node_id,
            });
        }
        let known = self.known.read();
        let theirs = text(CLUSTER_ID)?;
        if let Some(ours) = known.cluster_id.as_deref()
            && !theirs.is_empty()
            && ours != theirs
        {
            return Err(MistakenIdentity::ClusterId {
                ours: ours.into(),
                theirs: theirs.into(),
            });
        }
        let expected = text(TO_INSTANCE)?;
        if !expected.is_empty() && expected != self.instance_id {
            return Err(MistakenIdentity::Instance {
                node_id: self.node_id,
                expected: expected.into(),
                found: self.instance_id.clone(),
            });
        }
        let from = number(FROM)?;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::AnyInstanceWelcome) {
            return Ok(from);
        }
        let found = text(FROM_INSTANCE)?;
        if known
            .instances
            .get(&from)
            .is_some_and(|instance| instance == REMOVED)
        {
            return Err(MistakenIdentity::Removed { node_id: from });
        }
        if let Some(expected) = known.instances.get(&from)
            && expected != found
        {
            return Err(MistakenIdentity::Instance {
                node_id: from,
                expected: expected.clone(),
                found: found.into(),
            });
        }
        Ok(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, id: u64, instance: &str) -> Identity {
        Identity::new(name.into(), id, instance.into())
    }

    fn call(from: &Identity, to_id: u64, to: &Identity) -> Result<u64, MistakenIdentity> {
        let mut metadata = MetadataMap::new();
        from.sign(to_id, &mut metadata);
        to.verify(&metadata)
    }

    fn known(instances: &[(u64, &str)]) -> BTreeMap<u64, String> {
        instances
            .iter()
            .map(|(id, instance)| (*id, (*instance).to_owned()))
            .collect()
    }

    #[test]
    fn blank_nodes_of_one_cluster_may_talk() {
        assert_eq!(call(&node("a", 1, "x"), 2, &node("a", 2, "y")), Ok(1));
    }

    #[test]
    fn foreign_cluster_is_refused() {
        let (one, two) = (node("a", 1, "x"), node("b", 2, "y"));
        assert!(matches!(
            call(&one, 2, &two),
            Err(MistakenIdentity::ClusterName { .. })
        ));
        let (one, two) = (node("a", 1, "x"), node("a", 2, "y"));
        one.learn("first", known(&[]));
        two.learn("second", known(&[]));
        assert!(matches!(
            call(&one, 2, &two),
            Err(MistakenIdentity::ClusterId { .. })
        ));
    }

    #[test]
    fn call_for_another_node_is_refused() {
        assert!(matches!(
            call(&node("a", 1, "x"), 3, &node("a", 2, "y")),
            Err(MistakenIdentity::NodeId {
                meant: 3,
                node_id: 2
            })
        ));
    }

    #[test]
    fn node_that_lost_its_disk_is_refused_in_both_directions() {
        let one = node("a", 1, "x");
        one.learn("c", known(&[(1, "x"), (2, "y")]));
        let wiped = node("a", 2, "new");
        assert!(matches!(
            call(&wiped, 1, &one),
            Err(MistakenIdentity::Instance { node_id: 2, .. })
        ));
        assert!(matches!(
            call(&one, 2, &wiped),
            Err(MistakenIdentity::Instance { node_id: 2, .. })
        ));
    }

    #[test]
    fn removed_node_is_told_so_and_nobody_else() {
        let one = node("a", 1, "x");
        one.learn("c", known(&[(1, "x"), (2, REMOVED)]));
        let removed = node("a", 2, "y");
        removed.learn("c", known(&[(1, "x"), (2, "y")]));
        let mistake = call(&removed, 1, &one).expect_err("a removed node is refused");
        removed.note_refusal(&mistake.to_status());
        assert!(removed.is_fenced());
        let mistake = call(&one, 2, &removed).expect_err("a removed node is not meant");
        one.note_refusal(&mistake.to_status());
        assert!(!one.is_fenced());
    }

    #[test]
    fn unsigned_call_is_refused() {
        assert!(matches!(
            node("a", 1, "x").verify(&MetadataMap::new()),
            Err(MistakenIdentity::Missing { .. })
        ));
    }
}
