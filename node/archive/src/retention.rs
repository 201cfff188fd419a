//! [`expired`]: what may be deleted.
//!
//! Pure: from a listing of all levels, the [`Schedule`] and the clock to the files that no promised state needs. Promised are
//!
//! * the newest state;
//! * since the horizon (`snapshot_retention` ago), and right before it, the end of every file of level 1 and above;
//! * for `level_zero_retention`, the end of every file of level 0.
//!
//! A state that could be restored before and is promised can be restored afterwards, whatever the listing lacks.

use halite_ltx::Txid;
use jiff::Timestamp;

use crate::{FileInfo, FileKey, Level, Schedule};

#[cfg(test)]
mod tests;

/// So many files of level 1 are looked at for one that has all of a file of level 0. They follow each other, so the first one has it.
const COVER_TRIES: usize = 8;

/// The files that may be deleted. `files` is a listing of all levels, in any order, with the times in the files.
pub fn expired(files: &[FileInfo], schedule: &Schedule, now: Timestamp) -> Vec<FileKey> {
    let horizon = schedule.horizon(now);
    let base = base(files, horizon);
    let newest: Vec<Option<FileKey>> = Level::all().map(|level| newest_of(files, level)).collect();
    let merged = Merged::new(files, schedule, now);
    let is_expired = |file: &&FileInfo| {
        let key = file.key;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::RetentionEatsBase) {
            return base.is_some_and(|base| key == base.key);
        }
        if newest[usize::from(key.level.get())] == Some(key) {
            return false;
        }
        let is_of_level_zero = key.level == Level::ZERO;
        if is_of_level_zero && schedule.is_young(file.timestamp, now) {
            return false;
        }
        let is_before_base = base.is_some_and(|base| key != base.key && key.max <= base.key.max);
        is_before_base || is_of_level_zero && merged.has(key)
    };
    let mut expired: Vec<FileKey> = files
        .iter()
        .filter(is_expired)
        .map(|file| file.key)
        .collect();
    expired.sort_unstable();
    expired
}

/// The snapshot from which everything is restored that is promised: the newest one that no state since the horizon comes before.
fn base(files: &[FileInfo], horizon: Timestamp) -> Option<&FileInfo> {
    let promised = files.iter().filter(|file| file.timestamp >= horizon);
    let first = promised.map(|file| file.key.max).min();
    let snapshots = files
        .iter()
        .filter(|file| file.key.level == Level::SNAPSHOT);
    snapshots
        .filter(|file| first.is_none_or(|first| file.key.max < first))
        .max_by_key(|file| file.key)
}

/// It stays, so that a level shows where it ends.
fn newest_of(files: &[FileInfo], level: Level) -> Option<FileKey> {
    let of_level = files.iter().filter(|file| file.key.level == level);
    of_level
        .map(|file| file.key)
        .max_by_key(|key| (key.max, key.min))
}

/// What level 1 has of level 0.
struct Merged {
    /// Files of level 1, by their ends.
    level_one: Vec<FileKey>,
    /// Ends of files that are promised, in order.
    promised: Vec<Txid>,
}

impl Merged {
    fn new(files: &[FileInfo], schedule: &Schedule, now: Timestamp) -> Self {
        let one = files.iter().filter(|file| file.key.level.get() == 1);
        let mut level_one: Vec<FileKey> = one.map(|file| file.key).collect();
        level_one.sort_unstable_by_key(|key| key.max);
        let is_promised = |file: &&FileInfo| match file.key.level {
            Level::ZERO => schedule.is_young(file.timestamp, now),
            level => level != Level::SNAPSHOT,
        };
        let promised = files.iter().filter(is_promised);
        let mut promised: Vec<Txid> = promised.map(|file| file.key.max).collect();
        promised.sort_unstable();
        Merged {
            level_one,
            promised,
        }
    }

    /// Whether a file of level 1 takes the place of this one, and of all that are needed together with it.
    fn has(&self, key: FileKey) -> bool {
        let after = self.level_one.partition_point(|one| one.max < key.max);
        let mut after = self.level_one[after..].iter().take(COVER_TRIES);
        let Some(cover) = after.find(|one| one.min <= key.min) else {
            return false;
        };
        // Whoever wants a state inside of that file comes by this one, or ends with it.
        let next = self.promised.partition_point(|end| *end < key.max);
        self.promised.get(next).is_none_or(|end| *end >= cover.max)
    }
}
