//! Whether what a destination holds is of the history that this cluster's log tells.
//!
//! A cluster that was put back to older disks as a whole commits other transactions under numbers that its archive holds already. Owns that
//! comparison and nothing else: it reads the log, and never the destination, which [`DatabaseArchive`](super::sync::DatabaseArchive) has listed
//! before it asks.

use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::sync::SyncError;
use crate::cluster::{Cluster, ltx_log};
use crate::database::blocking;

/// The transaction that the destination ends with, `held`, was committed `at` the time that the log has for it; `entries` are those among which
/// it is. A transaction that has left the log is believed.
///
/// # Errors
/// `Forked` if it is another one; else that the log cannot be read.
pub(super) async fn is_ours(
    cluster: &Cluster,
    database_id: u64,
    held: u64,
    at: Timestamp,
    entries: RangeInclusive<u64>,
) -> Result<(), SyncError> {
    let log = cluster.shared().log.clone();
    let found = blocking(cluster.host(), move || {
        // A database that is not archived holds the log only for so long.
        let from = (*entries.start()).max(log.indexes().start);
        let mut all = ltx_log::transactions(&log, database_id, from, *entries.end());
        let of_it = all.find(|ltx| ltx.as_ref().map_or(true, |ltx| ltx.command.txid == held));
        of_it.transpose()
    });
    let Some(ltx) = found.await?? else {
        return Ok(());
    };
    let ours = Timestamp::from_millisecond(ltx.command.timestamp_ms).unwrap_or(at);
    match ours == at {
        true => Ok(()),
        false => Err(SyncError::Forked {
            found: held,
            at,
            ours,
        }),
    }
}
