//! [`ChangeList`]: the unsynced changes of one file, in order, with what the disk holds without them. Pure: bytes in, bytes out;
//! owned by the disk, told of each write, truncation and sync.
//!
//! The unit is the sector: what the kernel writes back as one. After each write the list keeps the whole sector, so that a later
//! change that survives brings the bytes of earlier ones in the same sector along, as the page cache does.

use std::collections::BTreeMap;

use crate::unsynced::{Survival, UnsyncedChange};

/// Bytes that reach the disk together unless they are torn: a page of the kernel's cache, and a sector of most disks.
pub(crate) const SECTOR_BYTES: usize = 4096;

/// The content of one sector; past the end of the file it is zero.
pub(crate) type Sector = Vec<u8>;

#[derive(Debug)]
enum Change {
    Sector { number: u64, after: Sector },
    Size { from: u64, to: u64 },
}

#[derive(Debug)]
struct Entry {
    change: Change,
    sync_failed: bool,
}

/// What a file is after a power loss.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) size: u64,
    /// Every sector that may differ from what the file holds now.
    pub(crate) sectors: BTreeMap<u64, Sector>,
}

#[derive(Debug, Default)]
pub(crate) struct ChangeList {
    /// Size on disk; of meaning while there are entries.
    size: u64,
    /// What the disk holds of each sector that the entries touch.
    durable: BTreeMap<u64, Sector>,
    entries: Vec<Entry>,
}

impl ChangeList {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Must be called before a change, with the size that the file has.
    pub(crate) fn begin(&mut self, size: u64) {
        if self.entries.is_empty() {
            self.durable.clear();
            self.size = size;
        }
    }

    /// True if the list has to be told what a sector holds before it is changed.
    pub(crate) fn wants(&self, number: u64) -> bool {
        !self.durable.contains_key(&number)
    }

    /// Tells what a sector holds before its first change.
    pub(crate) fn before(&mut self, number: u64, content: Sector) {
        self.durable.entry(number).or_insert(content);
    }

    /// A sector was written.
    pub(crate) fn written(&mut self, number: u64, after: Sector) {
        self.push(Change::Sector { number, after });
    }

    /// The file has another size. For a shorter one, `before` must have been told of all sectors from the cut on.
    pub(crate) fn resized(&mut self, from: u64, to: u64) {
        self.push(Change::Size { from, to });
    }

    fn push(&mut self, change: Change) {
        self.entries.push(Entry {
            change,
            sync_failed: false,
        });
    }

    /// A sync has failed: the kernel takes the pages for clean from now on, and no later sync writes them.
    pub(crate) fn sync_failed(&mut self) {
        for entry in &mut self.entries {
            entry.sync_failed = true;
        }
    }

    /// A sync has succeeded. Sizes are durable now, and so is every sector that was written since the last failed sync; the others
    /// stay at stake.
    pub(crate) fn synced(&mut self) {
        let mut stuck: Vec<Entry> = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            match entry.change {
                Change::Size { from, to } => {
                    self.size = to;
                    if to < from {
                        cut(&mut self.durable, to);
                        let whole = to.div_ceil(SECTOR_BYTES as u64);
                        stuck.retain(|entry| entry.sector().is_some_and(|number| number < whole));
                    }
                }
                Change::Sector { .. } if entry.sync_failed => stuck.push(entry),
                Change::Sector { number, .. } => {
                    // The page was dirty again, so all of it has been written.
                    stuck.retain(|entry| entry.sector() != Some(number));
                }
            }
        }
        self.durable
            .retain(|&number, _| stuck.iter().any(|entry| entry.sector() == Some(number)));
        self.entries = stuck;
    }

    /// Flips a bit of one byte in all that is known of it.
    pub(crate) fn flip(&mut self, offset: u64, mask: u8) {
        let (sector, at) = place(offset);
        let entries = self
            .entries
            .iter_mut()
            .filter_map(|entry| match &mut entry.change {
                Change::Sector { number, after } if *number == sector => Some(after),
                _ => None,
            });
        for content in self.durable.get_mut(&sector).into_iter().chain(entries) {
            content[at] ^= mask;
        }
    }

    /// Asks for the fate of each change, oldest first, and says what the file is then. The list is empty afterwards.
    pub(crate) fn settle(
        &mut self,
        mut choose: impl FnMut(usize, UnsyncedChange, bool) -> Survival,
    ) -> Settled {
        let entries = std::mem::take(&mut self.entries);
        let fates: Vec<Survival> = entries
            .iter()
            .enumerate()
            .map(|(number, entry)| choose(number, entry.describe(), entry.sync_failed))
            .collect();
        let last_size = entries.iter().zip(&fates).rposition(|(entry, fate)| {
            *fate == Survival::Keep && matches!(entry.change, Change::Size { .. })
        });
        let mut settled = Settled {
            size: self.size,
            sectors: std::mem::take(&mut self.durable),
        };
        for (number, (entry, fate)) in entries.into_iter().zip(fates).enumerate() {
            match entry.change {
                Change::Size { from, to } if last_size.is_some_and(|last| number <= last) => {
                    settled.size = to;
                    if to < from {
                        cut(&mut settled.sectors, to);
                    }
                }
                Change::Size { .. } => {}
                Change::Sector { number, after } => {
                    let bytes = match fate {
                        Survival::Keep => SECTOR_BYTES,
                        Survival::Drop => 0,
                        Survival::Tear(bytes) => bytes.min(SECTOR_BYTES),
                    };
                    let content = settled.sectors.entry(number).or_insert_with(blank);
                    content[..bytes].copy_from_slice(&after[..bytes]);
                }
            }
        }
        settled
    }
}

impl Entry {
    fn sector(&self) -> Option<u64> {
        match self.change {
            Change::Sector { number, .. } => Some(number),
            Change::Size { .. } => None,
        }
    }

    fn describe(&self) -> UnsyncedChange {
        match self.change {
            Change::Sector { number, .. } => UnsyncedChange::Sector {
                offset: number * SECTOR_BYTES as u64,
                bytes: SECTOR_BYTES,
            },
            Change::Size { from, to } => UnsyncedChange::Size { from, to },
        }
    }
}

fn blank() -> Sector {
    vec![0; SECTOR_BYTES]
}

/// Zeroes what lies past the end of a file that is cut.
fn cut(sectors: &mut BTreeMap<u64, Sector>, size: u64) {
    let (first, at) = place(size);
    for (&number, content) in sectors.range_mut(first..) {
        content[if number == first { at } else { 0 }..].fill(0);
    }
}

/// The sector of an offset, and the place in it.
fn place(offset: u64) -> (u64, usize) {
    let bytes = SECTOR_BYTES as u64;
    (offset / bytes, (offset % bytes) as usize)
}

/// The sectors that a range of bytes touches.
pub(crate) fn sectors(offset: u64, bytes: u64) -> std::ops::Range<u64> {
    let sector = SECTOR_BYTES as u64;
    offset / sector..(offset + bytes).div_ceil(sector)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in memory that tells a list of its changes, as the disk does.
    #[derive(Default)]
    struct Model {
        file: Vec<u8>,
        list: ChangeList,
    }

    impl Model {
        fn sector(&self, number: u64) -> Sector {
            let mut content = blank();
            let from = (number as usize * SECTOR_BYTES).min(self.file.len());
            let to = (from + SECTOR_BYTES).min(self.file.len());
            content[..to - from].copy_from_slice(&self.file[from..to]);
            content
        }

        fn write(&mut self, offset: usize, bytes: usize, fill: u8) {
            let size = self.file.len();
            self.list.begin(size as u64);
            let touched = sectors(offset as u64, bytes as u64);
            for number in touched.clone() {
                self.list.before(number, self.sector(number));
            }
            self.file.resize(size.max(offset + bytes), 0);
            self.file[offset..offset + bytes].fill(fill);
            for number in touched {
                self.list.written(number, self.sector(number));
            }
            if self.file.len() != size {
                self.list.resized(size as u64, self.file.len() as u64);
            }
        }

        fn truncate(&mut self, size: usize) {
            let from = self.file.len();
            self.list.begin(from as u64);
            for number in sectors(size as u64, (from - size) as u64) {
                self.list.before(number, self.sector(number));
            }
            self.file.truncate(size);
            self.list.resized(from as u64, size as u64);
        }

        /// What is left after a power loss.
        fn settle(
            mut self,
            choose: impl FnMut(usize, UnsyncedChange, bool) -> Survival,
        ) -> Vec<u8> {
            let settled = self.list.settle(choose);
            self.file.resize(settled.size as usize, 0);
            for (number, content) in settled.sectors {
                let from = number as usize * SECTOR_BYTES;
                let to = (from + SECTOR_BYTES).min(self.file.len());
                if from < to {
                    self.file[from..to].copy_from_slice(&content[..to - from]);
                }
            }
            self.file
        }
    }

    fn drop_all(_: usize, _: UnsyncedChange, _: bool) -> Survival {
        Survival::Drop
    }

    #[test]
    fn nothing_unsynced_survives_if_all_is_dropped() {
        let mut model = Model::default();
        model.write(0, 10_000, 1);
        model.list.synced();
        let synced = model.file.clone();
        model.write(3000, 9000, 2);
        model.truncate(5000);
        model.write(6000, 100, 3);
        model.truncate(0);
        model.write(0, 50, 4);
        assert_eq!(model.settle(drop_all), synced);
    }

    #[test]
    fn everything_is_as_written_if_all_is_kept() {
        let mut model = Model::default();
        model.write(0, 10_000, 1);
        model.truncate(5000);
        model.write(9000, 10, 2);
        let written = model.file.clone();
        assert_eq!(model.settle(|_, _, _| Survival::Keep), written);
    }

    #[test]
    fn later_write_brings_the_sector_along_and_sizes_come_in_order() {
        let mut model = Model::default();
        model.write(0, 8192, 1);
        model.list.synced();
        model.write(0, 100, 2);
        model.write(200, 100, 3);
        model.write(8192, 10, 4);
        model.truncate(100);
        // Changes: two writes to a sector, a write past the end with its size, a cut.
        let left = model.settle(|number, _, _| {
            if number == 1 {
                Survival::Keep
            } else {
                Survival::Drop
            }
        });
        assert_eq!((left.len(), left[0], left[250], left[300]), (8192, 2, 3, 1));
    }

    #[test]
    fn kept_size_brings_earlier_sizes_along() {
        let mut model = Model::default();
        model.write(0, 8192, 1);
        model.list.synced();
        model.truncate(100);
        model.write(100, 8000, 2);
        let left = model.settle(|_, change, _| match change {
            UnsyncedChange::Size { to: 8100, .. } => Survival::Keep,
            _ => Survival::Drop,
        });
        assert_eq!(
            (left.len(), left[99], left[100], left[8000]),
            (8100, 1, 0, 0)
        );
    }

    #[test]
    fn torn_sector_is_new_and_then_old() {
        let mut model = Model::default();
        model.write(0, 4096, 1);
        model.list.synced();
        model.write(0, 4096, 2);
        let left = model.settle(|_, _, _| Survival::Tear(7));
        assert_eq!((left[6], left[7], left[4095]), (2, 1, 1));
    }

    #[test]
    fn sync_after_a_failed_one_saves_only_what_was_written_again() {
        let mut model = Model::default();
        model.write(0, 12_288, 1);
        model.list.synced();
        model.write(0, 10, 2);
        model.write(4096, 10, 2);
        model.write(8192, 10, 2);
        model.list.sync_failed();
        model.write(4100, 10, 3);
        model.list.synced();
        assert_eq!(model.list.len(), 2);
        let left = model.settle(|_, _, sync_failed| {
            assert!(sync_failed);
            Survival::Drop
        });
        assert_eq!((left[0], left[4096], left[4100], left[8192]), (1, 2, 3, 1));
    }
}
