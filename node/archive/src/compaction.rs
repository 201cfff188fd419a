//! [`next_work`]: what is to be merged next.
//!
//! Pure: from a listing of all levels, the [`Schedule`] and the clock to one merge, or to nothing. The merge itself is
//! [`merged_upload`](crate::merged_upload).
//!
//! * One file of a level covers what is in one window of time (a multiple of the level's interval), and is made when the window is over: a
//!   node that was away for long makes as many files as one that was not, and two nodes make the same ones.
//! * Only files that follow each other are merged. Where transactions are missing, a level goes on behind the gap, at a snapshot.
//! * The whole database is in snapshots only, and in the first file of level 0: a level begins where the oldest snapshot ends.

use std::time::Duration;

use halite_ltx::Txid;
use jiff::Timestamp;

use crate::schedule::window_end;
use crate::{FileInfo, FileKey, Level, Schedule};

#[cfg(test)]
mod tests;

/// Files that are merged at once, all of them open. More become more than one file of the level above.
pub const SOURCES_MAX: usize = 64;

/// Files that become one file of a higher level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Where the new file goes.
    pub level: Level,
    /// Oldest first; at least one. Each follows the one before without a gap; they may overlap.
    pub sources: Vec<FileInfo>,
}

impl Merge {
    /// The name of the new file.
    ///
    /// # Panics
    /// There are no sources.
    pub fn key(&self) -> FileKey {
        let (first, last) = self
            .sources
            .first()
            .zip(self.sources.last())
            .expect("there are sources");
        FileKey::new(self.level, first.key.min, last.key.max)
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// These files become one.
    Merge(Merge),
    /// A snapshot is due, and there are too many files since the last one to make it of them: the database itself has to give it.
    Snapshot,
}

/// What is to be merged next, lowest level first; `None` if nothing is, as with a database that nobody writes to.
///
/// `files` is a listing of all levels, in any order.
pub fn next_work(files: &[FileInfo], schedule: &Schedule, now: Timestamp) -> Option<Work> {
    let mut snapshots: Vec<Txid> = of_level(files, Level::SNAPSHOT)
        .map(|file| file.key.max)
        .collect();
    snapshots.sort_unstable();
    let Some(&oldest) = snapshots.first() else {
        return first_snapshot(files, schedule, now).map(Work::Merge);
    };
    let mut merges = schedule.merged().zip(Level::all());
    let due = |((level, interval), below)| {
        let reached = of_level(files, level).map(|file| file.key.max).max();
        let sources = of_level(files, below);
        let chain = chain_behind(sources, reached.unwrap_or(oldest), &snapshots);
        let sources = complete_window(chain, interval, now);
        (!sources.is_empty()).then_some(Merge { level, sources })
    };
    merges
        .find_map(due)
        .map(Work::Merge)
        .or_else(|| next_snapshot(files, schedule, now))
}

fn of_level(files: &[FileInfo], level: Level) -> impl Iterator<Item = &FileInfo> {
    files.iter().filter(move |file| file.key.level == level)
}

fn below_snapshots(files: &[FileInfo]) -> impl Iterator<Item = &FileInfo> {
    files
        .iter()
        .filter(|file| file.key.level != Level::SNAPSHOT)
}

/// The first snapshot does not wait for its interval: without it no level can begin.
fn first_snapshot(files: &[FileInfo], schedule: &Schedule, now: Timestamp) -> Option<Merge> {
    let interval = schedule.snapshot_interval;
    let interval = schedule
        .levels
        .first()
        .map_or(interval, |first| interval.min(*first));
    let sources = complete_window(chain(below_snapshots(files), Txid::ZERO), interval, now);
    (!sources.is_empty()).then_some(Merge {
        level: Level::SNAPSHOT,
        sources,
    })
}

/// The snapshot of the last window of time that is over, if there is something in it that no snapshot has.
fn next_snapshot(files: &[FileInfo], schedule: &Schedule, now: Timestamp) -> Option<Work> {
    let newest = of_level(files, Level::SNAPSHOT).max_by_key(|file| file.key)?;
    let interval = schedule.snapshot_interval;
    if window_end(newest.timestamp, interval) > now {
        return None;
    }
    let mut chain = chain(below_snapshots(files), newest.key.max);
    let is_over = |file: &FileInfo| window_end(file.timestamp, interval) <= now;
    chain.truncate(chain.iter().rposition(is_over)? + 1);
    if chain.len() >= SOURCES_MAX {
        return Some(Work::Snapshot);
    }
    chain.insert(0, *newest);
    Some(Work::Merge(Merge {
        level: Level::SNAPSHOT,
        sources: chain,
    }))
}

/// The files that lead on from `reached`, each as far as any does.
fn chain<'a>(files: impl Iterator<Item = &'a FileInfo>, reached: Txid) -> Vec<FileInfo> {
    let mut files: Vec<&FileInfo> = files.filter(|file| file.key.max > reached).collect();
    files.sort_unstable_by_key(|file| file.key.min);
    let mut files = files.into_iter().peekable();
    let (mut chain, mut reached): (Vec<FileInfo>, _) = (Vec::new(), reached);
    loop {
        let mut best: Option<&FileInfo> = None;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::CompactionOverGap) {
            best = files.next();
        }
        while let Some(file) = files.next_if(|file| file.key.min <= reached.next()) {
            let leads_further =
                |best: &FileInfo| (file.key.max, file.key.level) > (best.key.max, best.key.level);
            if best.is_none_or(leads_further) {
                best = Some(file);
            }
        }
        match best {
            Some(file) if file.key.max > reached => {
                chain.push(*file);
                reached = file.key.max;
            }
            _ => return chain,
        }
    }
}

/// The files that lead on from `reached`, or from the next snapshot from which any do: what is missing between is in that one.
fn chain_behind<'a>(
    files: impl Iterator<Item = &'a FileInfo>,
    reached: Txid,
    snapshots: &[Txid],
) -> Vec<FileInfo> {
    let files: Vec<&FileInfo> = files.collect();
    let further = snapshots.iter().copied().filter(|max| *max > reached);
    std::iter::once(reached)
        .chain(further)
        .map(|reached| chain(files.iter().copied(), reached))
        .find(|chain| !chain.is_empty())
        .unwrap_or_default()
}

/// The files at the beginning of a chain that are of one window of time, if that is over.
///
/// A clock that was put back makes a window longer: what comes before a file of this window goes with it.
fn complete_window(mut chain: Vec<FileInfo>, interval: Duration, now: Timestamp) -> Vec<FileInfo> {
    let Some(first) = chain.iter().map(|file| file.timestamp).min() else {
        return chain;
    };
    let end = window_end(first, interval);
    let files = match end <= now {
        true => chain
            .iter()
            .rposition(|file| file.timestamp < end)
            .map_or(0, |last| last + 1),
        false => 0,
    };
    chain.truncate(files.min(SOURCES_MAX));
    chain
}
