//! The ordered apply: every committed entry passes here once, in log order, on every node.
//!
//! It waits for no reader, no lock of another program and no retry: a database that cannot be opened, created or dropped is the business
//! of [`super::databases`].
//!
//! It decides the outcome of each gate (the lane's own entry arrives: open), hands other nodes' transactions to the databases,
//! and keeps the catalog. An entry reaches SQLite only after it is on the local disk too: a quorum of others may be faster
//! than this node's own fsync, and SQLite must never hold what the local log could lose.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt};
use halite_log::{EntryPayload, LogId, LogStore, MetaKey, TypeConfig};
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use openraft::OptionalSend;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::entry::RaftEntry as _;
use openraft::storage::{EntryResponder, RaftStateMachine};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::catalog::{Catalog, Effect, Point, Standing, Stored};
use super::command::{self, Content, Undecoded};
use super::databases::{self, Databases, Passed};
use super::error::ClusterError;
use super::feature_level::Level;
use super::freshness::Freshness;
use super::identity::Identity;
use super::ltx_log::{self, OpenChunks};
use super::opener::Opener;
use super::role::Role;
use super::snapshot::{SnapshotBuilder, SnapshotData, of_catalog};
use crate::database::{
    ApplyError, Database, DatabaseId, Health, Leadership, Mark, ReaderPool, blocking,
};

/// How often a wait for the disk looks whether the disk has failed.
const FAILURE_CHECK: Duration = Duration::from_millis(200);

/// What the state machine shares with the rest of the node.
pub(crate) struct Shared {
    pub(crate) catalog: Mutex<Catalog>,
    pub(crate) databases: Databases,
    /// Index up to which everything is visible to readers of this node.
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) freshness: Mutex<Freshness>,
    pub(crate) open_chunks: OpenChunks,
    pub(crate) log: LogStore,
    pub(crate) identity: Arc<Identity>,
    pub(crate) opener: Opener,
    /// Who this node is at the moment; written by `role::watch_role` alone.
    pub(crate) role: watch::Sender<Role>,
    /// Closes its connections before a database goes.
    pub(crate) readers: OnceLock<Arc<ReaderPool>>,
}

impl Shared {
    pub(crate) fn database(&self, name: &str) -> Result<Arc<Database>, ClusterError> {
        let id = self.catalog.lock().by_name(name).map(|d| d.id);
        let id = id.ok_or_else(|| ClusterError::no_such_database(name))?;
        self.database_or_why(id, name)
    }

    /// The database with this id, or why it cannot be used; `name` is for the message.
    pub(crate) fn database_or_why(
        &self,
        id: u64,
        name: &str,
    ) -> Result<Arc<Database>, ClusterError> {
        // Looked at in this order: one that opens in between is found the second time.
        if let Some(refusal) = self.databases.refusal(id) {
            return Err(refusal);
        }
        self.database_by_id(id)
            .ok_or_else(|| ClusterError::no_such_database(name))
    }

    pub(crate) fn database_by_id(&self, id: u64) -> Option<Arc<Database>> {
        self.databases.get(id)
    }

    /// Those that are open.
    pub(crate) fn all_databases(&self) -> Vec<Arc<Database>> {
        self.databases.all()
    }

    /// Under which this node's lanes write while it leads in `term`.
    pub(crate) fn leadership(&self, term: u64) -> Leadership {
        Leadership {
            term,
            leader_id: self.identity.node_id,
        }
    }

    /// Tells peers' checks and writers what the catalog knows now.
    pub(crate) fn publish_identity(&self, at: Option<LogId>) {
        let catalog = self.catalog.lock();
        self.identity.level.learn(catalog.level);
        self.identity
            .learn(&catalog.cluster_id, catalog.nodes.clone(), at);
    }

    /// From here on, builds below `level` refuse this data directory. Before anything of that level is kept in it.
    async fn mark_directory(&self, level: Level) -> io::Result<()> {
        let format = u64::from(level.get());
        if self.log.format() < format {
            self.log
                .raise_format(format)
                .await
                .map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// The content of an entry; one that this build does not know ends the node, and nothing of it is applied.
    fn content(&self, payload: EntryPayload) -> io::Result<Content> {
        Content::of(payload, self.identity.level.ours()).map_err(|error| {
            if let Undecoded::Unfit(unfit) = &error {
                self.identity.level.stop(unfit.clone());
            }
            error.into()
        })
    }

    pub(crate) async fn persist_catalog(&self, sync: bool) -> io::Result<()> {
        let bytes = self.catalog.lock().to_wire().encode_to_vec();
        self.log
            .meta_put(vec![(catalog_key(), Some(bytes.into()))], sync)
            .await
            .map_err(io::Error::other)
    }

    /// Opens the lane of a database that comes while this node leads.
    pub(crate) fn open_lane_of(&self, database: &Database) {
        if let Role::Primary { term } = *self.role.borrow() {
            database.open_lane(self.leadership(term));
        }
    }

    /// No reader holds the file any more when this returns.
    pub(crate) async fn forget_readers(&self, id: DatabaseId) {
        let Some(readers) = self.readers.get().cloned() else {
            return;
        };
        let forgotten = blocking(&self.opener.options.host, move || readers.forget(id));
        match forgotten.await {
            Ok(true) => {}
            Ok(false) => warn!(database_id = %id, "a read still holds a database that goes away"),
            Err(_) => {
                error!(database_id = %id, "a reader thread failed while it let go of a database")
            }
        }
    }

    fn set_applied(&self, index: u64) {
        self.freshness.lock().applied(index);
        self.applied.send_replace(index);
    }
}

pub(crate) fn catalog_key() -> MetaKey {
    MetaKey::node("catalog").expect("a constant key without slashes")
}

/// openraft's handle on [`Shared`].
pub(crate) struct StateMachine {
    pub(crate) shared: Arc<Shared>,
}

type Visible = oneshot::Receiver<Result<(), ApplyError>>;

impl StateMachine {
    /// Where the log is applied to: `last`, or what was before this batch.
    fn point(&self, last: Option<LogId>) -> Point {
        let catalog = self.shared.catalog.lock();
        Point {
            applied: last.or(catalog.point.applied),
            membership: catalog.point.membership.clone(),
        }
    }

    /// Hands one transaction, whose chunks lie at `chunks`, to its database; what comes back resolves when it is visible.
    fn apply_ltx(&self, ltx: v1::LtxCommand, log_id: &LogId, chunks: Vec<u64>) -> Option<Pending> {
        let (database_id, proposal_id) = (ltx.database_id, ltx.proposal_id);
        let (index, term) = (log_id.index(), log_id.committed_leader_id().term);
        if ltx_log::is_whole(&ltx, &chunks)
            && let Some(committed) = self.foreign(&ltx, log_id)
        {
            let database = self.shared.database_by_id(database_id)?;
            database.refuse(proposal_id);
            let visible = database.told(committed);
            return Some(Pending {
                index,
                database,
                visible,
            });
        }
        let committed = ltx_log::committed(ltx, index, term, chunks, &self.shared.log);
        let Some(committed) = committed else {
            self.shared.database_by_id(database_id)?.refuse(proposal_id);
            return None;
        };
        let databases = &self.shared.databases;
        let database = databases.take_or_pass(database_id, databases::passed(&committed))?;
        let visible = database.apply(committed);
        Some(Pending {
            index,
            database,
            visible,
        })
    }

    /// Counts the transaction in the catalog. One that does not follow what is committed is applied by no node: what is committed instead.
    fn foreign(&self, ltx: &v1::LtxCommand, log_id: &LogId) -> Option<Mark> {
        let mut catalog = self.shared.catalog.lock();
        let Standing::Foreign(why) = catalog.commit(ltx, log_id) else {
            return None;
        };
        error!(
            why,
            "a committed transaction is passed over: the copy of the node that made it is wrong"
        );
        catalog.database(ltx.database_id)?.newest
    }

    /// Until the entry is on this disk. A log whose disk failed says so, or this would wait for ever.
    async fn wait_flushed(
        &self,
        flushed: &mut watch::Receiver<Option<u64>>,
        index: u64,
    ) -> io::Result<()> {
        loop {
            let reached = flushed.wait_for(|flushed| *flushed >= Some(index));
            match tokio::time::timeout(FAILURE_CHECK, reached).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(io::Error::other("the log is closed")),
                Err(_) => {
                    if let Some(why) = self.shared.log.failure() {
                        return Err(io::Error::other(why));
                    }
                }
            }
        }
    }

    async fn apply_metadata(&self, log_id: LogId, kind: Kind) -> io::Result<v1::CommandReply> {
        let (reply, effect, level) = {
            let mut catalog = self.shared.catalog.lock();
            let (reply, effect) = catalog.apply(log_id.index(), kind);
            (reply, effect, catalog.level)
        };
        self.shared.mark_directory(level).await?;
        match effect {
            Effect::None => {}
            Effect::IdentityChanged => self.shared.publish_identity(Some(log_id)),
            Effect::Create(database) => {
                info!(database = %database.name, id = database.id, "create database");
                let id = database.id;
                self.shared.databases.add(database);
                databases::open(&self.shared, id).await;
            }
            Effect::Drop(database) => {
                info!(database = %database.name, id = database.id, "drop database");
                // Durable before the file goes: a start that knows of the database would miss it.
                self.shared.persist_catalog(true).await?;
                self.shared.databases.drop_later(database);
            }
        }
        Ok(reply)
    }

    async fn install(
        &self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let mut catalog = Catalog::from_wire(snapshot.catalog).map_err(io::Error::other)?;
        catalog.point = Point {
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        self.shared.mark_directory(catalog.level).await?;
        let gone: Vec<_> = {
            let ours = self.shared.catalog.lock();
            ours.databases()
                .filter(|d| catalog.database(d.id).is_none())
                .cloned()
                .collect()
        };
        let missing: Vec<_> = {
            let ours = self.shared.catalog.lock();
            let missing = catalog
                .databases()
                .filter(|d| ours.database(d.id).is_none());
            missing.cloned().collect()
        };
        for database in gone {
            self.shared.databases.drop_later(database);
        }
        let databases = &self.shared.databases;
        databases.settle_incoming(|id| catalog.database(id).is_some());
        for database in missing {
            let id = database.id;
            databases.add(database);
            databases::open(&self.shared, id).await;
        }
        let index = meta.last_log_id.as_ref().map_or(0, LogId::index);
        for database in catalog.databases() {
            if databases.get(database.id).is_none() {
                // Nothing was put into it, and the log does not hold what it lacks: when it opens it finds that out, and pulls its pages.
                let txid = database
                    .newest
                    .map_or(0, |newest| newest.position.txid.get());
                databases.reopen(database.clone(), Passed { index, txid }, None);
            }
        }
        let newest: Vec<_> = catalog
            .databases()
            .filter_map(|d| Some((d.id, d.newest?)))
            .collect();
        *self.shared.catalog.lock() = catalog;
        // Whatever was installed: it has to reach what the snapshot says is committed.
        let mut pending = Vec::new();
        for (id, mark) in newest {
            if let Some(database) = self.shared.database_by_id(id) {
                pending.push(Pending {
                    index: mark.index,
                    visible: database.told(mark),
                    database,
                });
            }
        }
        settle(&mut pending).await;
        self.shared.open_chunks.clear();
        self.shared.publish_identity(meta.last_log_id);
        self.shared.persist_catalog(true).await?;
        self.shared.set_applied(index);
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Stored), io::Error> {
        let Point {
            applied,
            membership,
        } = self.shared.catalog.lock().point.clone();
        Ok((applied, membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut flushed = self.shared.log.flushed();
        let mut pending: Vec<Pending> = Vec::new();
        let mut last = None;
        let mut catalog_changed = false;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let log_id = entry.log_id();
            let index = log_id.index();
            self.wait_flushed(&mut flushed, index).await?;
            let before = last.replace(log_id);
            let mut reply = v1::CommandReply::default();
            let content = self.shared.content(entry.payload)?;
            let open_chunks = &self.shared.open_chunks;
            let chunks = open_chunks.follow(index, &content, || self.point(before));
            match content {
                Content::Blank | Content::Command(Kind::Chunk(_)) => {}
                Content::Membership(membership) => {
                    self.shared
                        .catalog
                        .lock()
                        .set_membership(log_id, membership);
                    catalog_changed = true;
                }
                Content::Command(Kind::Ltx(ltx)) => {
                    pending.extend(self.apply_ltx(ltx, &log_id, chunks));
                }
                Content::Command(metadata) => {
                    // Ordered against the data: what came before is finished first.
                    settle(&mut pending).await;
                    reply = self.apply_metadata(log_id, metadata).await?;
                    catalog_changed = true;
                }
            }
            if let Some(responder) = responder {
                responder.send(command::encode_reply(&reply));
            }
        }
        settle(&mut pending).await;
        if let Some(last) = last {
            // Not before: a snapshot must not say more than what is visible.
            let before_open = self.shared.open_chunks.before();
            self.shared.catalog.lock().advance(last, before_open);
            if catalog_changed {
                self.shared.persist_catalog(false).await?;
            }
            self.shared.set_applied(last.index());
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            shared: self.shared.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        info!(databases = snapshot.catalog.databases.len(), last = ?meta.last_log_id, "install snapshot");
        self.install(meta, snapshot).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        let catalog = self.shared.catalog.lock();
        let known = catalog.whole().applied.is_some();
        Ok(known.then(|| of_catalog(&catalog)))
    }
}

/// A transaction handed to its database, until it is visible.
struct Pending {
    index: u64,
    database: Arc<Database>,
    visible: Visible,
}

/// Waits until all is visible. A database that could not apply is marked by itself and repaired, one whose disk refuses goes on
/// trying by itself; the others do not wait for them.
async fn settle(pending: &mut Vec<Pending>) {
    for Pending {
        index,
        database,
        visible,
    } in pending.drain(..)
    {
        let mut health = database.health();
        let applied = tokio::select! {
            biased;
            applied = visible => applied,
            _ = health.wait_for(|health| *health != Health::Fine) => continue,
        };
        match applied {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                error!(index, database = %database.spec().name, %error, "transaction not applied")
            }
            Err(_) => error!(
                index,
                database = %database.spec().name,
                "the database did not take the transaction"
            ),
        }
    }
}
