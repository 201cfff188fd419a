//! The disk under the store: what RocksDB and the simulated disk have in common.

pub(crate) mod rocks;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::error::OpenError;

/// A column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Log,
    Vote,
    Meta,
}

impl Family {
    pub(crate) const ALL: [Self; 3] = [Self::Log, Self::Vote, Self::Meta];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Vote => "vote",
            Self::Meta => "meta",
        }
    }
}

/// One change of a batch. A value is `head` followed by `body`, so that payloads are shared until the backend copies them.
pub(crate) enum Change {
    Put {
        family: Family,
        key: Vec<u8>,
        head: Vec<u8>,
        body: Bytes,
    },
    Delete {
        family: Family,
        key: Vec<u8>,
    },
    /// Deletes `from..to`.
    DeleteRange {
        family: Family,
        from: Vec<u8>,
        to: Vec<u8>,
    },
}

/// When a batch has to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Whenever it suits; a later sync covers it.
    Lazy,
    /// When `write` returns.
    Now,
    /// When the `sync` that follows returns.
    AtNextSync,
}

/// An ordered, atomic, key-value disk. After a crash a prefix of the batches is left, all that were synced among them.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Writes all changes, in order, or none of them.
    fn write(&self, changes: &[Change], durability: Durability) -> io::Result<()>;

    /// Makes all that was written durable.
    fn sync(&self) -> io::Result<()>;

    /// How long the next `sync` is to take, for disks that only pretend.
    fn sync_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// Says while the disk hangs, for disks that only pretend: no `sync` is begun then.
    fn hanging(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    fn get(&self, family: Family, key: &[u8]) -> io::Result<Option<Bytes>>;

    /// Shows `visit` the pairs of `from..to` in order, all of one moment, until it answers `false`.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> io::Result<()>;

    /// The greatest key of a family.
    fn last_key(&self, family: Family) -> io::Result<Option<Vec<u8>>>;

    /// Frees the space of log keys up to and including `last`, as far as that is cheap. Only called for keys that a *durable*
    /// purge pointer covers; they may stay readable.
    fn reclaim(&self, last: &[u8]) -> io::Result<()>;

    /// Purged bytes from which on `reclaim` is worth a call.
    fn reclaim_step_bytes(&self) -> u64;

    /// Bytes that the log family takes, roughly.
    fn log_bytes(&self) -> io::Result<u64>;

    /// Opens the disk anew after a failure; what was written and not synced is there or not.
    fn reopen(&self) -> Result<(), OpenError>;

    /// Lets go of the disk. Every later call fails.
    fn close(&self);
}
