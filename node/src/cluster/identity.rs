//! Who this node is, and whom it may talk to.
//!
//! A cluster has a name (configured) and an id (made when it is formed); a node has an id (configured) and an instance id (made
//! once per data directory). The instance id tells a node that lost its disk from itself: such a node has forgotten its
//! votes and its log, so letting it vote again could elect a primary that lacks acknowledged writes. A boot id, made at each start, tells two
//! processes on copies of one data directory apart ([`boots`]), and what a node acknowledged tells a disk that was put back to an old copy
//! ([`witness`]). Every call between nodes carries who speaks and whom it means; both sides check.
//!
//! Who was removed, and who was added again, is decided by the newest word: each side says by which entry of the log it knows what it knows,
//! and a node that is behind cannot shut out one that was added again meanwhile.

mod boots;
mod mistake;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use halite_log::LogId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::feature_level::{FeatureLevel, Levels};

pub(crate) use boots::Suspect;
use boots::{Boots, Caller};
pub(crate) use mistake::MistakenIdentity;
use mistake::{ACKNOWLEDGED_KEY, COPY_KEY, REMOVED_KEY};
use witness::Witness;
pub(crate) use witness::{Acknowledged, Held};

const CLUSTER_NAME: &str = "halite-cluster-name";
const CLUSTER_ID: &str = "halite-cluster-id";
const FROM: &str = "halite-from";
const FROM_INSTANCE: &str = "halite-from-instance";
const FROM_BOOT: &str = "halite-from-boot";
/// The entry that made the caller a member.
const FROM_SINCE: &str = "halite-from-since";
const TO: &str = "halite-to";
const TO_INSTANCE: &str = "halite-to-instance";
/// The entry by which the caller knows the members.
const KNOWN_AT: &str = "halite-known-at";
/// What the receiver acknowledged to the caller.
const ACKNOWLEDGED: &str = "halite-acknowledged";

/// Registered for a removed node: no data directory has this instance id.
pub(crate) const REMOVED: &str = "removed";

/// What this node knows of itself and its peers. Shared by all that make or answer calls.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_name: String,
    pub(crate) node_id: u64,
    pub(crate) instance_id: String,
    /// Made at each start.
    pub(crate) boot_id: String,
    pub(crate) level: FeatureLevel,
    known: RwLock<Known>,
    standing: RwLock<Standing>,
    boots: Mutex<Boots>,
    suspected: Notify,
    witness: Mutex<Witness>,
    /// Something is to be kept.
    news: AtomicBool,
}

/// Whether a node that stopped taking part does so after a restart, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    Yes,
    No,
}

/// What is to be kept on disk.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) stopped: Option<Arc<str>>,
    pub(crate) witnessed: Vec<(u64, String, Acknowledged)>,
}

/// As the catalog says.
#[derive(Debug, Default)]
struct Known {
    cluster_id: Option<Arc<str>>,
    instances: BTreeMap<u64, String>,
    at: Option<LogId>,
}

/// How this node itself stands.
#[derive(Debug, Default)]
struct Standing {
    /// The entry that made it a member, while it is one.
    since: Option<LogId>,
    /// The newest entry by which a peer knew that it was removed.
    removed_at: Option<LogId>,
    /// What it acknowledged, as a peer said that refused it.
    claimed: Option<Acknowledged>,
    /// Why it takes no part.
    stopped: Option<(Arc<str>, Lasting)>,
}

impl Identity {
    pub(crate) fn new(
        cluster_name: String,
        node_id: u64,
        instance_id: String,
        boot_id: String,
        levels: Levels,
    ) -> Self {
        Self {
            cluster_name,
            node_id,
            instance_id,
            boot_id,
            level: FeatureLevel::new(levels),
            known: RwLock::default(),
            standing: RwLock::default(),
            boots: Mutex::default(),
            suspected: Notify::new(),
            witness: Mutex::default(),
            news: AtomicBool::new(false),
        }
    }

    /// A peer said that this node is not part of the cluster any more, and by which entry it knows.
    pub(crate) fn heard_removed(&self, at: Option<LogId>) {
        let mut standing = self.standing.write();
        standing.removed_at = standing.removed_at.max(at);
    }

    /// Learns from a peer's refusal.
    pub(crate) fn note_refusal(&self, status: &Status) {
        if let Some(at) = status.metadata().get(REMOVED_KEY) {
            self.heard_removed(at.to_str().ok().and_then(log_id_from_text));
        }
        if status.metadata().contains_key(COPY_KEY) {
            self.stop(&format!(
                "this process runs on a copy of the data directory of node {id}, which answers at its address: {}. Never run a copy: \
                 stop this process, and delete its data directory",
                status.message(),
                id = self.node_id
            ), Lasting::No);
        }
        let said = status.metadata().get(ACKNOWLEDGED_KEY);
        if let Some(said) = said.and_then(|said| said.to_str().ok()?.parse().ok()) {
            self.standing.write().claimed = Some(said);
        }
        self.level.note_refusal(status.metadata());
    }

    /// Whether a peer said what this node acknowledged to it since that was looked at last.
    pub(crate) fn is_claimed(&self) -> bool {
        self.standing.read().claimed.is_some()
    }

    /// Looks at what a peer said that this node acknowledged. The call that it refused may be older than that, so only what the disk holds
    /// now counts.
    pub(crate) fn judge_claim(&self, held: Held) {
        let said = self.standing.write().claimed.take();
        #[cfg(feature = "planted-bugs")]
        let said = said.filter(|_| !halite_planted::on(halite_planted::Bug::OldDiskWelcome));
        if let Some(said) = said.filter(|said| said.is_denied_by(held)) {
            let mistake = MistakenIdentity::RolledBack {
                node_id: self.node_id,
                said,
                held,
            };
            self.stop(&mistake.to_string(), Lasting::Yes);
        }
    }

    /// The members in force hold this node since that entry; `None` if they do not.
    pub(crate) fn set_member_since(&self, since: Option<LogId>) {
        if self.standing.read().since != since {
            self.standing.write().since = since;
        }
    }

    /// A peer that knows more than this node said that it was removed.
    pub(crate) fn is_removed(&self) -> bool {
        let standing = self.standing.read();
        standing.since.is_some() && standing.removed_at >= standing.since
    }

    /// A peer said that this node was removed, whatever its own log says.
    pub(crate) fn was_told_removed(&self) -> bool {
        self.standing.read().removed_at.is_some()
    }

    /// From now on this node takes no part: it makes no call, and answers none. The first reason stays. True if it took part before.
    pub(crate) fn stop(&self, why: &str, lasting: Lasting) -> bool {
        let mut standing = self.standing.write();
        if standing.stopped.is_some() {
            return false;
        }
        tracing::error!(node = self.node_id, "this node stops taking part: {why}");
        standing.stopped = Some((why.into(), lasting));
        self.news.store(true, Ordering::Relaxed);
        true
    }

    /// Why this node takes no part.
    pub(crate) fn stopped(&self) -> Option<Arc<str>> {
        let standing = self.standing.read();
        standing.stopped.as_ref().map(|(why, _)| why.clone())
    }

    pub(crate) fn cluster_id(&self) -> Option<Arc<str>> {
        self.known.read().cluster_id.clone()
    }

    pub(crate) fn instance_of(&self, node_id: u64) -> Option<String> {
        self.known.read().instances.get(&node_id).cloned()
    }

    /// The newest entry that what is known of the members comes from.
    pub(crate) fn known_at(&self) -> Option<LogId> {
        self.known.read().at
    }

    /// Takes over what the catalog says, as of the entry `at`.
    pub(crate) fn learn(
        &self,
        cluster_id: &str,
        instances: BTreeMap<u64, String>,
        at: Option<LogId>,
    ) {
        let mut known = self.known.write();
        known.cluster_id = (!cluster_id.is_empty()).then(|| cluster_id.into());
        known.instances = instances;
        known.at = at;
    }

    /// While this node led, `node_id` acknowledged that. True if this is news.
    pub(crate) fn witness(&self, node_id: u64, acknowledged: Acknowledged) -> bool {
        let known = self.known.read();
        let Some(instance) = known.instances.get(&node_id) else {
            return false;
        };
        let is_new = self.witness.lock().note(node_id, instance, acknowledged);
        if is_new {
            self.news.store(true, Ordering::Relaxed);
        }
        is_new
    }

    /// The same, from an earlier start.
    pub(crate) fn recall(&self, node_id: u64, instance_id: &str, acknowledged: Acknowledged) {
        self.witness.lock().note(node_id, instance_id, acknowledged);
    }

    /// What has to be kept since this was asked last.
    pub(crate) fn take_news(&self) -> Option<News> {
        if !self.news.swap(false, Ordering::Relaxed) {
            return None;
        }
        let stopped = self.standing.read().stopped.clone();
        let witness = self.witness.lock();
        let all = witness.all();
        Some(News {
            stopped: stopped
                .filter(|(_, lasting)| *lasting == Lasting::Yes)
                .map(|(why, _)| why),
            witnessed: all
                .map(|(id, instance, said)| (id, instance.to_owned(), said))
                .collect(),
        })
    }

    /// It could not be kept.
    pub(crate) fn put_news_back(&self) {
        self.news.store(true, Ordering::Relaxed);
    }

    /// Refuses a candidate that held less when it called than it acknowledged to this node: its disk was put back, or its call is old. It
    /// judges that itself.
    pub(crate) fn check_candidate(&self, node_id: u64, held: Held) -> Result<(), MistakenIdentity> {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::OldDiskWelcome) {
            return Ok(());
        }
        match self.acknowledged_by(node_id) {
            Some(said) if said.is_denied_by(held) => {
                tracing::warn!(node = node_id, ?said, ?held, "candidate refused");
                Err(MistakenIdentity::ForgetfulCandidate {
                    node_id,
                    said,
                    held,
                })
            }
            _ => Ok(()),
        }
    }

    /// What the data directory that the cluster knows under `node_id` acknowledged to this node.
    fn acknowledged_by(&self, node_id: u64) -> Option<Acknowledged> {
        let known = self.known.read();
        let instance = known.instances.get(&node_id)?;
        self.witness.lock().of(node_id, instance)
    }

    /// Until another process than before called in the name of a peer; who, comes from [`Self::suspects`].
    pub(crate) async fn suspicion(&self) {
        self.suspected.notified().await;
    }

    /// Peers at whose address has to be asked which process they are.
    pub(crate) fn suspects(&self) -> Vec<Suspect> {
        self.boots.lock().to_ask()
    }

    /// What answers at the address of a peer, asked because of that process; `None`: nothing does.
    pub(crate) fn confirm(&self, suspect: &Suspect, answered: Option<(&str, &str)>) {
        let mut boots = self.boots.lock();
        let node_id = suspect.node_id;
        let Some((instance_id, boot_id)) = answered else {
            return boots.silent(suspect);
        };
        if boots.answered(suspect, instance_id, boot_id) {
            tracing::error!(
                node = node_id,
                boot = suspect.boot_id,
                "a process that is not the one at the address of node {node_id} called in its name: it runs on a copy of its data directory, \
                 or has ended; it is refused"
            );
        }
    }

    /// A process asks who is here, as a node does when it has started: it will call soon.
    pub(crate) fn meet(&self, node_id: u64, instance_id: &str, boot_id: &str) {
        if node_id == self.node_id {
            if instance_id == self.instance_id && boot_id != self.boot_id {
                self.meet_copy(boot_id);
            }
            return;
        }
        let is_registered = self.instance_of(node_id).as_deref() == Some(instance_id);
        if is_registered && self.boots.lock().call(node_id, instance_id, boot_id) == Caller::New {
            self.suspected.notify_one();
        }
    }

    /// Another process says that it is this one.
    fn meet_copy(&self, boot_id: &str) {
        tracing::error!(
            node = self.node_id,
            boot = boot_id,
            "another process runs on a copy of this data directory: stop it and delete the copy"
        );
    }

    /// Signs an outgoing call to node `to`.
    ///
    /// # Errors
    /// This node takes no part.
    pub(crate) fn sign(&self, to: u64, metadata: &mut MetadataMap) -> Result<(), Status> {
        let standing = self.standing.read();
        if let Some((why, _)) = &standing.stopped {
            return Err(Status::permission_denied(format!(
                "node {} takes no part: {why}",
                self.node_id
            )));
        }
        self.level.sign(metadata);
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
        put(FROM_BOOT, &self.boot_id);
        put(FROM_SINCE, &log_id_to_text(standing.since));
        put(TO, &to.to_string());
        let instance = known.instances.get(&to).map(String::as_str);
        put(TO_INSTANCE, instance.unwrap_or_default());
        put(KNOWN_AT, &log_id_to_text(known.at));
        if let Some(said) = instance.and_then(|instance| self.witness.lock().of(to, instance)) {
            put(ACKNOWLEDGED, &said.to_string());
        }
        Ok(())
    }

    /// Checks an incoming call; the caller's node id. `held`: how far this node's disk reaches.
    pub(crate) fn verify(
        &self,
        metadata: &MetadataMap,
        held: Held,
    ) -> Result<u64, MistakenIdentity> {
        let call = Call(metadata);
        let theirs = call.text(CLUSTER_NAME)?;
        if theirs != self.cluster_name {
            return Err(MistakenIdentity::ClusterName {
                ours: self.cluster_name.clone(),
                theirs: theirs.into(),
            });
        }
        let meant = call.number(TO)?;
        if meant != self.node_id {
            return Err(MistakenIdentity::NodeId {
                meant,
                node_id: self.node_id,
            });
        }
        let known = self.known.read();
        let theirs = call.text(CLUSTER_ID)?;
        if let Some(ours) = known.cluster_id.as_deref()
            && !theirs.is_empty()
            && ours != theirs
        {
            return Err(MistakenIdentity::ClusterId {
                ours: ours.into(),
                theirs: theirs.into(),
            });
        }
        self.verify_receiver(&call, held)?;
        self.verify_caller(&call, &known)
    }

    /// That the call is meant for this data directory, and that this is all the caller has seen of it.
    fn verify_receiver(&self, call: &Call<'_>, held: Held) -> Result<(), MistakenIdentity> {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::AnyInstanceWelcome)
            || halite_planted::on(halite_planted::Bug::OldDiskWelcome)
        {
            return Ok(());
        }
        let standing = self.standing.read();
        if let Some((why, _)) = &standing.stopped {
            return Err(MistakenIdentity::Stopped {
                node_id: self.node_id,
                why: why.to_string(),
            });
        }
        let expected = call.text(TO_INSTANCE)?;
        if !expected.is_empty() && expected != self.instance_id {
            // A caller that is behind does not know yet that the node was added again.
            if standing.since.is_some() && standing.since > call.log_id(KNOWN_AT) {
                return Ok(());
            }
            return Err(MistakenIdentity::Instance {
                node_id: self.node_id,
                expected: expected.into(),
                found: self.instance_id.clone(),
            });
        }
        if let Some(said) = call.acknowledged()
            && said.is_denied_by(held)
        {
            return Err(MistakenIdentity::RolledBack {
                node_id: self.node_id,
                said,
                held,
            });
        }
        Ok(())
    }

    fn verify_caller(&self, call: &Call<'_>, known: &Known) -> Result<u64, MistakenIdentity> {
        let from = call.number(FROM)?;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::AnyInstanceWelcome) {
            return Ok(from);
        }
        let found = call.text(FROM_INSTANCE)?;
        // Whoever is a member by a newer entry than this node knows of was added again meanwhile.
        let since = call.log_id(FROM_SINCE);
        #[cfg(feature = "planted-bugs")]
        let since = since.filter(|_| !halite_planted::on(halite_planted::Bug::OldRemovalStands));
        if let Some(expected) = known.instances.get(&from)
            && expected != found
            && (since.is_none() || since <= known.at)
        {
            return Err(if expected == REMOVED {
                MistakenIdentity::Removed {
                    node_id: from,
                    at: known.at,
                }
            } else {
                MistakenIdentity::Instance {
                    node_id: from,
                    expected: expected.clone(),
                    found: found.into(),
                }
            });
        }
        let boot = call.text(FROM_BOOT).unwrap_or_default();
        match self.boots.lock().call(from, found, boot) {
            Caller::Known => {}
            Caller::New => {
                self.suspected.notify_one();
                return Err(MistakenIdentity::NewProcess { node_id: from });
            }
            Caller::Copy => return Err(MistakenIdentity::Copy { node_id: from }),
        }
        // Last: it may end this node, so only a process that is the member is believed.
        self.level.verify(from, call.0)?;
        Ok(from)
    }
}

/// The metadata of an incoming call.
struct Call<'a>(&'a MetadataMap);

impl Call<'_> {
    fn text(&self, key: &'static str) -> Result<&str, MistakenIdentity> {
        self.0
            .get(key)
            .and_then(|v| v.to_str().ok())
            .ok_or(MistakenIdentity::Missing { key })
    }

    fn number(&self, key: &'static str) -> Result<u64, MistakenIdentity> {
        self.text(key)?
            .parse::<u64>()
            .map_err(|_| MistakenIdentity::Missing { key })
    }

    fn log_id(&self, key: &'static str) -> Option<LogId> {
        self.text(key).ok().and_then(log_id_from_text)
    }

    fn acknowledged(&self) -> Option<Acknowledged> {
        self.text(ACKNOWLEDGED).ok()?.parse().ok()
    }
}

fn log_id_to_text(id: Option<LogId>) -> String {
    id.map_or_else(String::new, |id| {
        format!("{}.{}", id.committed_leader_id().term, id.index())
    })
}

fn log_id_from_text(text: &str) -> Option<LogId> {
    let (term, index) = text.split_once('.')?;
    Some(LogId::new_term_index(
        term.parse().ok()?,
        index.parse().ok()?,
    ))
}
