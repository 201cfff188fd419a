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

use halite_proto::{error_detail, v1};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Metadata of a unary call that another node hands on.
const FORWARDED: &str = "halite-forwarded";

fn is_forwarded(metadata: &MetadataMap) -> bool {
    metadata.contains_key(FORWARDED)
}

fn forwarded<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request
        .metadata_mut()
        .insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
    request
}

fn status_of(error: &v1::Error) -> Status {
    error_detail::to_status(error)
}
