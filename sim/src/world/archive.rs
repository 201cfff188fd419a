//! The archive at the end of a run: it has everything, each transaction once, and gives back what was committed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use halite::archiver::{ArchiveTarget, place};
use halite_archive::{
    Destination, FileInfo, FileKey, Inline, Level, RestoreOptions, Schedule, Target, list_all,
    plan, restore, restore_points,
};
use halite_ltx::{DatabaseChecksum, PageNo, Txid};
use jiff::Timestamp;
use rand::Rng as _;
use rand::seq::IteratorRandom as _;

use super::World;
use crate::fault::StoreFault;
use crate::file::File;
use crate::sometimes::Sometimes;

/// Name of the store.
pub(super) const BUCKET: &str = "archive";
/// Where all databases go, each below it.
const PLACE: &str = "cluster";
/// States restored and compared, the newest one included.
const SAMPLE: usize = 6;
/// Once nobody writes any more, everything is archived within this.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(20);

/// Where nodes archive to.
pub(super) fn target(sync_interval: Duration) -> ArchiveTarget {
    ArchiveTarget {
        url: format!("mem://{BUCKET}/{PLACE}"),
        sync_interval,
    }
}

/// So short that everything comes to be merged, and the first files to be deleted, in the seconds that a run has.
pub(super) fn schedule() -> Schedule {
    Schedule {
        levels: [500, 2_000].map(Duration::from_millis).to_vec(),
        snapshot_interval: Duration::from_secs(4),
        snapshot_retention: Duration::from_secs(6),
        level_zero_retention: Duration::from_secs(1),
    }
}

impl World {
    /// At every moment an archive gives back a newest state, and all that is promised, unless somebody else has removed files.
    pub(super) fn look_at_archives(&mut self) {
        if self.plan.archive.is_none() || self.archive_lost {
            return;
        }
        let shown = self.nodes.values().map(|node| node.clock.unix_ms());
        let ahead = shown.map(|ms| ms - self.elapsed_ms());
        // What a clock that was ahead has taken does not come back with it.
        self.clock_ahead_ms = ahead.fold(self.clock_ahead_ms, i64::max);
        let now = Timestamp::from_millisecond(self.elapsed_ms() + self.clock_ahead_ms);
        let horizon = schedule().horizon(now.unwrap_or(Timestamp::MAX));
        for (_, path) in self.places() {
            let files = self.store.files(&path);
            if files.is_empty() {
                continue;
            }
            if files.iter().any(|file| file.key.level.get() == 2) {
                self.watcher.reach(Sometimes::ArchiveMerged);
            }
            if let Err(error) = plan(&files, Target::Latest) {
                self.violated("archive", format!("{path} cannot be restored: {error}"));
            }
            if let Some(lost) = lost(&files, horizon) {
                let what = format!("{path}: {lost} is promised, and cannot be restored");
                self.violated("archive", what);
            }
        }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.sim.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// To be called when the cluster has come to rest.
    pub(super) fn check_archive(&mut self) -> Result<()> {
        let all_there = |world: &mut World| world.all_is_archived() && world.can_be_restored();
        if !self.wait_for(ARCHIVED_WITHIN, all_there)? {
            let what = "not everything was archived after the load ended".to_owned();
            self.violated("archive", what);
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let dir = tempfile::tempdir()?;
        // Those that were dropped, too.
        for (name, path) in self.places() {
            let destination = self.store.destination(&path);
            let files = runtime.block_on(list_all(&destination))?;
            let (gaps, overlaps) = match self.archive_lost {
                true => Default::default(),
                false => gaps_and_overlaps(&files),
            };
            // A request may take effect long after its primary is gone; what it holds is the same.
            let late = self.store.counts();
            let late = late.delayed + late.timed_out + late.unavailable_after_effect;
            let overlaps = overlaps.into_iter().filter(|_| late == 0);
            for what in gaps.into_iter().chain(overlaps) {
                self.violated("archive", format!("{name}: {what}"));
            }
            let mut states = Vec::new();
            for txid in self.sample(&files) {
                let output = dir.path().join("restored.db");
                match runtime.block_on(restored(&destination, txid, &output)) {
                    Ok(checksum) => states.push((txid, checksum)),
                    Err(error) => {
                        let what = format!("{name} at txid {txid}: {error:#}");
                        self.violated("archive", what);
                    }
                }
            }
            self.compare(&name, &states);
        }
        Ok(())
    }

    fn all_is_archived(&self) -> bool {
        let Some(view) = self.primary().and_then(|id| self.nodes[&id].view()) else {
            return false;
        };
        let node = view.status().and_then(|status| status.node);
        node.is_some_and(|node| {
            let mut databases = node.databases.iter();
            databases.all(|d| d.archived_txid == d.txid)
        })
    }

    /// The newest state of every database that is there: what was lost has been noticed, and made good.
    fn can_be_restored(&self) -> bool {
        let Some(view) = self.primary().and_then(|id| self.nodes[&id].view()) else {
            return false;
        };
        let Some(node) = view.status().and_then(|status| status.node) else {
            return false;
        };
        node.databases.iter().filter(|d| d.txid > 0).all(|d| {
            let mut urls = d.archive_urls.iter();
            let files = urls.next().map(|url| self.store.files(path_of(url)));
            let plan = plan(&files.unwrap_or_default(), Target::Latest);
            plan.is_ok_and(|plan| plan.txid().get() == d.txid)
        })
    }

    /// Where something is archived, with the name of the database: those that were created again have a place of their own.
    fn places(&self) -> BTreeSet<(String, String)> {
        let databases = self.eyes.databases.iter();
        databases
            .flat_map(|(id, name)| {
                let first = format!("{PLACE}/{name}");
                let own = place::beside(&first, *id);
                [first, own].map(|path| (name.clone(), path))
            })
            .collect()
    }

    /// False if nothing was there.
    pub(super) fn lose_files(&mut self, rate: u32) -> bool {
        let rng = &mut self.rng;
        let lost = self.store.lose(|_, _| rng.random_range(0..1_000) < rate);
        self.trace.note(format_args!("archive: {lost} files lost"));
        self.archive_lost |= lost > 0;
        if lost > 0 {
            self.count(StoreFault::Loses(rate).kind());
            self.watcher.reach(Sometimes::ArchiveLost);
        }
        lost > 0
    }

    /// The newest state, and some of the others that can be restored.
    fn sample(&mut self, files: &[FileInfo]) -> Vec<Txid> {
        let newest = match self.archive_lost {
            false => files.iter().map(|file| file.key.max).max(),
            // Of a database that is gone, nobody has made good what was lost.
            true => plan(files, Target::Latest).ok().map(|plan| plan.txid()),
        };
        let others = restore_points(files).into_iter().map(|point| point.txid);
        let mut sample = others.choose_multiple(&mut self.rng, SAMPLE - 1);
        sample.extend(newest);
        sample.sort_unstable();
        sample.dedup();
        sample
    }

    /// All that is archived under a name is of one database of that name: a later one does not mix with what is there.
    fn compare(&mut self, name: &str, restored: &[(Txid, u64)]) {
        let transactions = &self.eyes.transactions;
        let databases = self.eyes.databases.iter();
        let ids = databases.filter(|(_, known)| *known == name);
        let most = ids.map(|(id, _)| {
            let held = |(txid, checksum): &&(Txid, u64)| {
                transactions.get(&(*id, txid.get())) == Some(checksum)
            };
            restored.iter().filter(held).count()
        });
        if most.max() != Some(restored.len()) {
            let what = format!(
                "{name} is not restored to states that were committed: txids and checksums {restored:x?}"
            );
            self.violated("archive", what);
        }
    }
}

/// A merged file since the horizon to whose end no files lead.
fn lost(files: &[FileInfo], horizon: Timestamp) -> Option<FileKey> {
    let points: BTreeSet<Txid> = restore_points(files)
        .iter()
        .map(|point| point.txid)
        .collect();
    let merged = files.iter().filter(|file| file.key.level != Level::ZERO);
    let mut promised = merged.filter(|file| file.timestamp >= horizon);
    let lost = promised.find(|file| !points.contains(&file.key.max));
    lost.map(|file| file.key)
}

/// The path in the store of an address.
fn path_of(url: &str) -> &str {
    let bucket = url.strip_prefix("mem://").unwrap_or(url);
    bucket.split_once('/').map_or("", |(_, path)| path)
}

/// Restores a state, checks it with SQLite, and gives its checksum.
async fn restored(destination: &dyn Destination, txid: Txid, output: &Path) -> Result<u64> {
    let options = RestoreOptions {
        force: true,
        blocking: Arc::new(Inline),
        ..RestoreOptions::default()
    };
    let report = restore(destination, Target::Txid(txid), output, options).await?;
    let bytes = std::fs::read(output)?;
    let mut checksum = DatabaseChecksum::new(report.page_size);
    for (number, page) in (1..).zip(bytes.chunks(report.page_size.get() as usize)) {
        let pgno = PageNo::new(number);
        checksum.add(pgno, halite_pager::masked_page_checksum(pgno, page));
    }
    let problems = File::open(output)?.integrity_check()?;
    anyhow::ensure!(problems == ["ok"], "integrity check: {problems:?}");
    Ok(checksum.value().get())
}

/// Level 0 holds each transaction in exactly one file, but for those that have gone to higher levels.
fn gaps_and_overlaps(files: &[FileInfo]) -> (Vec<String>, Vec<String>) {
    let (mut level_zero, higher): (Vec<&FileInfo>, Vec<&FileInfo>) =
        files.iter().partition(|file| file.key.level == Level::ZERO);
    level_zero.sort_by_key(|file| (file.key.min, file.key.max));
    let is_higher = |txid: u64| {
        let mut higher = higher.iter();
        higher.any(|file| (file.key.min.get()..=file.key.max.get()).contains(&txid))
    };
    let (mut gaps, mut overlaps) = (Vec::new(), Vec::new());
    let mut reached = Txid::ZERO;
    for file in level_zero {
        let (min, next) = (file.key.min.get(), reached.get() + 1);
        if min < next {
            overlaps.push(format!("{} holds what is in another file", file.key));
        }
        if let Some(missing) = (next..min).find(|txid| !is_higher(*txid)) {
            gaps.push(format!("txid {missing} is missing"));
        }
        reached = reached.max(file.key.max);
    }
    (gaps, overlaps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(level: Level, min: u64, max: u64) -> FileInfo {
        FileInfo {
            key: FileKey::new(level, Txid::new(min), Txid::new(max)),
            bytes: 1,
            timestamp: Default::default(),
        }
    }

    #[test]
    fn a_gap_or_an_overlap_at_level_zero_is_found() {
        let zero = |min, max| file(Level::ZERO, min, max);
        let found = |files: &[FileInfo]| {
            let (gaps, overlaps) = gaps_and_overlaps(files);
            (gaps.len(), overlaps.len())
        };
        assert_eq!(found(&[zero(1, 3), zero(4, 4)]), (0, 0));
        assert_eq!(found(&[zero(1, 3), zero(5, 6)]), (1, 0));
        assert_eq!(found(&[zero(1, 3), zero(3, 6)]), (0, 1));
        let snapshot = file(Level::SNAPSHOT, 1, 4);
        assert_eq!(found(&[zero(1, 3), snapshot, zero(5, 6)]), (0, 0));
        let merged = file(Level::new(1).unwrap(), 4, 6);
        assert_eq!(found(&[zero(1, 3), merged, zero(6, 8)]), (0, 0));
        assert_eq!(found(&[zero(1, 3), merged, zero(8, 8)]), (1, 0));
    }
}
