//! [`ConnectionState`]: what a connection may do, and what became of its last transaction. Shared by the shim and by the owner of the
//! connection; the shim reads the role at every lock and write.

use halite_ltx::Checksum;
use parking_lot::Mutex;

use crate::error::ApplyError;
use crate::fence::ConnectionId;
use crate::gate::{CommitOutcome, Gate};

/// What a connection may do.
pub(crate) enum Role {
    /// Reads only.
    Reader,
    /// Keeps the file open, holds the fence and runs checkpoints.
    Keeper,
    /// Writes through a gate.
    Writer(Box<dyn Gate>),
    /// Writes pages that are checked before they are published.
    Applier(ApplyCheck),
}

/// What an apply must lead to.
#[derive(Debug, Default)]
pub(crate) struct ApplyCheck {
    /// Size in pages that the commit must have; `None` outside of an apply, when nothing may be committed.
    pub(crate) page_count: Option<u32>,
    /// The result counts as a blank database.
    pub(crate) blank: bool,
    pub(crate) post_checksum: Option<Checksum>,
    /// Why the shim refused.
    pub(crate) error: Option<ApplyError>,
}

/// One connection, as the shim and the owner of the connection see it.
pub(crate) struct ConnectionState {
    pub(crate) id: ConnectionId,
    pub(crate) role: Mutex<Role>,
    pub(crate) outcome: Mutex<CommitOutcome>,
}

impl ConnectionState {
    pub(crate) fn writes(&self) -> bool {
        matches!(*self.role.lock(), Role::Writer(_) | Role::Applier(_))
    }
}
