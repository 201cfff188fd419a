//! The file descriptors of this process: how many it may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Raises the limit to what the system allows, and says what it is.
pub(super) fn raise() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if before.current != before.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        warn!(%error, "the limit of open files cannot be raised");
    }
    info!(
        open_files = limit(),
        was = before.current.unwrap_or(u64::MAX),
        "limit of open files"
    );
}

/// So many this process may have open.
pub(super) fn limit() -> u64 {
    // None: there is no limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
