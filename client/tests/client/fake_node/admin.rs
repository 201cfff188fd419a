//! The admin side of the fake.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use halite_proto::error_detail::to_status;
use halite_proto::v1::admin_server::Admin;
use halite_proto::v1::*;
use tonic::{Request, Response, Status, Streaming};

use super::service::Service;
use super::{Boxed, Inner};

impl Inner {
    /// Notes the call; the scripted error, if there is one.
    fn admin(&self, what: String) -> Result<(), Status> {
        self.record.send_modify(|record| record.admin.push(what));
        match &*self.admin_error.lock().unwrap() {
            Some(error) if error.code() == ErrorCode::Unspecified => {
                self.cut();
                Err(Status::unavailable("cut"))
            }
            Some(error) => Err(to_status(error)),
            None => Ok(()),
        }
    }

    fn members(&self) -> Option<Topology> {
        Some(self.topology.borrow().clone())
    }
}

#[tonic::async_trait]
impl Admin for Service {
    type ExportStream = Boxed<ExportResponse>;

    async fn create_database(
        &self,
        request: Request<CreateDatabaseRequest>,
    ) -> Result<Response<CreateDatabaseResponse>, Status> {
        self.0
            .admin(format!("create {}", request.into_inner().name))?;
        Ok(Response::new(CreateDatabaseResponse { created: true }))
    }

    async fn drop_database(
        &self,
        request: Request<DropDatabaseRequest>,
    ) -> Result<Response<DropDatabaseResponse>, Status> {
        self.0
            .admin(format!("drop {}", request.into_inner().name))?;
        Ok(Response::new(DropDatabaseResponse { dropped: true }))
    }

    async fn resume_database(
        &self,
        request: Request<ResumeDatabaseRequest>,
    ) -> Result<Response<ResumeDatabaseResponse>, Status> {
        self.0
            .admin(format!("resume {}", request.into_inner().name))?;
        Ok(Response::new(ResumeDatabaseResponse::default()))
    }

    async fn repair_database(
        &self,
        request: Request<RepairDatabaseRequest>,
    ) -> Result<Response<RepairDatabaseResponse>, Status> {
        self.0
            .admin(format!("repair {}", request.into_inner().name))?;
        Ok(Response::new(RepairDatabaseResponse::default()))
    }

    async fn upgrade(
        &self,
        request: Request<UpgradeRequest>,
    ) -> Result<Response<UpgradeResponse>, Status> {
        let finalize = request.into_inner().finalize;
        self.0.admin(format!("upgrade finalize={finalize}"))?;
        Ok(Response::new(UpgradeResponse {
            level: if finalize { 2 } else { 1 },
            next_level: 2,
            ..UpgradeResponse::default()
        }))
    }

    async fn list_databases(
        &self,
        _: Request<ListDatabasesRequest>,
    ) -> Result<Response<ListDatabasesResponse>, Status> {
        self.0.admin("list databases".into())?;
        let databases = vec![DatabaseStatus {
            name: "app".into(),
            ..DatabaseStatus::default()
        }];
        Ok(Response::new(ListDatabasesResponse { databases }))
    }

    async fn list_members(
        &self,
        _: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        self.0.admin("list members".into())?;
        Ok(Response::new(ListMembersResponse {
            topology: self.0.members(),
        }))
    }

    async fn add_member(
        &self,
        request: Request<AddMemberRequest>,
    ) -> Result<Response<AddMemberResponse>, Status> {
        self.0
            .admin(format!("add {}", request.into_inner().node_id))?;
        Ok(Response::new(AddMemberResponse {
            topology: self.0.members(),
        }))
    }

    async fn promote_member(
        &self,
        request: Request<PromoteMemberRequest>,
    ) -> Result<Response<PromoteMemberResponse>, Status> {
        self.0
            .admin(format!("promote {}", request.into_inner().node_id))?;
        Ok(Response::new(PromoteMemberResponse {
            topology: self.0.members(),
        }))
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        self.0
            .admin(format!("remove {}", request.into_inner().node_id))?;
        Ok(Response::new(RemoveMemberResponse {
            topology: self.0.members(),
        }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        let to = request.into_inner().to;
        self.0.admin(format!("transfer {to}"))?;
        let elected = self.0.elected.lock().unwrap().pop();
        Ok(Response::new(TransferLeadershipResponse {
            primary_id: elected.unwrap_or(to),
        }))
    }

    async fn import(
        &self,
        request: Request<Streaming<ImportRequest>>,
    ) -> Result<Response<ImportResponse>, Status> {
        self.0.admin("import".into())?;
        let mut inbound = request.into_inner();
        let mut image = Vec::new();
        while let Some(piece) = inbound.message().await? {
            if let Some(import_request::Kind::Data(data)) = piece.kind {
                image.extend_from_slice(&data);
            }
        }
        *self.0.image.lock().unwrap() = image;
        Ok(Response::new(ImportResponse {
            txid: 9,
            ..ImportResponse::default()
        }))
    }

    async fn export(
        &self,
        _: Request<ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        self.0.admin("export".into())?;
        let image = Bytes::from(self.0.image.lock().unwrap().clone());
        let mut pieces: Vec<_> = image
            .chunks(100_000)
            .map(|piece| {
                Ok(ExportResponse {
                    data: Bytes::copy_from_slice(piece),
                    ..ExportResponse::default()
                })
            })
            .collect();
        // A node that does not record is one that stops half way.
        if self.0.recording.load(Ordering::Relaxed) {
            pieces.push(Ok(ExportResponse {
                txid: 9,
                done: true,
                ..ExportResponse::default()
            }));
        }
        Ok(Response::new(futures::stream::iter(pieces).boxed()))
    }
}
