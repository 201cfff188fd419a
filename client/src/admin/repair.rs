//! Bringing back a database of which no node has a sound copy.

use halite_proto::v1 as wire;
use halite_proto::v1::admin_client::AdminClient;
use halite_proto::v1::repair_database_request::Keep;
use tokio::time::Instant;

use crate::failure::{Effect, Failure};
use crate::operation::{Attempt, Operation, Plan, run};
use crate::route::Need;
use crate::{Client, Error};

/// Waits for a primary as other calls do, and for its answer as long as it takes: the whole database is read and written.
pub(super) async fn repair(
    client: &Client,
    name: String,
    keep: Keep,
    force: bool,
) -> Result<wire::RepairDatabaseResponse, Error> {
    let cluster = &client.core.cluster;
    let plan = Plan::new(
        Need::Primary,
        Effect::Once,
        Instant::now() + cluster.options.retry_deadline,
    );
    let request = wire::RepairDatabaseRequest {
        name,
        keep: keep.into(),
        force,
    };
    run(cluster, plan, Repair { request }).await
}

struct Repair {
    request: wire::RepairDatabaseRequest,
}

impl Operation for Repair {
    type Output = wire::RepairDatabaseResponse;

    async fn attempt(&mut self, attempt: Attempt) -> Result<Self::Output, Failure> {
        let mut node = AdminClient::new(attempt.link.channel());
        let answer = node.repair_database(self.request.clone()).await;
        let answer = answer.map_err(|status| Failure::from_status(&status))?;
        Ok(answer.into_inner())
    }
}
