//! The one error of this crate: a kind that tells the caller what to do, and a message for people.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use halite_proto::error_detail;
use halite_proto::v1 as wire;

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// What went wrong, for code to act on. The client has already retried what may be retried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The node is not the primary. Nothing was written.
    NotPrimary {
        /// Address of the primary, as far as the node knows it.
        hint: Option<String>,
    },
    /// Nobody could serve the call in time. Nothing was written.
    Unavailable {
        /// How long the node asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The write may or may not be kept: no try was answered in time, and at least one may have reached the cluster.
    OutcomeUnknown,
    /// The request makes no sense and was not tried.
    Invalid,
    /// The write was carried out once and is kept, but the rows that it gave back (`RETURNING`, or a `SELECT` of its batch) are lost: its answer did
    /// not arrive, and they are too large, or too old, to be kept for the retry. Read what is there now.
    RowsNotKept,
    /// SQLite refused the statement; nothing of it (or of its batch) was kept.
    Sql {
        /// SQLite's primary result code, such as 19 for `SQLITE_CONSTRAINT`.
        code: i32,
        /// SQLite's extended result code, such as 2067 for `SQLITE_CONSTRAINT_UNIQUE`.
        extended: i32,
    },
    /// The node found its copy of the database damaged.
    Corrupt,
    /// All nodes that could be asked were removed from their cluster, or take no part in it because their disk is not the one that it knows.
    Fenced,
    /// No database has this name.
    NoSuchDatabase,
    /// A database or member of this name is there already.
    AlreadyExists,
    /// The call, or the transaction, took longer than it had time. Nothing was written.
    DeadlineExceeded,
    /// The node's disk is full. Nothing was written.
    DiskFull,
    /// The transactions asked for have left the log of every node: restore from the archive and go on from there.
    Purged,
    /// A fault in Halite. A write may or may not be kept.
    Internal,
    /// Reading or writing the application's own file or stream failed (import, export).
    Io,
}

/// Any failure of this crate. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Fact>);

struct Fact {
    kind: ErrorKind,
    message: String,
    statement_index: Option<u32>,
    primary: Option<wire::NodeAddress>,
    source: Option<Source>,
}

impl Error {
    /// What went wrong, for code to act on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Which statement of a batch failed, from 0; `None` where the error is not about a statement, such as a deferred constraint that its end
    /// violates.
    pub fn statement_index(&self) -> Option<u32> {
        self.0.statement_index
    }

    /// SQLite's extended result code, where SQLite refused the statement.
    pub fn sqlite_code(&self) -> Option<i32> {
        match self.0.kind {
            ErrorKind::Sql { extended, .. } => Some(extended),
            _ => None,
        }
    }

    /// True where a write may have been kept although it was not acknowledged.
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.kind == ErrorKind::OutcomeUnknown
    }

    /// Where the node that answered thinks the primary is.
    pub(crate) fn primary(&self) -> Option<&wire::NodeAddress> {
        self.0.primary.as_ref()
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Fact {
            kind,
            message: message.into(),
            statement_index: None,
            primary: None,
            source: None,
        }))
    }

    pub(crate) fn with_source(kind: ErrorKind, message: impl Into<String>, source: Source) -> Self {
        Self(Arc::new(Fact {
            kind,
            message: message.into(),
            statement_index: None,
            primary: None,
            source: Some(source),
        }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable { retry_after: None }, message)
    }

    pub(crate) fn outcome_unknown(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::OutcomeUnknown, message)
    }

    pub(crate) fn io(message: impl Into<String>, error: std::io::Error) -> Self {
        Self::with_source(ErrorKind::Io, message, Arc::new(error))
    }

    pub(crate) fn from_wire(error: wire::Error) -> Self {
        use wire::ErrorCode;
        let code = error.code();
        let primary = error.primary.clone().filter(|node| !node.addr.is_empty());
        let kind = match code {
            ErrorCode::NotPrimary => ErrorKind::NotPrimary {
                hint: primary.as_ref().map(|node| node.addr.clone()),
            },
            ErrorCode::Unavailable => ErrorKind::Unavailable {
                retry_after: (error.retry_after_ms > 0)
                    .then(|| Duration::from_millis(error.retry_after_ms.into())),
            },
            ErrorCode::OutcomeUnknown => ErrorKind::OutcomeUnknown,
            ErrorCode::Invalid => ErrorKind::Invalid,
            ErrorCode::Sql => ErrorKind::Sql {
                code: error.sqlite_code & 0xff,
                extended: error.sqlite_code,
            },
            ErrorCode::Corrupt => ErrorKind::Corrupt,
            ErrorCode::Fenced => ErrorKind::Fenced,
            ErrorCode::NoSuchDatabase => ErrorKind::NoSuchDatabase,
            ErrorCode::AlreadyExists => ErrorKind::AlreadyExists,
            ErrorCode::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            ErrorCode::DiskFull => ErrorKind::DiskFull,
            ErrorCode::Purged => ErrorKind::Purged,
            ErrorCode::RowsNotKept => ErrorKind::RowsNotKept,
            ErrorCode::Internal | ErrorCode::Unspecified => ErrorKind::Internal,
        };
        let about_statement = matches!(code, ErrorCode::Sql | ErrorCode::Invalid);
        Self(Arc::new(Fact {
            kind,
            message: error.message,
            statement_index: about_statement.then_some(error.statement_index),
            primary,
            source: None,
        }))
    }

    /// The same of a call of so many statements: a node says of what happened behind the last one that it was beyond them.
    pub(crate) fn of_statements(self, count: usize) -> Self {
        let beyond = |index: u32| index as usize >= count;
        if !self.0.statement_index.is_some_and(beyond) {
            return self;
        }
        Self(Arc::new(Fact {
            kind: self.0.kind.clone(),
            message: self.0.message.clone(),
            statement_index: None,
            primary: self.0.primary.clone(),
            source: self.0.source.clone(),
        }))
    }

    /// The error a gRPC call ended with. Without Halite's own detail it comes from the transport, and then `None` is returned:
    /// whether the call arrived is not known.
    pub(crate) fn from_status(status: &tonic::Status) -> Option<Self> {
        error_detail::from_status(status).map(Self::from_wire)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fact = &self.0;
        f.write_str(&fact.message)?;
        match &fact.kind {
            ErrorKind::Sql { code, extended } => write!(f, ": code={code} extended={extended}")?,
            ErrorKind::NotPrimary { hint: Some(hint) } => write!(f, ": primary={hint}")?,
            _ => return Ok(()),
        }
        match fact.statement_index {
            Some(index) => write!(f, " statement={index}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("statement_index", &self.0.statement_index)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_error_keeps_both_codes_and_the_statement() {
        let error = Error::from_wire(wire::Error {
            code: wire::ErrorCode::Sql.into(),
            message: "UNIQUE constraint failed: t.a".into(),
            sqlite_code: 2067,
            statement_index: 3,
            ..wire::Error::default()
        });
        assert_eq!(
            error.kind(),
            &ErrorKind::Sql {
                code: 19,
                extended: 2067
            }
        );
        assert_eq!(
            error.to_string(),
            "UNIQUE constraint failed: t.a: code=19 extended=2067 statement=3"
        );
    }

    #[test]
    fn an_error_of_the_end_of_a_batch_is_of_none_of_its_statements() {
        let at = |statement_index| {
            let error = Error::from_wire(wire::Error {
                code: wire::ErrorCode::Sql.into(),
                message: "FOREIGN KEY constraint failed".into(),
                sqlite_code: 787,
                statement_index,
                ..wire::Error::default()
            });
            error.of_statements(3)
        };
        assert_eq!(at(2).statement_index(), Some(2));
        let end = at(3);
        assert_eq!(
            (end.statement_index(), end.sqlite_code()),
            (None, Some(787))
        );
        assert!(!end.to_string().contains("statement="), "{end}");
    }

    #[test]
    fn unknown_code_is_internal() {
        let error = Error::from_wire(wire::Error {
            code: 9999,
            ..wire::Error::default()
        });
        assert_eq!(error.kind(), &ErrorKind::Internal);
    }
}
