//! Random histories against a model: whatever the order of appends, truncations, purges, votes, crashes and failures, what was
//! reported as done is there, and what is there was once written.

use std::io;
use std::time::Duration;

use halite_log::{Crash, Entry, FlushFate, LogOptions, LogStore, MemDisk, Rt, Vote};
use openraft::storage::RaftLogStorage;

use crate::support::{DEADLINE, TestDisk, begin_append, entry, id, read};

/// A small generator, so that a seed is all it takes to repeat a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What the store has acknowledged.
#[derive(Default)]
struct Model {
    term: u64,
    /// All entries ever acknowledged and not truncated, from index 0; purged ones stay, to compare with.
    log: Vec<Entry>,
    /// Index of the first entry that is not purged. A crash may bring purged entries back, never take others.
    first: u64,
    vote: Option<Vote>,
}

impl Model {
    fn end(&self) -> u64 {
        self.log.len() as u64
    }

    fn next_entries(&mut self, random: &mut Random, from: u64) -> Vec<Entry> {
        let count = 1 + random.below(5);
        (from..from + count)
            .map(|index| entry(self.term, index, random.below(600) as usize))
            .collect()
    }
}

struct History {
    disk: TestDisk,
    store: LogStore,
    model: Model,
    random: Random,
}

impl History {
    fn new(disk: TestDisk, seed: u64) -> Self {
        let store = disk.open_with(small_cache()).unwrap();
        Self {
            disk,
            store,
            model: Model {
                term: 1,
                ..Model::default()
            },
            random: Random(seed),
        }
    }

    async fn step(&mut self) {
        match self.random.below(20) {
            0..=8 => self.append().await,
            9..=10 => self.truncate().await,
            11..=12 => self.purge().await,
            13 => self.vote().await,
            14 => self
                .store
                .save_committed(Some(id(self.model.term, self.model.end())))
                .await
                .unwrap(),
            15..=16 => self.check().await,
            17 => self.reopen().await,
            18 => self.lose_power().await,
            _ => self.fail_and_recover().await,
        }
    }

    async fn append(&mut self) {
        let from = self.model.end();
        let entries = self.model.next_entries(&mut self.random, from);
        begin_append(&self.store, entries.clone())
            .await
            .unwrap()
            .await
            .unwrap()
            .unwrap();
        self.model.log.extend(entries);
    }

    async fn truncate(&mut self) {
        let kept = self.model.end() - self.model.first;
        if kept == 0 {
            return;
        }
        let end = self.model.end() - self.random.below(kept.min(6));
        if end == 0 {
            return;
        }
        let last = self.model.log[end as usize - 1].log_id;
        self.store.truncate_after(Some(last)).await.unwrap();
        self.model.log.truncate(end as usize);
        self.model.term += 1;
    }

    async fn purge(&mut self) {
        let kept = self.model.end() - self.model.first;
        if kept == 0 {
            return;
        }
        let upto = self.model.first + self.random.below(kept);
        self.store
            .purge(self.model.log[upto as usize].log_id)
            .await
            .unwrap();
        self.model.first = upto + 1;
    }

    async fn vote(&mut self) {
        self.model.term += 1;
        let vote = Vote::new(self.model.term, self.random.below(3));
        self.store.save_vote(&vote).await.unwrap();
        self.model.vote = Some(vote);
    }

    /// The store answers exactly what the model holds.
    async fn check(&self) {
        assert_eq!(self.model.first..self.model.end(), self.store.indexes());
        assert_eq!(self.model.vote, self.store.vote());
        let kept = &self.model.log[self.model.first as usize..];
        assert_eq!(kept, read(&self.store, 0..u64::MAX).await);
        assert_eq!(
            self.model.end().checked_sub(1),
            *self.store.flushed().borrow()
        );
    }

    async fn reopen(&mut self) {
        self.store.close().await.unwrap();
        self.store = self.disk.open_with(small_cache()).unwrap();
        self.check().await;
    }

    /// Cuts the power with appends in flight.
    async fn lose_power(&mut self) {
        let TestDisk::Memory(disk) = &self.disk else {
            return;
        };
        let disk = disk.clone();
        disk.set_faults(|_| FlushFate::Done {
            delay: 10 * DEADLINE,
        });
        let mut in_flight = Vec::new();
        for _ in 0..self.random.below(4) {
            let from = self.model.end() + in_flight.len() as u64;
            let entries = self.model.next_entries(&mut self.random, from);
            let _lost = begin_append(&self.store, entries.clone()).await.unwrap();
            in_flight.extend(entries);
            if self.random.below(2) == 0 {
                tokio::task::yield_now().await;
            }
        }
        let crash = match self.random.below(3) {
            0 => Crash::DropUnsynced,
            1 => Crash::KeepUnsynced,
            _ => Crash::KeepFirst(self.random.below(4) as usize),
        };
        disk.crash(crash);
        disk.clear_faults();
        self.store = self.disk.open_with(small_cache()).unwrap();
        self.take_over(in_flight).await;
    }

    /// Lets a write fail, sees the store stop, and brings it back.
    async fn fail_and_recover(&mut self) {
        let TestDisk::Memory(disk) = &self.disk else {
            return;
        };
        let disk = disk.clone();
        let written = self.random.below(2) == 0;
        disk.set_faults(move |_| match written {
            true => FlushFate::SyncFails {
                delay: Duration::ZERO,
                kind: io::ErrorKind::Other,
            },
            false => FlushFate::WriteFails(io::ErrorKind::StorageFull),
        });
        let from = self.model.end();
        let entries = self.model.next_entries(&mut self.random, from);
        let result = begin_append(&self.store, entries.clone())
            .await
            .unwrap()
            .await
            .unwrap();
        assert!(result.is_err());
        disk.clear_faults();
        assert!(begin_append(&self.store, entries.clone()).await.is_err());
        self.store.recover().await.unwrap();
        self.take_over(entries).await;
    }

    /// Compares what is there after a crash with the model, and goes on from it: all that was acknowledged, and of what was in
    /// doubt a prefix.
    async fn take_over(&mut self, in_doubt: Vec<Entry>) {
        let found = self.store.indexes();
        assert!(
            found.start <= self.model.first,
            "a purge went further than asked"
        );
        assert!(
            found.end >= self.model.end(),
            "acknowledged entries are gone: {found:?}"
        );
        let all: Vec<_> = self.model.log.iter().chain(&in_doubt).cloned().collect();
        assert_eq!(
            all[found.start as usize..found.end as usize],
            read(&self.store, 0..u64::MAX).await
        );
        assert_eq!(self.model.vote, self.store.vote());
        self.model.log = all[..found.end as usize].to_vec();
        self.model.first = found.start;
        self.check().await;
    }
}

fn small_cache() -> LogOptions {
    let mut options = LogOptions::default();
    options.cache_bytes = 4000;
    options
}

fn run_history(disk: TestDisk, seed: u64, steps: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    println!("seed {seed}");
    runtime.block_on(async {
        let history = Rt::scope(seed, async {
            let mut history = History::new(disk, seed);
            for _ in 0..steps {
                history.step().await;
            }
            history.reopen().await;
        });
        tokio::time::timeout(DEADLINE, history)
            .await
            .expect("history ran into its deadline");
    });
}

#[test]
fn random_histories_agree_with_the_model_on_the_simulated_disk() {
    for seed in 0..400 {
        run_history(TestDisk::Memory(MemDisk::new()), seed, 80);
    }
}

#[test]
fn random_histories_agree_with_the_model_on_rocksdb() {
    for seed in 0..6 {
        run_history(TestDisk::Rocks(tempfile::tempdir().unwrap()), seed, 150);
    }
}
