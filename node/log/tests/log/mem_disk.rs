//! The simulated disk: power loss, slow and failing flushes.

use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use halite_log::{Crash, FlushFate, LogOptions, LogStore, MemDisk, MetaKey, Vote};
use openraft::storage::RaftLogStorage;

use crate::support::{DEADLINE, append, begin_append, entries, id, read, run};

/// From now on no flush ends within the test.
fn stall(disk: &MemDisk) {
    disk.set_faults(|_| FlushFate::Done {
        delay: 10 * DEADLINE,
    });
}

fn open(disk: &MemDisk) -> LogStore {
    LogStore::open_memory(disk, LogOptions::default()).unwrap()
}

/// Waits until the writer has put `batches` on the disk and is busy syncing.
async fn until_unsynced(disk: &MemDisk, batches: usize) {
    while disk.unsynced_batches() < batches {
        tokio::task::yield_now().await;
    }
}

#[test]
fn slow_flush_keeps_entries_readable_and_the_flushed_index_back() {
    run(async {
        let disk = MemDisk::new();
        let store = open(&disk);
        append(&store, entries(1, 0..5, 10)).await;
        stall(&disk);
        let mut pending = Box::pin(begin_append(&store, entries(1, 5..8, 10)).await.unwrap());
        until_unsynced(&disk, 1).await;
        assert_eq!(8, read(&store, 0..10).await.len());
        assert_eq!(Some(4), *store.flushed().borrow());
        assert!(futures::poll!(&mut pending).is_pending());
    });
}

#[test]
fn a_disk_takes_the_time_that_its_bytes_need() {
    run(async {
        let disk = MemDisk::new();
        let store = open(&disk);
        append(&store, entries(1, 0..5, 10)).await;
        disk.set_bandwidth(NonZeroU64::new(1));
        let mut pending = Box::pin(begin_append(&store, entries(1, 5..6, 1000)).await.unwrap());
        until_unsynced(&disk, 1).await;
        tokio::task::yield_now().await;
        assert_eq!(Some(4), *store.flushed().borrow());
        assert!(futures::poll!(&mut pending).is_pending());
        disk.set_bandwidth(None);
        // The sync that has begun keeps its pace; another disk is as fast as before.
        let fast = MemDisk::new();
        fast.set_bandwidth(NonZeroU64::new(1 << 30));
        append(&open(&fast), entries(1, 0..5, 10)).await;
    });
}

#[test]
fn nothing_is_synced_while_a_disk_hangs_and_the_store_says_so() {
    run(async {
        let disk = MemDisk::new();
        let store = open(&disk);
        append(&store, entries(1, 0..5, 10)).await;
        // Who appended is told before the batch is over.
        while store.writing().is_some() {
            tokio::task::yield_now().await;
        }
        disk.set_hanging(true);
        let mut pending = Box::pin(begin_append(&store, entries(1, 5..6, 10)).await.unwrap());
        until_unsynced(&disk, 1).await;
        let doing = store.writing();
        assert!(doing.is_some());
        // Raft's core goes on: it appends, and purges what is applied.
        let mut raft = store.clone();
        let mut more = Box::pin(begin_append(&store, entries(1, 6..8, 10)).await.unwrap());
        raft.save_committed(Some(id(1, 4))).await.unwrap();
        raft.purge(id(1, 2)).await.unwrap();
        assert_eq!(3..8, store.indexes());
        assert_eq!(doing, store.writing());
        assert_eq!(Some(4), *store.flushed().borrow());
        assert!(futures::poll!(&mut pending).is_pending());
        disk.set_hanging(false);
        (&mut pending).await.unwrap().unwrap();
        (&mut more).await.unwrap().unwrap();
        assert_eq!(Some(7), *store.flushed().borrow());
        store.close().await.unwrap();
        assert_eq!(3..8, open(&disk).indexes());
    });
}

#[test]
fn power_loss_drops_or_keeps_what_was_not_synced() {
    run(async {
        // Two batches are at stake: entries 5..7 and a value.
        for (crash, entries_kept, value_kept) in [
            (Crash::DropUnsynced, false, false),
            (Crash::KeepFirst(1), true, false),
            (Crash::KeepFirst(9), true, true),
            (Crash::KeepUnsynced, true, true),
        ] {
            let disk = MemDisk::new();
            let mut store = open(&disk);
            append(&store, entries(1, 0..5, 10)).await;
            stall(&disk);
            let _pending = begin_append(&store, entries(1, 5..7, 10)).await.unwrap();
            until_unsynced(&disk, 1).await;
            let key = MetaKey::node("at-stake").unwrap();
            let change = vec![(key.clone(), Some(Bytes::from_static(b"x")))];
            store.meta_put_blocking(change, false).unwrap();
            assert_eq!(2, disk.unsynced_batches());

            disk.crash(crash);
            disk.clear_faults();
            let after = open(&disk);
            assert_eq!(
                if entries_kept { 0..7 } else { 0..5 },
                after.indexes(),
                "{crash:?}"
            );
            assert_eq!(
                value_kept,
                after.meta_get(&key).unwrap().is_some(),
                "{crash:?}"
            );
            append(&after, entries(2, after.indexes().end..20, 10)).await;
            let error = store
                .meta_put_blocking(vec![(key, None)], true)
                .unwrap_err();
            assert!(
                error.to_string().contains("lost power"),
                "the store of before the crash still writes: {error}"
            );
            let vote =
                tokio::time::timeout(DEADLINE / 100, store.save_vote(&Vote::new(9, 9))).await;
            assert!(
                !matches!(vote, Ok(Ok(()))),
                "the store of before the crash still votes"
            );
            assert_eq!(None, after.vote());
        }
    });
}

#[test]
fn full_disk_stops_the_store_until_it_recovers() {
    run(async {
        let disk = MemDisk::new();
        let mut store = open(&disk);
        append(&store, entries(1, 0..5, 10)).await;
        disk.set_faults(|_| FlushFate::WriteFails(io::ErrorKind::StorageFull));
        let error = begin_append(&store, entries(1, 5..7, 10))
            .await
            .unwrap()
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(io::ErrorKind::StorageFull, error.kind());
        assert!(store.failure().unwrap().contains("injected fault"));
        assert_eq!(Some(4), *store.flushed().borrow());

        disk.clear_faults();
        let error = begin_append(&store, entries(1, 7..8, 10))
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains("needs recovery"), "{error}");
        assert!(store.save_vote(&Vote::new(2, 1)).await.is_err());
        assert!(store.get_log_state().await.is_err());
        assert!(
            store
                .meta_put(vec![(MetaKey::node("x").unwrap(), None)], true)
                .await
                .is_err()
        );

        store.recover().await.unwrap();
        assert_eq!(None, store.failure());
        assert_eq!(0..5, store.indexes());
        append(&store, entries(2, 5..6, 10)).await;
        store.save_vote(&Vote::new(2, 1)).await.unwrap();
        assert_eq!(
            Some(id(2, 5)),
            store.get_log_state().await.unwrap().last_log_id
        );
    });
}

#[test]
fn failed_sync_is_reported_and_its_entries_stay_in_doubt() {
    run(async {
        for (crash, end) in [(Crash::DropUnsynced, 5), (Crash::KeepUnsynced, 7)] {
            let disk = MemDisk::new();
            let store = open(&disk);
            append(&store, entries(1, 0..5, 10)).await;
            disk.set_faults(|_| FlushFate::SyncFails {
                delay: Duration::from_millis(1),
                kind: io::ErrorKind::Other,
            });
            let result = begin_append(&store, entries(1, 5..7, 10))
                .await
                .unwrap()
                .await
                .unwrap();
            assert!(result.is_err());
            disk.crash(crash);
            disk.clear_faults();
            assert_eq!(0..end, open(&disk).indexes());
        }
    });
}

#[test]
fn queued_operations_all_learn_of_the_failure() {
    run(async {
        let disk = MemDisk::new();
        let store = open(&disk);
        disk.set_faults(|_| FlushFate::WriteFails(io::ErrorKind::StorageFull));
        let mut pending = Vec::new();
        for i in 0..20 {
            match begin_append(&store, entries(1, i..i + 1, 10)).await {
                Ok(flushed) => pending.push(flushed),
                Err(error) => assert!(error.to_string().contains("needs recovery"), "{error}"),
            }
        }
        assert!(!pending.is_empty());
        for flushed in pending {
            assert!(flushed.await.unwrap().is_err());
        }
    });
}

/// The batches that a current-thread run with seeded yields writes.
fn batches(seed: u64) -> Vec<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let disk = MemDisk::new();
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        disk.set_faults(move |info| {
            tx.send(info.bytes).unwrap();
            FlushFate::Done {
                delay: Duration::ZERO,
            }
        });
        let store = open(&disk);
        let mut random = seed;
        for i in 0..100 {
            begin_append(&store, entries(1, i..i + 1, 10))
                .await
                .unwrap();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if random >> 62 == 0 {
                tokio::task::yield_now().await;
            }
        }
        store.close().await.unwrap();
        let mut seen = Vec::new();
        while let Ok(bytes) = rx.try_recv() {
            seen.push(bytes);
        }
        seen
    })
}

#[test]
fn same_schedule_writes_the_same_batches() {
    assert_eq!(batches(1), batches(1));
    assert_ne!(batches(1), batches(2));
    assert!(batches(1).len() > 5);
}
