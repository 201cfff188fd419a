//! The archive at the end of a run: it has everything, each transaction once, and gives back what was committed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use halite::archiver::ArchiveTarget;
use halite_archive::{
    Destination, FileInfo, Inline, Level, RestoreOptions, Target, list_all, restore,
};
use halite_ltx::{DatabaseChecksum, PageNo, Txid};
use rand::seq::IteratorRandom as _;

use super::World;
use crate::file::File;

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

impl World {
    /// To be called when the cluster has come to rest.
    pub(super) fn check_archive(&mut self) -> Result<()> {
        if !self.wait_for(ARCHIVED_WITHIN, |world| world.all_is_archived())? {
            let what = "not everything was archived after the load ended".to_owned();
            self.violated("archive", what);
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let dir = tempfile::tempdir()?;
        // Those that were dropped, too.
        let names: BTreeSet<String> = self.eyes.databases.values().cloned().collect();
        for name in names {
            let destination = self.store.destination(&format!("{PLACE}/{name}"));
            let files = runtime.block_on(list_all(&destination))?;
            let (gaps, overlaps) = gaps_and_overlaps(&files);
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
        // A database that was dropped and created again is not: its place holds the archive of the first.
        let lasts = |name: &str| self.plan.databases.iter().any(|(own, _)| own == name);
        node.is_some_and(|node| {
            let mut lasting = node.databases.iter().filter(|d| lasts(&d.name));
            lasting.all(|d| d.archived_txid == d.txid)
        })
    }

    /// The newest state, and some of the others that can be restored.
    fn sample(&mut self, files: &[FileInfo]) -> Vec<Txid> {
        let newest = files.iter().map(|file| file.key.max).max();
        let others = files.iter().map(|file| file.key.max);
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

/// Level 0 holds each transaction in exactly one file, but for those that only a snapshot has.
fn gaps_and_overlaps(files: &[FileInfo]) -> (Vec<String>, Vec<String>) {
    let mut level_zero: Vec<&FileInfo> = files
        .iter()
        .filter(|file| file.key.level == Level::ZERO)
        .collect();
    level_zero.sort_by_key(|file| (file.key.min, file.key.max));
    let snapshots = files
        .iter()
        .filter(|file| file.key.level == Level::SNAPSHOT);
    let snapshots: Vec<Txid> = snapshots.map(|file| file.key.max).collect();
    let (mut gaps, mut overlaps) = (Vec::new(), Vec::new());
    let mut reached = Txid::ZERO;
    for file in level_zero {
        let (min, next) = (file.key.min, reached.get() + 1);
        if min.get() < next {
            overlaps.push(format!("{} holds what is in another file", file.key));
        }
        if min.get() > next && !snapshots.iter().any(|max| max.get() + 1 == min.get()) {
            gaps.push(format!("txid {next} to {} are missing", min.get() - 1));
        }
        reached = reached.max(file.key.max);
    }
    (gaps, overlaps)
}

#[cfg(test)]
mod tests {
    use halite_archive::FileKey;

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
    }
}
