//! An [`Error`] as a gRPC status and back.

use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::v1::{Error, ErrorCode};

/// The metadata key under which a status carries the whole error.
pub const KEY: &str = "halite-error-bin";

/// The gRPC status for `error`: the nearest gRPC code, the message, and the error itself as a detail.
pub fn to_status(error: &Error) -> Status {
    let code = match error.code() {
        ErrorCode::NotPrimary | ErrorCode::Fenced => Code::FailedPrecondition,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::OutcomeUnknown => Code::Unknown,
        ErrorCode::Invalid => Code::InvalidArgument,
        ErrorCode::Sql => Code::Aborted,
        ErrorCode::Corrupt | ErrorCode::RowsNotKept => Code::DataLoss,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::NoSuchDatabase => Code::NotFound,
        ErrorCode::AlreadyExists => Code::AlreadyExists,
        ErrorCode::DiskFull => Code::ResourceExhausted,
        ErrorCode::Purged => Code::OutOfRange,
        ErrorCode::Internal | ErrorCode::Unspecified => Code::Internal,
    };
    let mut status = Status::new(code, error.message.clone());
    status
        .metadata_mut()
        .insert_bin(KEY, MetadataValue::from_bytes(&error.encode_to_vec()));
    status
}

/// The error that a status carries, if a Halite node sent it.
pub fn from_status(status: &Status) -> Option<Error> {
    let detail = status.metadata().get_bin(KEY)?.to_bytes().ok()?;
    Error::decode(detail).ok()
}

/// The call never left this process: there was no connection.
pub fn is_unsent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_survives_the_trip_through_a_status() {
        let error = Error {
            code: ErrorCode::Sql.into(),
            message: "UNIQUE constraint failed: t.a".into(),
            sqlite_code: 2067,
            ..Error::default()
        };
        assert_eq!(from_status(&to_status(&error)), Some(error));
        assert_eq!(from_status(&Status::internal("other")), None);
    }

    #[test]
    fn what_no_connection_was_there_for_was_not_sent() {
        let refused = tonic::ConnectError(Box::from("connection refused"));
        assert!(is_unsent(&Status::from_error(Box::new(refused))));
        assert!(!is_unsent(&Status::unavailable("tcp connect error")));
    }
}
