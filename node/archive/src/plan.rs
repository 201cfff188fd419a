//! [`plan`]: which files make up a restore.
//!
//! Pure: from a listing and a target to the files to merge, or to the reason why there are none. It picks the files that stock Litestream
//! picks, and says more when it cannot. It never looks into a file.

use std::fmt;

use halite_ltx::Txid;
use jiff::Timestamp;

pub use error::PlanError;
pub use points::{RestorePoint, restore_points};

use crate::{FileInfo, Level};

mod error;
mod points;
#[cfg(test)]
mod tests;

/// The state of the database that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest.
    Latest,
    /// The one right after a transaction. Only the ends of files can be restored.
    Txid(Txid),
    /// The newest **before** a point in time, by the timestamps of files.
    Timestamp(Timestamp),
}

impl Target {
    /// Whether a file may be part of the restore.
    fn allows(self, file: &FileInfo) -> bool {
        match self {
            Target::Latest => true,
            Target::Txid(txid) => file.key.max <= txid,
            Target::Timestamp(timestamp) => file.timestamp < timestamp,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Latest => f.write_str("latest"),
            Target::Txid(txid) => write!(f, "txid {txid}"),
            Target::Timestamp(timestamp) => write!(f, "timestamp {timestamp}"),
        }
    }
}

/// The files whose merge is the wanted state, oldest first. Each follows the one before without a gap; they may overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    files: Vec<FileInfo>,
    last: FileInfo,
}

impl RestorePlan {
    /// The files, oldest first; at least one.
    pub fn files(&self) -> &[FileInfo] {
        &self.files
    }

    /// The last transaction that will be in the restored database.
    pub fn txid(&self) -> Txid {
        self.last.key.max
    }

    /// The timestamp of the last file.
    pub fn timestamp(&self) -> Timestamp {
        self.last.timestamp
    }

    /// Bytes to be read.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Chooses the files for a restore: the newest snapshot that the target allows, then again and again the file, of any level, that
/// follows without a gap and leads furthest.
///
/// `files` is a listing of all levels, in any order.
///
/// # Errors
/// [`PlanError`] names what is missing, or what could be restored instead.
pub fn plan(files: &[FileInfo], target: Target) -> Result<RestorePlan, PlanError> {
    if files.is_empty() {
        return Err(PlanError::Empty);
    }
    let chosen = choose(files, target);
    let reached = chosen.last().map_or(Txid::ZERO, |file| file.key.max);
    match target {
        Target::Latest => {
            if files.iter().any(|file| file.key.max > reached) {
                return Err(gap(files, reached));
            }
        }
        Target::Txid(txid) => {
            if reached != txid || txid.is_zero() {
                return Err(txid_error(files, txid, reached));
            }
        }
        Target::Timestamp(timestamp) => check_timestamp(files, timestamp, reached)?,
    }
    match chosen.last().copied() {
        Some(last) => Ok(RestorePlan {
            files: chosen,
            last,
        }),
        None => Err(gap(files, reached)),
    }
}

fn choose(files: &[FileInfo], target: Target) -> Vec<FileInfo> {
    let allowed = || files.iter().filter(|file| target.allows(file));
    let snapshot = allowed()
        .filter(|file| file.key.level == Level::SNAPSHOT)
        .max_by_key(|file| file.key);
    let mut chosen: Vec<FileInfo> = snapshot.into_iter().copied().collect();
    let mut reached = snapshot.map_or(Txid::ZERO, |file| file.key.max);

    let mut rest: Vec<&FileInfo> = allowed()
        .filter(|file| file.key.level != Level::SNAPSHOT)
        .collect();
    rest.sort_unstable_by_key(|file| file.key.min);
    let mut rest = rest.into_iter().peekable();
    let mut best: Option<&FileInfo> = None;
    loop {
        while let Some(file) = rest.next_if(|file| file.key.min <= reached.next()) {
            if best.is_none_or(|best| is_better(file, best)) {
                best = Some(file);
            }
        }
        match best.take() {
            Some(file) if file.key.max > reached => {
                chosen.push(*file);
                reached = file.key.max;
            }
            _ => return chosen,
        }
    }
}

/// Whether `next` is to be preferred: it leads further; else begins earlier, is of a higher level, is older.
fn is_better(next: &FileInfo, best: &FileInfo) -> bool {
    let (a, b) = (next.key, best.key);
    (a.max, b.min, a.level, best.timestamp) > (b.max, a.min, b.level, next.timestamp)
}

/// Whether any file holds a transaction.
fn is_covered(files: &[FileInfo], txid: Txid) -> bool {
    files
        .iter()
        .any(|file| file.key.min <= txid && txid <= file.key.max)
}

/// The error for a hole right after `reached`.
fn gap(files: &[FileInfo], reached: Txid) -> PlanError {
    let first = reached.next();
    let next = files
        .iter()
        .map(|file| file.key)
        .filter(|key| key.min > first)
        .min_by_key(|key| key.min);
    match next {
        Some(next) => PlanError::Gap {
            first,
            last: next.min.previous().unwrap_or(first),
            reached,
            next,
        },
        None => PlanError::Empty,
    }
}

fn txid_error(files: &[FileInfo], txid: Txid, reached: Txid) -> PlanError {
    let newest = files
        .iter()
        .map(|file| file.key.max)
        .max()
        .unwrap_or(Txid::ZERO);
    if txid > newest {
        return PlanError::AfterNewest { txid, newest };
    }
    if !txid.is_zero() && !is_covered(files, reached.next()) {
        return gap(files, reached);
    }
    let points = restore_points(files);
    let is_before = |oldest: &&RestorePoint| !txid.is_zero() && txid < oldest.txid;
    if let Some(oldest) = points.first().filter(is_before) {
        return PlanError::BeforeOldest {
            txid,
            oldest: oldest.txid,
            timestamp: oldest.timestamp,
        };
    }
    let position = points.partition_point(|point| point.txid < txid);
    PlanError::NotRestorePoint {
        txid,
        before: points[..position].last().map(|point| point.txid),
        after: points.get(position).map(|point| point.txid),
    }
}

fn check_timestamp(
    files: &[FileInfo],
    timestamp: Timestamp,
    reached: Txid,
) -> Result<(), PlanError> {
    let bases = files.iter().filter(|file| file.key.min == Txid::new(1));
    let Some(oldest) = bases.map(|file| file.timestamp).min() else {
        return Err(gap(files, Txid::ZERO));
    };
    let newest = files
        .iter()
        .map(|file| file.timestamp)
        .max()
        .unwrap_or(oldest);
    if timestamp <= oldest || timestamp > newest {
        return Err(PlanError::TimestampOutOfRange {
            timestamp,
            oldest,
            newest,
        });
    }
    let wanted = Target::Timestamp(timestamp);
    let lost = files
        .iter()
        .any(|file| wanted.allows(file) && file.key.max > reached);
    // Clocks may step back: a later transaction with an earlier timestamp is no gap, as long as what is between exists.
    if lost && !is_covered(files, reached.next()) {
        return Err(gap(files, reached));
    }
    Ok(())
}
