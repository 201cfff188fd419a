//! Operations on the cluster: databases, members, leadership, import and export.

mod repair;
mod transfer;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use halite_proto::v1 as wire;
use halite_proto::v1::admin_client::AdminClient;
use halite_proto::v1::halite_client::HaliteClient;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::failure::{Effect, Failure};
use crate::operation::{Attempt, Operation, Plan, run};
use crate::route::Need;
use crate::{Client, Error, ReadLevel, TopologyWatch};

/// How often a voter is told to take over.
const TRANSFER_TRIES: u32 = 3;

/// Operations on the cluster. Every node takes them; retried on another node wherever that cannot do them twice.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    retry_deadline: Duration,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        let retry_deadline = client.core.cluster.options.retry_deadline;
        Self {
            client,
            retry_deadline,
        }
    }

    /// The same with another deadline for a call with all its retries; a single try may take as long as before.
    #[must_use]
    pub fn with_retry_deadline(mut self, deadline: Duration) -> Self {
        self.retry_deadline = deadline;
        self
    }

    /// What the node at `address` (`host:port`) knows of itself. Asks that node and no other.
    pub async fn status_of(&self, address: &str) -> Result<wire::StatusResponse, Error> {
        let cluster = &self.client.core.cluster;
        let channel = self.channel_to(address).await?;
        let mut node = HaliteClient::new(channel);
        let answer = timeout(
            cluster.options.connect_timeout,
            node.status(wire::StatusRequest {}),
        )
        .await;
        match answer {
            Ok(Ok(status)) => Ok(status.into_inner()),
            Ok(Err(status)) => Err(Failure::from_status(&status).into_error()),
            Err(_) => Err(Error::unavailable(format!(
                "node did not answer in time: addr={address}"
            ))),
        }
    }

    /// What every member (and every address this client was given) knows of itself, or why it does not answer.
    pub async fn status(&self) -> Vec<(String, Result<wire::StatusResponse, Error>)> {
        let view = self.client.core.cluster.view();
        let asked = view.nodes.iter().map(|node| {
            let address = node.addr.to_string();
            async move {
                let status = self.status_of(&address).await;
                (address, status)
            }
        });
        futures::future::join_all(asked).await
    }

    async fn channel_to(&self, address: &str) -> Result<Channel, Error> {
        let cluster = &self.client.core.cluster;
        let connected = cluster
            .view()
            .links()
            .find(|(node, _)| *node.addr == *address)
            .map(|(_, link)| link.channel());
        match connected {
            Some(channel) => Ok(channel),
            None => cluster.connect_channel(address).await,
        }
    }

    /// Has every member try again what keeps a database of this name from the log: what still does on each, empty when all is well there, or
    /// why the member does not answer.
    pub async fn resume_database(&self, name: &str) -> Vec<(String, Result<String, Error>)> {
        let view = self.client.core.cluster.view();
        let asked = view.nodes.iter().map(|node| {
            let address = node.addr.to_string();
            async move {
                let resumed = self.resume_database_of(&address, name).await;
                (address, resumed)
            }
        });
        futures::future::join_all(asked).await
    }

    async fn resume_database_of(&self, address: &str, name: &str) -> Result<String, Error> {
        let mut node = AdminClient::new(self.channel_to(address).await?);
        let request = wire::ResumeDatabaseRequest {
            name: name.to_owned(),
        };
        let call_timeout = self.client.core.cluster.options.call_timeout;
        match timeout(call_timeout, node.resume_database(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().trouble),
            Ok(Err(status)) => Err(Failure::from_status(&status).into_error()),
            Err(_) => Err(Error::unavailable(format!(
                "node did not answer in time: addr={address}"
            ))),
        }
    }

    /// Brings back a database of which no node has a sound copy, by what is said to count. `force`: the file, also where what was committed and
    /// is not in it is lost. Waits as long as it takes.
    pub async fn repair_database(
        &self,
        name: impl Into<String>,
        keep: wire::repair_database_request::Keep,
        force: bool,
    ) -> Result<wire::RepairDatabaseResponse, Error> {
        repair::repair(&self.client, name.into(), keep, force).await
    }

    /// Creates a database; true if it was not there. `page_size` 0 means 4096.
    pub async fn create_database(
        &self,
        name: impl Into<String>,
        page_size: u32,
        if_not_exists: bool,
    ) -> Result<bool, Error> {
        let request = wire::CreateDatabaseRequest {
            name: name.into(),
            page_size,
            if_not_exists,
        };
        let effect = repeatable(if_not_exists);
        let answer = self
            .call(effect, move |mut node| {
                let request = request.clone();
                async move { node.create_database(request).await }
            })
            .await?;
        Ok(answer.created)
    }

    /// Drops a database; true if it was there.
    pub async fn drop_database(
        &self,
        name: impl Into<String>,
        if_exists: bool,
    ) -> Result<bool, Error> {
        let request = wire::DropDatabaseRequest {
            name: name.into(),
            if_exists,
        };
        let effect = repeatable(if_exists);
        let answer = self
            .call(effect, move |mut node| {
                let request = request.clone();
                async move { node.drop_database(request).await }
            })
            .await?;
        Ok(answer.dropped)
    }

    /// The databases of the cluster.
    pub async fn list_databases(&self) -> Result<Vec<wire::DatabaseStatus>, Error> {
        let answer = self
            .call(Effect::Read, |mut node| async move {
                node.list_databases(wire::ListDatabasesRequest {}).await
            })
            .await?;
        Ok(answer.databases)
    }

    /// The members of the cluster.
    pub async fn list_members(&self) -> Result<wire::Topology, Error> {
        let answer = self
            .call(Effect::Read, |mut node| async move {
                node.list_members(wire::ListMembersRequest {}).await
            })
            .await?;
        Ok(answer.topology.unwrap_or_default())
    }

    /// Adds a node as a learner.
    pub async fn add_member(
        &self,
        node_id: u64,
        address: impl Into<String>,
    ) -> Result<wire::Topology, Error> {
        let request = wire::AddMemberRequest {
            node_id,
            addr: address.into(),
        };
        let answer = self
            .call(Effect::Write, move |mut node| {
                let request = request.clone();
                async move { node.add_member(request).await }
            })
            .await?;
        Ok(answer.topology.unwrap_or_default())
    }

    /// Makes a caught-up learner a voter. Refused if the voters that answer now could not be a majority afterwards.
    pub async fn promote_member(&self, node_id: u64) -> Result<wire::Topology, Error> {
        self.promote(node_id, false).await
    }

    /// The same, whoever answers: until a majority of the voters is back, nothing can be written.
    pub async fn force_promote_member(&self, node_id: u64) -> Result<wire::Topology, Error> {
        self.promote(node_id, true).await
    }

    async fn promote(&self, node_id: u64, force: bool) -> Result<wire::Topology, Error> {
        let request = wire::PromoteMemberRequest { node_id, force };
        let answer = self
            .call(Effect::Write, move |mut node| async move {
                node.promote_member(request).await
            })
            .await?;
        Ok(answer.topology.unwrap_or_default())
    }

    /// Removes a member for good. Refused if the voters that answer now could not be a majority afterwards. What was interrupted is finished
    /// by repeating it.
    pub async fn remove_member(&self, node_id: u64) -> Result<wire::Topology, Error> {
        self.remove(node_id, false).await
    }

    /// The same, whoever answers: until a majority of the voters is back, nothing can be written.
    pub async fn force_remove_member(&self, node_id: u64) -> Result<wire::Topology, Error> {
        self.remove(node_id, true).await
    }

    async fn remove(&self, node_id: u64, force: bool) -> Result<wire::Topology, Error> {
        let request = wire::RemoveMemberRequest { node_id, force };
        let answer = self
            .call(Effect::Write, move |mut node| async move {
                node.remove_member(request).await
            })
            .await?;
        Ok(answer.topology.unwrap_or_default())
    }

    /// Moves leadership to voter `to`, or to the best caught-up one if that is `None`; the id of the new primary.
    ///
    /// That may be another one than `to`: where a voter does not take over in time, those that answer elect whom they can. It is told to take
    /// over three times at most.
    pub async fn transfer_leadership(&self, to: Option<u64>) -> Result<u64, Error> {
        let mut primary = self.transfer_once(to).await?;
        for _ in 1..TRANSFER_TRIES {
            if to.is_none_or(|to| to == primary) {
                break;
            }
            primary = self.transfer_once(to).await?;
        }
        Ok(primary)
    }

    async fn transfer_once(&self, to: Option<u64>) -> Result<u64, Error> {
        let request = wire::TransferLeadershipRequest {
            to: to.unwrap_or(0),
        };
        // To a named node it may be said twice; "away from whoever leads" may not.
        let effect = repeatable(to.is_some());
        let answer = self
            .call(effect, move |mut node| async move {
                node.transfer_leadership(request).await
            })
            .await?;
        Ok(answer.primary_id)
    }

    /// The cluster's feature level, and what each member supports.
    pub async fn upgrade_status(&self) -> Result<wire::UpgradeResponse, Error> {
        self.upgrade(false, Effect::Read).await
    }

    /// Raises the cluster's feature level to what every member supports. Done twice it is done once.
    pub async fn finalize_upgrade(&self) -> Result<wire::UpgradeResponse, Error> {
        self.upgrade(true, Effect::Write).await
    }

    async fn upgrade(
        &self,
        finalize: bool,
        effect: Effect,
    ) -> Result<wire::UpgradeResponse, Error> {
        let request = wire::UpgradeRequest { finalize };
        self.call(effect, move |mut node| async move {
            node.upgrade(request).await
        })
        .await
    }

    /// Uploads an ordinary SQLite file of `size_bytes` as a new or empty database; with `overwrite`, in place of what it holds.
    ///
    /// Not retried once bytes were sent.
    pub async fn import(
        &self,
        database: impl Into<String>,
        size_bytes: u64,
        overwrite: bool,
        source: impl AsyncRead + Send + Unpin,
    ) -> Result<wire::ImportResponse, Error> {
        let begin = wire::ImportBegin {
            database: database.into(),
            size_bytes,
            overwrite,
        };
        transfer::import(&self.client, begin, source).await
    }

    /// Writes a consistent copy of one database as an ordinary SQLite file to `target`. Not retried once bytes were written.
    pub async fn export(
        &self,
        database: impl Into<String>,
        level: ReadLevel,
        target: impl AsyncWrite + Send + Unpin,
    ) -> Result<Exported, Error> {
        let request = wire::ExportRequest {
            database: database.into(),
            level: level.wire().into(),
        };
        transfer::export(&self.client, request, level, target).await
    }

    /// The topology now, and again whenever it changes.
    pub fn watch_topology(&self) -> TopologyWatch {
        self.client.watch_topology()
    }

    async fn call<T, F, Fut>(&self, effect: Effect, ask: F) -> Result<T, Error>
    where
        T: Send,
        F: FnMut(AdminClient<Channel>) -> Fut + Send,
        Fut: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let options = &self.client.core.cluster.options;
        let plan = Plan::new(Need::Primary, effect, Instant::now() + self.retry_deadline);
        let call = AdminCall {
            ask,
            limit: options.call_timeout,
        };
        run(&self.client.core.cluster, plan, call).await
    }
}

/// What [`Admin::export`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The TXID the copy stands at.
    pub txid: u64,
    /// Size of the copy.
    pub bytes: u64,
}

fn repeatable(yes: bool) -> Effect {
    if yes { Effect::Write } else { Effect::Once }
}

struct AdminCall<F> {
    ask: F,
    limit: Duration,
}

impl<T, F, Fut> Operation for AdminCall<F>
where
    T: Send,
    F: FnMut(AdminClient<Channel>) -> Fut + Send,
    Fut: Future<Output = Result<Response<T>, Status>> + Send,
{
    type Output = T;

    async fn attempt(&mut self, attempt: Attempt) -> Result<T, Failure> {
        let remaining = attempt.deadline.saturating_duration_since(Instant::now());
        let node = AdminClient::new(attempt.link.channel());
        match timeout(self.limit.min(remaining), (self.ask)(node)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Failure::from_status(&status)),
            Err(_) => Err(Failure::lost("node did not answer in time", true)),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
