//! What goes wrong in the cluster layer, with a kind that tells the caller what to do.

use halite_proto::v1;
use halite_proto::v1::ErrorCode;

/// An error with the code that clients see.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ClusterError {
    /// What the caller can do about it.
    pub code: ErrorCode,
    /// What happened, for people.
    pub message: String,
    /// Who leads, as far as this node knows: set with [`ErrorCode::NotPrimary`].
    pub primary: Option<v1::NodeAddress>,
    /// When a retry makes sense; 0 where it does not.
    pub retry_after_ms: u32,
}

impl ClusterError {
    fn new(code: ErrorCode, message: String) -> Self {
        Self {
            code,
            message,
            primary: None,
            retry_after_ms: 0,
        }
    }

    pub(crate) fn internal(message: String) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    pub(crate) fn corrupt(message: String) -> Self {
        Self::new(ErrorCode::Corrupt, message)
    }

    pub(crate) fn invalid(message: String) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    pub(crate) fn already_exists(message: String) -> Self {
        Self::new(ErrorCode::AlreadyExists, message)
    }

    pub(crate) fn fenced(message: String) -> Self {
        Self::new(ErrorCode::Fenced, message)
    }

    pub(crate) fn purged(message: String) -> Self {
        Self::new(ErrorCode::Purged, message)
    }

    pub(crate) fn no_such_database(name: &str) -> Self {
        Self::new(
            ErrorCode::NoSuchDatabase,
            format!("no such database: name={name:?}"),
        )
    }

    pub(crate) fn unavailable(message: String) -> Self {
        Self {
            retry_after_ms: 20,
            ..Self::new(ErrorCode::Unavailable, message)
        }
    }

    pub(crate) fn outcome_unknown(message: String) -> Self {
        Self {
            retry_after_ms: 20,
            ..Self::new(ErrorCode::OutcomeUnknown, message)
        }
    }

    pub(crate) fn not_primary(primary: Option<v1::NodeAddress>) -> Self {
        let message = match &primary {
            Some(at) => format!(
                "this node is not the primary, node {} at {} is",
                at.node_id, at.addr
            ),
            None => "no primary is known at the moment".to_owned(),
        };
        Self {
            primary,
            retry_after_ms: 20,
            ..Self::new(ErrorCode::NotPrimary, message)
        }
    }

    /// The error as clients get it.
    pub fn to_wire(&self) -> v1::Error {
        v1::Error {
            code: self.code.into(),
            message: self.message.clone(),
            primary: self.primary.clone(),
            retry_after_ms: self.retry_after_ms,
            ..v1::Error::default()
        }
    }
}

impl From<ClusterError> for tonic::Status {
    fn from(error: ClusterError) -> Self {
        halite_proto::error_detail::to_status(&error.to_wire())
    }
}
