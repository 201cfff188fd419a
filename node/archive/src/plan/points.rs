//! [`restore_points`]: every state that an archive can give back.

use halite_ltx::Txid;
use jiff::Timestamp;

use crate::FileInfo;

/// A state that can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestorePoint {
    /// Its last transaction.
    pub txid: Txid,
    /// The earliest timestamp of a file that ends there and can be part of the restore.
    pub timestamp: Timestamp,
}

/// Every state that can be restored from these files (of all levels, in any order), oldest first.
///
/// A transaction is one if a file ends with it, and the files that end before it lead to that file's beginning.
pub fn restore_points(files: &[FileInfo]) -> Vec<RestorePoint> {
    let mut files: Vec<&FileInfo> = files.iter().collect();
    files.sort_unstable_by_key(|file| (file.key.max, file.timestamp));
    let mut points: Vec<RestorePoint> = Vec::new();
    for same_end in files.chunk_by(|a, b| a.key.max == b.key.max) {
        let reached = points.last().map_or(Txid::ZERO, |point| point.txid);
        if let Some(file) = same_end.iter().find(|file| file.key.min <= reached.next()) {
            points.push(RestorePoint {
                txid: file.key.max,
                timestamp: file.timestamp,
            });
        }
    }
    points
}
