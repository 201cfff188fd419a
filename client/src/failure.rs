//! How one try of a call failed, and what follows from it. Pure.

use std::sync::Arc;
use std::time::Duration;

use halite_proto::error_detail;

use crate::link::{Lost, describe};
use crate::{Error, ErrorKind};

/// How one try failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The node answered with an error.
    Answered(Error),
    /// No answer came.
    Lost(Lost),
}

/// What a call may do to the cluster if it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it can be repeated at will.
    Read,
    /// A write that may be repeated: it carries an idempotency key, or doing it twice is doing it once.
    Write,
    /// Something that must not be repeated once it may have arrived.
    Once,
}

/// What to do after a failed try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try another node now; pause when all have been tried.
    Elsewhere,
    /// Try another node now; the error stands when all that can be reached have been tried.
    ElsewhereOrFail,
    /// Try another node now; the error stands when every member says so, and as long as one says something else or nothing, a primary is waited for.
    ElsewhereUnlessAll,
    /// Other nodes would only hand the call to the one that just answered: wait, at least this long if it says so.
    Pause(Option<Duration>),
    /// The error is the answer.
    Fail,
}

impl Failure {
    pub(crate) fn lost(why: impl Into<Arc<str>>, maybe_sent: bool) -> Self {
        Failure::Lost(Lost {
            why: why.into(),
            maybe_sent,
        })
    }

    /// The failure that a gRPC call ended with.
    pub(crate) fn from_status(status: &tonic::Status) -> Self {
        use tonic::Code;
        if let Some(error) = Error::from_status(status) {
            return Failure::Answered(error);
        }
        match status.code() {
            Code::Unimplemented => Failure::Answered(Error::internal(
                "node does not know this call: it runs another version, see `halite status`",
            )),
            // What tonic answers to a message beyond the limit of the node, before any of our code sees it.
            Code::OutOfRange | Code::InvalidArgument => {
                Failure::Answered(Error::invalid(describe(status)))
            }
            _ => Failure::lost(describe(status), !error_detail::is_unsent(status)),
        }
    }

    /// After this failure the call may have been carried out.
    pub(crate) fn maybe_done(&self) -> bool {
        match self {
            Failure::Lost(lost) => lost.maybe_sent,
            // A node whose own time for a call is up has stopped and rolled it back before it says so.
            Failure::Answered(error) => *error.kind() == ErrorKind::OutcomeUnknown,
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Failure::Answered(error) => error,
            Failure::Lost(lost) => Error::unavailable(lost.why.to_string()),
        }
    }

    /// `by_primary`: the node that failed is the primary, as far as is known.
    pub(crate) fn next(&self, effect: Effect, by_primary: bool) -> Next {
        if effect == Effect::Once && self.maybe_done() {
            return Next::Fail;
        }
        let error = match self {
            Failure::Lost(_) => return Next::Elsewhere,
            Failure::Answered(error) => error,
        };
        match error.kind() {
            ErrorKind::NotPrimary { .. } | ErrorKind::OutcomeUnknown => Next::Elsewhere,
            ErrorKind::Unavailable { retry_after } if by_primary && effect != Effect::Read => {
                Next::Pause(*retry_after)
            }
            ErrorKind::Unavailable { .. } => Next::Elsewhere,
            // A follower may not have applied the creation yet.
            ErrorKind::NoSuchDatabase if !by_primary => Next::ElsewhereUnlessAll,
            // It speaks of itself.
            ErrorKind::Fenced => Next::ElsewhereUnlessAll,
            ErrorKind::Corrupt if effect == Effect::Read => Next::ElsewhereOrFail,
            // Every node purges its log at its own pace.
            ErrorKind::Purged => Next::ElsewhereOrFail,
            _ => Next::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(kind: ErrorKind) -> Failure {
        Failure::Answered(Error::new(kind, "test"))
    }

    #[test]
    fn a_call_that_must_not_be_repeated_is_not() {
        let lost = Failure::lost("gone", true);
        assert_eq!(lost.next(Effect::Once, true), Next::Fail);
        assert_eq!(lost.next(Effect::Write, true), Next::Elsewhere);
        assert_eq!(
            Failure::lost("gone", false).next(Effect::Once, true),
            Next::Elsewhere
        );
        let unknown = answered(ErrorKind::OutcomeUnknown);
        assert_eq!(unknown.next(Effect::Once, true), Next::Fail);
        assert_eq!(unknown.next(Effect::Write, true), Next::Elsewhere);
    }

    #[test]
    fn an_overloaded_primary_is_not_asked_through_others() {
        let after = Some(Duration::from_millis(7));
        let busy = answered(ErrorKind::Unavailable { retry_after: after });
        assert_eq!(busy.next(Effect::Write, true), Next::Pause(after));
        assert_eq!(busy.next(Effect::Write, false), Next::Elsewhere);
        assert_eq!(busy.next(Effect::Read, true), Next::Elsewhere);
    }

    #[test]
    fn definite_errors_are_final() {
        for kind in [
            ErrorKind::Invalid,
            ErrorKind::Sql {
                code: 19,
                extended: 2067,
            },
            ErrorKind::AlreadyExists,
            ErrorKind::DeadlineExceeded,
            ErrorKind::DiskFull,
            ErrorKind::RowsNotKept,
            ErrorKind::Internal,
        ] {
            let failure = answered(kind);
            assert!(!failure.maybe_done());
            assert_eq!(failure.next(Effect::Write, false), Next::Fail);
        }
        assert_eq!(
            answered(ErrorKind::NoSuchDatabase).next(Effect::Read, true),
            Next::Fail
        );
    }

    #[test]
    fn what_one_node_lacks_is_not_the_answer_of_the_cluster() {
        for kind in [ErrorKind::Fenced, ErrorKind::NoSuchDatabase] {
            for effect in [Effect::Read, Effect::Write, Effect::Once] {
                let next = answered(kind.clone()).next(effect, false);
                assert_eq!(next, Next::ElsewhereUnlessAll);
            }
        }
        let purged = answered(ErrorKind::Purged).next(Effect::Read, true);
        assert_eq!(purged, Next::ElsewhereOrFail);
    }
}
