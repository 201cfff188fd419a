//! Histories of syncs, merges, deletions, changes of primary and losses: what is promised can be restored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Merge, Target, Work, next_work, plan, restore_points};

/// Short, so that a history has many windows.
fn schedule() -> Schedule {
    Schedule {
        levels: [30, 120, 600].map(Duration::from_secs).to_vec(),
        snapshot_interval: Duration::from_secs(1_800),
        snapshot_retention: Duration::from_secs(3_600),
        level_zero_retention: Duration::from_secs(60),
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// So many transactions become a file, and so many seconds pass.
    Sync(u64, i64),
    Wait(i64),
    /// Merge what is due, delete what is expired.
    Upkeep,
    /// Another node leads; what the one before had decided may still be done.
    Decide,
    Late,
    /// Somebody removes a file, the primary notices.
    Lose(usize),
    /// The clock is put.
    Clock(i64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (1..4_u64, 1..25_i64).prop_map(|(count, wait)| Op::Sync(count, wait)),
        2 => (20..900_i64).prop_map(Op::Wait),
        6 => Just(Op::Upkeep),
        1 => Just(Op::Decide),
        1 => Just(Op::Late),
    ]
}

fn op_of_trouble() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => op(),
        2 => any::<usize>().prop_map(Op::Lose),
        1 => (-4_000..4_000_i64).prop_map(Op::Clock),
    ]
}

/// An archive, and what has been written to it.
struct World {
    schedule: Schedule,
    second: i64,
    newest: u64,
    /// The transactions that are really in a file, beside what its name says.
    files: BTreeMap<FileKey, (FileInfo, BTreeSet<u64>)>,
    /// Ends of all files of level 0 that there ever were.
    synced: Vec<(Txid, Timestamp)>,
    late_merge: Option<Merge>,
    late_deletion: Vec<FileKey>,
}

impl World {
    fn new() -> Self {
        World {
            schedule: schedule(),
            second: 1_000_000,
            newest: 0,
            files: BTreeMap::new(),
            synced: Vec::new(),
            late_merge: None,
            late_deletion: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.second).unwrap()
    }

    fn listing(&self) -> Vec<FileInfo> {
        self.files.values().map(|(info, _)| *info).collect()
    }

    fn put(&mut self, key: FileKey, timestamp: Timestamp, holds: BTreeSet<u64>) {
        let bytes = 200;
        let info = FileInfo {
            key,
            bytes,
            timestamp,
        };
        self.files.entry(key).or_insert((info, holds));
    }

    /// False if a source is gone.
    fn merge(&mut self, merge: &Merge) -> bool {
        let mut holds = BTreeSet::new();
        for source in &merge.sources {
            let Some((_, of_source)) = self.files.get(&source.key) else {
                return false;
            };
            holds.extend(of_source);
        }
        let timestamp = merge.sources.last().unwrap().timestamp;
        self.put(merge.key(), timestamp, holds);
        true
    }

    fn snapshot(&mut self) {
        let key = FileKey::new(Level::SNAPSHOT, Txid::new(1), Txid::new(self.newest));
        let timestamp = self.synced.last().map_or(self.now(), |(_, at)| *at);
        self.put(key, timestamp, (1..=self.newest).collect());
    }

    fn upkeep(&mut self) {
        let due = |world: &World| next_work(&world.listing(), &world.schedule, world.now());
        let mut rounds = 0;
        while let Some(work) = due(self) {
            match work {
                Work::Merge(merge) => assert!(self.merge(&merge), "all of it is there"),
                Work::Snapshot => self.snapshot(),
            }
            rounds += 1;
            assert!(rounds < 10_000, "it comes to an end");
        }
        self.delete();
    }

    fn delete(&mut self) {
        let before = self.listing();
        let expired = expired(&before, &self.schedule, self.now());
        self.files.retain(|key, _| !expired.contains(key));
        let left = restored(&self.listing());
        for txid in promised(&before, &self.schedule, self.now()) {
            assert!(
                left.contains(&txid),
                "txid {txid} is promised: {before:#?} expired: {expired:#?}"
            );
        }
    }

    fn play(&mut self, op: &Op) {
        match *op {
            Op::Sync(count, wait) => {
                let (min, max) = (self.newest + 1, self.newest + count);
                let key = FileKey::new(Level::ZERO, Txid::new(min), Txid::new(max));
                let now = self.now();
                self.put(key, now, (min..=max).collect());
                self.synced.push((key.max, now));
                self.newest = max;
                self.second += wait;
            }
            Op::Wait(seconds) => self.second += seconds,
            Op::Clock(seconds) => self.second += seconds,
            Op::Upkeep => self.upkeep(),
            Op::Decide => {
                let files = self.listing();
                let work = next_work(&files, &self.schedule, self.now());
                self.late_merge = work.and_then(|work| match work {
                    Work::Merge(merge) => Some(merge),
                    Work::Snapshot => None,
                });
                self.late_deletion = expired(&files, &self.schedule, self.now());
            }
            Op::Late => {
                if let Some(merge) = self.late_merge.take() {
                    self.merge(&merge);
                }
                for key in std::mem::take(&mut self.late_deletion) {
                    self.files.remove(&key);
                }
            }
            Op::Lose(which) => {
                let keys: Vec<FileKey> = self.files.keys().copied().collect();
                if let Some(key) = keys.get(which % keys.len().max(1)) {
                    self.files.remove(key);
                    // Decided for what was there.
                    self.late_deletion.clear();
                    self.heal();
                }
            }
        }
    }

    fn heal(&mut self) {
        let plan = plan(&self.listing(), Target::Latest);
        if plan.is_err() || plan.is_ok_and(|plan| plan.txid().get() < self.newest) {
            self.snapshot();
        }
    }

    /// The newest state can be restored, and every file holds what its name says.
    fn check(&self) {
        let files = self.listing();
        if self.newest > 0 {
            let plan =
                plan(&files, Target::Latest).unwrap_or_else(|error| panic!("{error} {files:#?}"));
            assert_eq!(plan.txid().get(), self.newest, "{files:#?}");
        }
        for (key, (_, holds)) in &self.files {
            let named: BTreeSet<u64> = (key.min.get()..=key.max.get()).collect();
            assert_eq!(holds, &named, "{key}");
        }
    }

    /// Nothing was lost and the clock went on: restores are as exact as promised, whatever was merged and deleted.
    fn check_exact(&self) {
        let (files, now) = (self.listing(), self.now());
        let points = restored(&files);
        for (txid, at) in &self.synced {
            let is_young = self.schedule.is_young(*at, now);
            assert!(
                !is_young || points.contains(txid),
                "txid {txid} is young: {files:#?}"
            );
        }
        let horizon = self.schedule.horizon(now).as_second();
        for second in (horizon..=self.second).filter(|second| second % 30 == 0) {
            let at = Timestamp::from_second(second).unwrap();
            let before = self.synced.iter().rfind(|(_, synced)| *synced < at);
            let after = self.synced.iter().find(|(_, synced)| *synced >= at);
            // A time after the last transaction is asked for as the newest state.
            let (Some((wanted, _)), Some(_)) = (before, after) else {
                continue;
            };
            let plan = plan(&files, Target::Timestamp(at));
            let plan = plan.unwrap_or_else(|error| panic!("{error} at {at}: {files:#?}"));
            assert_eq!(plan.txid(), *wanted, "at {at}: {files:#?}");
        }
    }
}

fn restored(files: &[FileInfo]) -> BTreeSet<Txid> {
    restore_points(files)
        .iter()
        .map(|point| point.txid)
        .collect()
}

/// Of what can be restored, what has to stay; see the header of the module.
fn promised(files: &[FileInfo], schedule: &Schedule, now: Timestamp) -> BTreeSet<Txid> {
    let points = restored(files);
    let horizon = schedule.horizon(now);
    let ends = |file: &&FileInfo| points.contains(&file.key.max);
    let kept = |file: &&FileInfo| match file.key.level {
        Level::ZERO => schedule.is_young(file.timestamp, now),
        _ => file.timestamp >= horizon,
    };
    let mut promised: BTreeSet<Txid> = files
        .iter()
        .filter(ends)
        .filter(kept)
        .map(|file| file.key.max)
        .collect();
    let since = files.iter().filter(|file| file.timestamp >= horizon);
    let first = since.map(|file| file.key.max).min();
    let merged = files
        .iter()
        .filter(ends)
        .filter(|file| file.key.level != Level::ZERO);
    let before = merged
        .map(|file| file.key.max)
        .filter(|max| first.is_none_or(|first| *max < first));
    promised.extend(before.max());
    promised.extend(points.last());
    promised
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_promised_moment_can_be_restored(ops in prop::collection::vec(op(), 1..250)) {
        let mut world = World::new();
        for op in &ops {
            world.play(op);
            world.check();
            if matches!(op, Op::Upkeep | Op::Late) {
                world.check_exact();
            }
        }
    }

    #[test]
    fn what_is_lost_takes_nothing_else_with_it(ops in prop::collection::vec(op_of_trouble(), 1..250)) {
        let mut world = World::new();
        for op in &ops {
            world.play(op);
            world.check();
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever is there: also what this program would never have left.
    #[test]
    fn no_listing_loses_what_is_promised(
        made in prop::collection::vec((0..10_u8, 1..60_u64, 0..8_u64, 0..5_000_i64), 1..60),
        now in 0..9_000_i64,
    ) {
        let mut world = World::new();
        for (level, min, more, second) in made {
            let level = Level::new(level).unwrap();
            let min = if level == Level::SNAPSHOT { 1 } else { min };
            let key = FileKey::new(level, Txid::new(min), Txid::new(min + more));
            world.put(key, Timestamp::from_second(second).unwrap(), BTreeSet::new());
        }
        world.second = now;
        world.delete();
    }
}

#[test]
fn an_idle_database_keeps_its_base_and_little_else() {
    let mut world = World::new();
    for _ in 0..2_000 {
        world.play(&Op::Sync(1, 7));
        if world.newest.is_multiple_of(3) {
            world.upkeep();
        }
    }
    world.play(&Op::Wait(20_000));
    for _ in 0..3 {
        world.upkeep();
        world.play(&Op::Wait(5_000));
    }
    world.check();
    let left: Vec<String> = world.files.keys().map(ToString::to_string).collect();
    assert!(left.len() <= 5, "{left:?}");
    assert_eq!(
        next_work(&world.listing(), &world.schedule, world.now()),
        None
    );
}

#[test]
fn nothing_of_level_zero_goes_if_it_is_kept_for_ever() {
    let mut world = World::new();
    world.schedule.level_zero_retention = Duration::ZERO;
    for _ in 0..1_000 {
        world.play(&Op::Sync(1, 20));
    }
    world.upkeep();
    let zero = world
        .files
        .keys()
        .filter(|key| key.level == Level::ZERO)
        .count();
    assert_eq!(zero, 1_000);
}

#[test]
fn a_file_stays_by_which_an_end_of_level_one_is_reached() {
    let mut world = World::new();
    for (level, min, max, second) in [
        (9, 1, 5, 0),
        (0, 6, 7, 0),
        (0, 8, 10, 0),
        (0, 11, 12, 0),
        // Neither this program nor stock Litestream leaves both.
        (1, 8, 12, 0),
        (1, 10, 10, 4_000),
    ] {
        let level = Level::new(level).unwrap();
        let key = FileKey::new(level, Txid::new(min), Txid::new(max));
        world.put(
            key,
            Timestamp::from_second(second).unwrap(),
            BTreeSet::new(),
        );
    }
    world.second = 5_000;
    world.delete();
    let zero = world.files.keys().filter(|key| key.level == Level::ZERO);
    let left: Vec<u64> = zero.map(|key| key.max.get()).collect();
    assert_eq!(left, [7, 10, 12]);
}
