//! The errors that callers of a database see, as values of [`v1::Error`]. Owns their wording; decides nothing.

use std::time::Duration;

use halite_proto::v1::{Error, ErrorCode, NodeAddress};

/// After a write has waited in vain.
const WAIT_AGAIN: Duration = Duration::from_millis(50);

fn error(code: ErrorCode, message: impl Into<String>) -> Error {
    Error {
        code: code.into(),
        message: message.into(),
        ..Error::default()
    }
}

/// The lane of this node does not take writes; nothing was written.
pub(super) fn not_primary(primary: Option<NodeAddress>) -> Error {
    Error {
        primary,
        ..error(ErrorCode::NotPrimary, "this node is not the primary")
    }
}

/// Not now; nothing was written.
pub(super) fn unavailable(message: impl Into<String>, retry_after: Duration) -> Error {
    let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
    Error {
        retry_after_ms,
        ..error(ErrorCode::Unavailable, message)
    }
}

/// The entry left this node and nobody knows yet whether the quorum keeps it.
pub(super) fn outcome_unknown() -> Error {
    error(
        ErrorCode::OutcomeUnknown,
        "leadership was lost while the transaction was being committed: it may or may not be kept",
    )
}

/// Refused before it was tried.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    error(ErrorCode::Invalid, message)
}

/// The caller's time ran out before anything was written.
pub(super) fn deadline_exceeded(message: impl Into<String>) -> Error {
    error(ErrorCode::DeadlineExceeded, message)
}

/// SQL whose time ran out while it ran.
pub(super) fn ran_too_long(what: &str) -> Error {
    deadline_exceeded(format!(
        "the {what} ran longer than the call has time, and nothing of it was kept: give the call more time"
    ))
}

/// SQL that nobody waits for any more. A word for the log: whoever asked is gone, or has said that it does not listen.
pub(super) fn caller_gone() -> Error {
    deadline_exceeded("the caller is gone, and nothing of the statement was kept")
}

/// A write whose time ran out while others were before it; it was not begun. Worth another try, if there is time for one.
pub(super) fn waited_too_long() -> Error {
    unavailable(
        "the write waited too long for the ones before it",
        WAIT_AGAIN,
    )
}

/// The database is about to be dropped; nothing was written.
pub(super) fn being_dropped() -> Error {
    unavailable("the database is being dropped", WAIT_AGAIN)
}

/// The file cannot be opened for reading here.
pub(super) fn not_readable(error: &dyn std::error::Error) -> Error {
    let why = describe(error);
    unavailable(
        format!("the database cannot be opened for reading on this node: {why}"),
        WAIT_AGAIN,
    )
}

/// The file cannot be trusted.
pub(super) fn corrupt(message: impl Into<String>) -> Error {
    error(ErrorCode::Corrupt, message)
}

/// A defect of this node.
pub(super) fn internal(message: impl Into<String>) -> Error {
    error(ErrorCode::Internal, message)
}

/// No space left; nothing was written.
pub(super) fn disk_full(sqlite_code: i32) -> Error {
    Error {
        sqlite_code,
        ..error(
            ErrorCode::DiskFull,
            "no space left on the disk of the primary",
        )
    }
}

/// SQLite refused it.
pub(super) fn sql(message: impl Into<String>, sqlite_code: i32) -> Error {
    Error {
        sqlite_code,
        ..error(ErrorCode::Sql, message)
    }
}

/// An interactive transaction with this key is in the database already.
pub(super) fn already_committed(raft_index: u64) -> Error {
    error(
        ErrorCode::AlreadyExists,
        format!(
            "a transaction with this idempotency key is committed already raft_index={raft_index}"
        ),
    )
}

/// The answer to a retry: the write is in the database, and its rows are not with the record of it.
pub(super) fn rows_not_kept(raft_index: u64) -> Error {
    error(
        ErrorCode::RowsNotKept,
        format!(
            "the write was carried out and is kept, but the rows that it gave back were lost with its first answer: read what is there now raft_index={raft_index}"
        ),
    )
}

/// There is something in the way.
pub(super) fn already_exists(message: impl Into<String>) -> Error {
    error(ErrorCode::AlreadyExists, message)
}

/// A reader was given a statement that writes: it belongs to the primary.
pub(super) fn not_read_only() -> Error {
    let error = error(ErrorCode::NotPrimary, "the statement is not read-only");
    Error {
        sqlite_code: rusqlite::ffi::SQLITE_READONLY,
        ..error
    }
}

/// An error with its causes.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
