//! Operations on the cluster. What only the primary can do is handed on to it, once.

use std::sync::Arc;

use futures::StreamExt as _;
use halite_proto::v1;
use halite_proto::v1::admin_client::AdminClient;
use halite_proto::v1::admin_server::Admin;
use tokio::sync::Semaphore;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::{export, forwarded, handed_on, import, is_forwarded, status, status_of};
use crate::cluster::role::Role;
use crate::cluster::{Cluster, ClusterError};
use crate::piece_stream::place;

/// Page size of a database that names none: SQLite's default.
pub(super) const PAGE_SIZE_DEFAULT: u32 = 4096;

/// Exports at a time: each holds a state of its database, and some MiB.
const EXPORTS_MAX: usize = 16;

pub(crate) struct AdminService {
    cluster: Arc<Cluster>,
    exports: Arc<Semaphore>,
    imports: import::Turns,
}

impl AdminService {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            imports: import::Turns::default(),
        }
    }

    /// The primary's service, if this call has to be handed on; `None` if this node is the primary.
    fn elsewhere<T>(&self, request: &Request<T>) -> Result<Option<AdminClient<Channel>>, Status> {
        self.cluster.check_member()?;
        if let Role::Primary { .. } = self.cluster.role() {
            return Ok(None);
        }
        match self.cluster.other_primary() {
            Some(primary) if !is_forwarded(request.metadata()) => {
                Ok(Some(self.cluster.transport().admin(&primary.addr)?))
            }
            _ => Err(self.cluster.not_primary().into()),
        }
    }

    fn topology(&self) -> Option<v1::Topology> {
        Some(self.cluster.topology())
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_database(
        &self,
        request: Request<v1::CreateDatabaseRequest>,
    ) -> Result<Response<v1::CreateDatabaseResponse>, Status> {
        if let Some(mut primary) = self.elsewhere(&request)? {
            return handed_on(
                primary
                    .create_database(forwarded(request.into_inner()))
                    .await,
            );
        }
        let request = request.into_inner();
        let page_size = if request.page_size == 0 {
            PAGE_SIZE_DEFAULT
        } else {
            request.page_size
        };
        match self.cluster.create_database(&request.name, page_size).await {
            Ok(_) => Ok(Response::new(v1::CreateDatabaseResponse { created: true })),
            Err(error) if request.if_not_exists && error.code == v1::ErrorCode::AlreadyExists => {
                Ok(Response::new(v1::CreateDatabaseResponse { created: false }))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn drop_database(
        &self,
        request: Request<v1::DropDatabaseRequest>,
    ) -> Result<Response<v1::DropDatabaseResponse>, Status> {
        if let Some(mut primary) = self.elsewhere(&request)? {
            return handed_on(primary.drop_database(forwarded(request.into_inner())).await);
        }
        let request = request.into_inner();
        let dropped = self.cluster.drop_database(&request.name).await?;
        if !dropped && !request.if_exists {
            return Err(ClusterError::no_such_database(&request.name).into());
        }
        Ok(Response::new(v1::DropDatabaseResponse { dropped }))
    }

    async fn list_databases(
        &self,
        _request: Request<v1::ListDatabasesRequest>,
    ) -> Result<Response<v1::ListDatabasesResponse>, Status> {
        self.cluster.check_member()?;
        let databases = status::databases(&self.cluster);
        Ok(Response::new(v1::ListDatabasesResponse { databases }))
    }

    async fn resume_database(
        &self,
        request: Request<v1::ResumeDatabaseRequest>,
    ) -> Result<Response<v1::ResumeDatabaseResponse>, Status> {
        self.cluster.check_member()?;
        let database = self.cluster.shared().database(&request.into_inner().name)?;
        let trouble = match database.resume().await {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.message,
            // Whoever tried it has panicked.
            Err(_) => database.health().borrow().trouble().to_owned(),
        };
        Ok(Response::new(v1::ResumeDatabaseResponse { trouble }))
    }

    async fn repair_database(
        &self,
        request: Request<v1::RepairDatabaseRequest>,
    ) -> Result<Response<v1::RepairDatabaseResponse>, Status> {
        if let Some(mut primary) = self.elsewhere(&request)? {
            let request = forwarded(request.into_inner());
            return handed_on(primary.repair_database(request).await);
        }
        let request = request.into_inner();
        // A caller that leaves ends this call, and must not end what was begun.
        let cluster = self.cluster.clone();
        let repairing = tokio::spawn(async move {
            let (name, force) = (&request.name, request.force);
            cluster.keep(name, request.keep(), force).await
        });
        let ended = |error| ClusterError::internal(format!("the repair ended: {error}"));
        let repaired = repairing.await.map_err(ended)?;
        Ok(Response::new(repaired.map_err(|e| status_of(&e))?))
    }

    async fn list_members(
        &self,
        _request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        Ok(Response::new(v1::ListMembersResponse {
            topology: self.topology(),
        }))
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        if let Some(mut primary) = self.elsewhere(&request)? {
            return handed_on(primary.add_member(forwarded(request.into_inner())).await);
        }
        let request = request.into_inner();
        self.cluster
            .add_member(request.node_id, &request.addr)
            .await?;
        Ok(Response::new(v1::AddMemberResponse {
            topology: self.topology(),
        }))
    }

    async fn promote_member(
        &self,
        request: Request<v1::PromoteMemberRequest>,
    ) -> Result<Response<v1::PromoteMemberResponse>, Status> {
        if let Some(mut primary) = self.elsewhere(&request)? {
            return handed_on(
                primary
                    .promote_member(forwarded(request.into_inner()))
                    .await,
            );
        }
        let request = request.into_inner();
        self.cluster
            .promote_member(request.node_id, request.force)
            .await?;
        Ok(Response::new(v1::PromoteMemberResponse {
            topology: self.topology(),
        }))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        if let Some(mut primary) = self.elsewhere(&request)? {
            return handed_on(primary.remove_member(forwarded(request.into_inner())).await);
        }
        let request = request.into_inner();
        self.cluster
            .remove_member(request.node_id, request.force)
            .await?;
        Ok(Response::new(v1::RemoveMemberResponse {
            topology: self.topology(),
        }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        if let Some(mut primary) = self.elsewhere(&request)? {
            return handed_on(
                primary
                    .transfer_leadership(forwarded(request.into_inner()))
                    .await,
            );
        }
        let to = request.into_inner().to;
        let primary_id = self
            .cluster
            .transfer_leadership((to != 0).then_some(to))
            .await?;
        Ok(Response::new(v1::TransferLeadershipResponse { primary_id }))
    }

    async fn upgrade(
        &self,
        request: Request<v1::UpgradeRequest>,
    ) -> Result<Response<v1::UpgradeResponse>, Status> {
        if let Some(mut primary) = self.elsewhere(&request)? {
            return handed_on(primary.upgrade(forwarded(request.into_inner())).await);
        }
        let finalize = request.into_inner().finalize;
        Ok(Response::new(self.cluster.upgrade(finalize).await?))
    }

    async fn import(
        &self,
        request: Request<Streaming<v1::ImportRequest>>,
    ) -> Result<Response<v1::ImportResponse>, Status> {
        if let Some(mut primary) = self.elsewhere(&request)? {
            let pieces = request.into_inner();
            let pieces = pieces
                .take_while(|p| futures::future::ready(p.is_ok()))
                .filter_map(|p| futures::future::ready(p.ok()));
            return handed_on(primary.import(forwarded(pieces)).await);
        }
        let imported = import::import(&self.cluster, &self.imports, request.into_inner()).await?;
        Ok(Response::new(imported))
    }

    type ExportStream = futures::stream::BoxStream<'static, Result<v1::ExportResponse, Status>>;

    async fn export(
        &self,
        request: Request<v1::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        self.cluster.check_member()?;
        let place = place(&self.exports, "exports", EXPORTS_MAX)?;
        let stream = export::export(&self.cluster, place, request.into_inner()).await?;
        Ok(Response::new(stream.boxed()))
    }
}
