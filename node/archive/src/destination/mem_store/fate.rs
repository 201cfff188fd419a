//! [`StoreFate`]: what becomes of a request to a [`MemStore`](crate::MemStore).

use std::time::Duration;

use crate::{FileKey, Level};

/// What is asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreAction {
    /// List one level.
    List,
    /// Open a file.
    Open,
    /// Store a file.
    Put,
    /// Delete one file: a deletion of several is as many requests.
    Delete,
}

impl StoreAction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            StoreAction::List => "list objects",
            StoreAction::Open => "get object",
            StoreAction::Put => "put object",
            StoreAction::Delete => "delete object",
        }
    }
}

/// A request that is about to be sent.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StoreRequest<'a> {
    /// What is asked.
    pub action: StoreAction,
    /// The archive's path in the store.
    pub path: &'a str,
    /// The level.
    pub level: Level,
    /// The file; `None` for a listing.
    pub key: Option<FileKey>,
    /// Bytes to be stored; 0 unless something is.
    pub bytes: u64,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreFate {
    /// It takes effect and is answered. A caller that dies between the two has stored something it does not know of.
    Done {
        /// Time until it takes effect.
        before: Duration,
        /// Time from the effect to the answer.
        after: Duration,
    },
    /// 503 Service Unavailable, at once: nothing has happened.
    Unavailable,
    /// It takes effect, and the caller is told 503 Service Unavailable.
    UnavailableAfterEffect {
        /// Time until it takes effect.
        before: Duration,
        /// Time from the effect to the answer.
        after: Duration,
    },
    /// Slow, then an error: nothing has happened.
    TimesOut {
        /// Time until the caller is told.
        delay: Duration,
    },
}

impl StoreFate {
    /// Done at once.
    pub const DONE: StoreFate = StoreFate::Done {
        before: Duration::ZERO,
        after: Duration::ZERO,
    };
}
