//! What a node does beside reading and writing, a few times a second: the primary gives the cluster its id, registers data
//! directories and creates configured databases; every node purges what its log no longer needs.

use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1;
use halite_proto::v1::command::Kind;
use tracing::{debug, warn};

use super::error::ClusterError;
use super::formation::identify;
use super::identity::REMOVED;
use super::removal::ALONE_AFTER;
use super::role::Role;
use super::{Cluster, purge, start, upgrade};
use crate::database::Database;

const EVERY: Duration = Duration::from_millis(250);
/// How long whoever creates a database waits until it is open here: one of its name may have to be removed first. Below the time that
/// clients give a call.
const OPENED_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut stopping = cluster.stopping.subscribe();
    let mut role = cluster.watch_role();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = tick.tick() => {}
            changed = role.changed() => if changed.is_err() { return },
        }
        if let Err(error) = cluster.keep_what_was_heard().await {
            warn!(%error, "what peers acknowledged is not kept");
        }
        cluster.look_for_a_copy().await;
        if cluster.identity().stopped().is_some() {
            // Nothing of its disk is touched any more.
            continue;
        }
        if let Role::Primary { .. } = cluster.role()
            && let Err(error) = primary_chores(&cluster).await
        {
            debug!(%error, "chores are put off");
        }
        if cluster
            .silence()
            .is_none_or(|silence| silence > ALONE_AFTER)
        {
            ask_whether_removed(&cluster).await;
        }
        if let Err(error) = purge::purge(&cluster).await {
            warn!(%error, "log not purged");
        }
    }
}

/// A node that nobody speaks to may have been removed: it asks those it knew.
async fn ask_whether_removed(cluster: &Arc<Cluster>) {
    let identity = cluster.identity();
    for member in cluster
        .topology()
        .members
        .iter()
        .filter(|m| m.node_id != identity.node_id)
    {
        match identify(cluster, member.node_id, &member.addr).await {
            Ok(answer) if answer.your_registered_instance_id == REMOVED => {
                let at = answer.known_at.as_ref();
                identity.heard_removed(at.map(super::convert::log_id_from_wire));
            }
            _ => {}
        }
    }
}

async fn primary_chores(cluster: &Arc<Cluster>) -> Result<(), ClusterError> {
    let (formed, nodes, missing) = {
        let catalog = cluster.shared().catalog.lock();
        let configured = cluster.options.databases.iter();
        let missing: Vec<_> = configured
            .filter(|(name, _)| catalog.by_name(name).is_none())
            .cloned()
            .collect();
        (
            !catalog.cluster_id.is_empty(),
            catalog.nodes.clone(),
            missing,
        )
    };
    if !formed {
        let cluster_id = start::random_id(&**cluster.host());
        let members = cluster.member_levels().await;
        let level = upgrade::first_level(&members, &cluster.heard_levels.lock()).to_wire();
        cluster
            .command(Kind::FormCluster(v1::FormClusterCommand {
                cluster_id,
                level,
            }))
            .await?;
    }
    let identity = cluster.identity();
    for member in cluster
        .topology()
        .members
        .iter()
        .filter(|m| !nodes.contains_key(&m.node_id))
    {
        let instance_id = if member.node_id == identity.node_id {
            identity.instance_id.clone()
        } else {
            match identify(cluster, member.node_id, &member.addr).await {
                Ok(answer) if answer.node_id == member.node_id => answer.instance_id,
                _ => continue,
            }
        };
        cluster.register(member.node_id, &instance_id).await?;
    }
    cluster.finish_interrupted().await?;
    cluster.pretend().await?;
    for (name, page_size) in missing {
        match cluster.create_database(&name, page_size).await {
            Ok(_) => {}
            Err(error) if error.code == v1::ErrorCode::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Cluster {
    /// Creates a database on every node; its id.
    pub(crate) async fn create_database(
        &self,
        name: &str,
        page_size: u32,
    ) -> Result<u64, ClusterError> {
        super::catalog::check_new_name(&self.shared().catalog.lock(), name)?;
        halite_ltx::PageSize::try_from(page_size)
            .map_err(|e| ClusterError::invalid(format!("page size: {e}")))?;
        let create = v1::CreateDatabaseCommand {
            name: name.to_owned(),
            page_size,
        };
        let databases = &self.shared().databases;
        let is_new = self.shared().catalog.lock().by_name(name).is_none();
        if is_new && let Some(full) = databases.no_room() {
            return Err(ClusterError::invalid(format!(
                "database {name:?} is not created: {full}"
            )));
        }
        let (_, reply) = self.command(Kind::CreateDatabase(create)).await?;
        // It is created either way; whoever asked wants to use it next.
        let opened = databases.attempted(reply.database_id);
        if tokio::time::timeout(OPENED_TIMEOUT, opened).await.is_err() {
            warn!(database = name, "created, and not open here yet");
        }
        Ok(reply.database_id)
    }

    /// Drops a database on every node; false if there is none of that name.
    pub(crate) async fn drop_database(&self, name: &str) -> Result<bool, ClusterError> {
        let id = self.shared().catalog.lock().by_name(name).map(|d| d.id);
        let Some(database_id) = id else {
            return Ok(false);
        };
        let (_, reply) = self
            .command(Kind::DropDatabase(v1::DropDatabaseCommand { database_id }))
            .await?;
        Ok(reply.changed)
    }

    /// Drops a database that nobody has written to; false, and nothing is done, unless that is certain.
    ///
    /// Its lane takes no writes until the drop is applied, and the drop enters the log in the term of the lane only: no transaction comes between.
    pub(crate) async fn drop_blank(&self, database: &Database) -> Result<bool, ClusterError> {
        let Ok(Some(sealed)) = database.seal_if_blank().await else {
            return Ok(false);
        };
        let database_id = database.spec().id.get();
        let drop = Kind::DropDatabase(v1::DropDatabaseCommand { database_id });
        match self.command_in(sealed.leadership().term, drop).await {
            Ok((_, reply)) => Ok(reply.changed),
            Err(error) => {
                // It may still be on its way into the log, and what is written after it would go with the database.
                sealed.keep();
                Err(error)
            }
        }
    }
}
