//! The gRPC services that clients and the command line use: SQL ([`sql_service`]) and operations ([`admin_service`]).

mod admin_service;
mod export;
mod import;
mod ltx_stream;
mod sql_service;
mod status;
mod transaction;

pub(crate) use admin_service::AdminService;
pub(crate) use sql_service::SqlService;
pub(crate) use status::status;

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use halite_proto::{error_detail, v1};
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::cluster::ClusterError;

/// Metadata of a call or stream that another node hands on.
const FORWARDED: &str = "halite-forwarded";

fn is_forwarded(metadata: &MetadataMap) -> bool {
    metadata.contains_key(FORWARDED)
}

pub(crate) fn forwarded<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request
        .metadata_mut()
        .insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
    request
}

/// What a caller is told of a call that was handed on to a primary which cannot be reached: it has not heard of it. `None` if it may have.
pub(crate) fn unreached(status: &Status) -> Option<ClusterError> {
    error_detail::is_unsent(status).then(|| {
        ClusterError::unavailable(format!(
            "the primary cannot be reached, nothing was sent to it: {}",
            status.message()
        ))
    })
}

/// What the primary answered to a call that was handed on.
fn handed_on<T>(answer: Result<T, Status>) -> Result<T, Status> {
    answer.map_err(|status| unreached(&status).map_or(status, Status::from))
}

fn status_of(error: &v1::Error) -> Status {
    error_detail::to_status(error)
}

/// What clients may ask of a node at one time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Session streams.
    pub sessions_max: usize,
    /// Calls of one session that may be under way; a client that sends more is not read until some are answered.
    pub calls_per_session_max: u32,
    /// Largest message of a client, in bytes.
    pub message_bytes_max: usize,
    /// Longest interactive transaction; never more than the lane's own limit.
    pub transaction_max: Duration,
}

/// Tells long streams that the node stops: they end, so that their connections can.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(pub(crate) watch::Receiver<bool>);

impl Stopping {
    /// `stream` until the node stops.
    pub(crate) fn end<T: Send + 'static>(
        &self,
        stream: impl Stream<Item = T> + Send + 'static,
    ) -> futures::stream::BoxStream<'static, T> {
        let mut stopping = self.0.clone();
        stream
            .take_until(async move {
                // A sender that is gone means that the node is, too.
                let _ = stopping.wait_for(|stopping| *stopping).await;
            })
            .boxed()
    }
}
