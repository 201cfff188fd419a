//! What both disks have in common: order, reads, bounds, values.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use halite_log::{LogError, LogOptions, LogStore, MetaKey, OpenError, Vote};
use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use tokio::time::Instant;

use crate::support::{TestDisk, append, begin_append, entries, entry, id, read, run};

#[test]
fn reopen_finds_everything() {
    run(async {
        for disk in TestDisk::both() {
            let checkpoint = MetaKey::database("orders", "checkpoint").unwrap();
            let mut store = disk.open();
            append(&store, entries(1, 0..50, 100)).await;
            store.save_vote(&Vote::new_committed(3, 7)).await.unwrap();
            store.save_committed(Some(id(1, 40))).await.unwrap();
            store
                .meta_put(
                    vec![(checkpoint.clone(), Some(Bytes::from_static(b"k")))],
                    false,
                )
                .await
                .unwrap();
            store.truncate_after(Some(id(1, 44))).await.unwrap();
            store.purge(id(1, 9)).await.unwrap();
            store.close().await.unwrap();

            let mut store = disk.open();
            assert_eq!(10..45, store.indexes());
            assert_eq!(Some(44), *store.flushed().borrow());
            assert_eq!(entries(1, 10..45, 100), read(&store, 0..u64::MAX).await);
            assert_eq!(
                Some(Vote::new_committed(3, 7)),
                store.reader().read_vote().await.unwrap()
            );
            assert_eq!(Some(id(1, 40)), store.read_committed().await.unwrap());
            assert_eq!(Some(id(1, 9)), store.purged_log_id());
            assert_eq!("k", store.meta_get(&checkpoint).unwrap().unwrap());
        }
    });
}

#[test]
fn closed_store_lets_go_and_refuses() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            append(&store, entries(1, 0..3, 10)).await;
            store.close().await.unwrap();
            store.close().await.unwrap();
            assert!(begin_append(&store, entries(1, 3..4, 10)).await.is_err());
            let again = disk.open();
            assert_eq!(0..3, again.indexes());
        }
    });
}

#[test]
fn second_store_on_one_disk_is_refused() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            let error = disk.open_with(LogOptions::default()).err().unwrap();
            assert!(matches!(error, OpenError::InUse { .. }), "{error}");
            assert!(
                error.to_string().ends_with("is in use by another process"),
                "{error}"
            );
            append(&store, entries(1, 0..1, 10)).await;
        }
    });
}

#[test]
fn entries_are_readable_before_they_are_flushed() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            let mut pending = Vec::new();
            for i in 0..100 {
                pending.push(
                    begin_append(&store, entries(1, i..i + 1, 4096))
                        .await
                        .unwrap(),
                );
                assert_eq!(i, read(&store, i..i + 1).await[0].log_id.index);
            }
            for flushed in pending {
                flushed.await.unwrap().unwrap();
            }
            assert_eq!(Some(99), *store.flushed().borrow());
        }
    });
}

#[test]
fn appends_share_fsyncs_and_complete_in_order() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            let before = store.stats();
            let mut pending = Vec::new();
            for i in 0..400 {
                pending.push(
                    begin_append(&store, entries(1, i..i + 1, 512))
                        .await
                        .unwrap(),
                );
            }
            let mut watch = store.flushed();
            for (index, flushed) in (0..).zip(pending) {
                flushed.await.unwrap().unwrap();
                let published = *watch.borrow_and_update();
                assert!(
                    published >= Some(index),
                    "completed {index} before publishing it: {published:?}"
                );
            }
            let stats = store.stats();
            let (appends, syncs) = (stats.appends - before.appends, stats.syncs - before.syncs);
            assert_eq!(400, appends);
            assert!(
                syncs >= 1 && syncs < appends / 2,
                "appends={appends}, syncs={syncs}"
            );
        }
    });
}

#[test]
fn concurrent_appends_keep_their_order() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            let next = Arc::new(tokio::sync::Mutex::new(0_u64));
            let completed = Arc::new(AtomicU64::new(0));
            let writers = (0..8).map(|_| {
                let (store, next, completed) = (store.clone(), next.clone(), completed.clone());
                tokio::spawn(async move {
                    for _ in 0..50 {
                        let flushed = {
                            let mut next = next.lock().await;
                            let flushed = begin_append(&store, vec![entry(1, *next, 64)])
                                .await
                                .unwrap();
                            *next += 1;
                            flushed
                        };
                        flushed.await.unwrap().unwrap();
                        completed.fetch_add(1, Ordering::Relaxed);
                    }
                })
            });
            for writer in writers.collect::<Vec<_>>() {
                writer.await.unwrap();
            }
            assert_eq!(400, completed.load(Ordering::Relaxed));
            store.close().await.unwrap();
            let store = disk.open();
            assert_eq!(entries(1, 0..400, 64), read(&store, 0..400).await);
        }
    });
}

#[test]
fn gap_is_refused_and_changes_nothing() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            append(&store, entries(1, 0..5, 10)).await;
            let error = begin_append(&store, entries(1, 6..8, 10))
                .await
                .err()
                .unwrap();
            assert!(error.to_string().contains("index=6, expected=5"), "{error}");
            assert_eq!(0..5, store.indexes());
            append(&store, entries(1, 5..6, 10)).await;
        }
    });
}

#[test]
fn old_entries_come_from_disk_and_new_ones_from_memory() {
    run(async {
        for disk in TestDisk::both() {
            let mut options = LogOptions::default();
            options.cache_bytes = 50 * 1100;
            let store = disk.open_with(options).unwrap();
            for i in 0..20 {
                append(&store, entries(1, i * 10..i * 10 + 10, 1000)).await;
            }
            assert!(store.stats().cached_bytes <= 50 * 1100);
            assert_eq!(entries(1, 0..200, 1000), read(&store, 0..200).await);
            assert_eq!(entries(1, 90..160, 1000), read(&store, 90..160).await);
            assert_eq!(entries(1, 195..200, 1000), read(&store, 195..400).await);
            assert!(read(&store, 5..5).await.is_empty());
            assert!(read(&store, 300..400).await.is_empty());

            let limited = store.reader().read(0..200, 10_500).await.unwrap();
            assert_eq!(entries(1, 0..10, 1000), limited);
            let across = store.reader().read(140..200, 15_500).await.unwrap();
            assert_eq!(entries(1, 140..155, 1000), across);
            let one = store.reader().read(0..200, 1).await.unwrap();
            assert_eq!(entries(1, 0..1, 1000), one);
        }
    });
}

#[test]
fn replication_reads_are_bounded_in_bytes() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            append(&store, entries(1, 0..5, 600 << 10)).await;
            let got = store.reader().limited_get_log_entries(0, 5).await.unwrap();
            assert_eq!(1, got.len());
            append(&store, entries(1, 5..6, 3 << 20)).await;
            let got = store.reader().limited_get_log_entries(5, 6).await.unwrap();
            assert_eq!(
                1,
                got.len(),
                "an entry larger than the bound still has to travel"
            );
        }
    });
}

#[test]
fn stream_for_apply_yields_everything_in_order() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open_cold();
            append(&store, entries(1, 0..40, 300 << 10)).await;
            let mut reader = store.reader();
            let got: Vec<_> = reader
                .entries_stream(3..38)
                .await
                .try_collect()
                .await
                .unwrap();
            assert_eq!(
                (3..38).collect::<Vec<_>>(),
                got.iter().map(|e| e.log_id.index).collect::<Vec<_>>()
            );
        }
    });
}

#[test]
fn range_reader_is_strict() {
    run(async {
        for disk in TestDisk::both() {
            let mut store = disk.open_cold();
            append(&store, entries(1, 0..30, 400 << 10)).await;
            let got: Vec<_> = store
                .read_range(2..=29)
                .into_stream()
                .try_collect()
                .await
                .unwrap();
            assert_eq!(entries(1, 2..30, 400 << 10), got);

            let (good, bad): (Vec<_>, Vec<_>) = store
                .read_range(28..=30)
                .into_stream()
                .collect::<Vec<_>>()
                .await
                .into_iter()
                .partition(Result::is_ok);
            assert_eq!(2, good.len());
            assert!(
                matches!(bad[..], [Err(LogError::PastEnd { to: 30, end: 30 })]),
                "{bad:?}"
            );

            store.purge(id(1, 9)).await.unwrap();
            let error = store.read_range(5..=20).next_piece().await.unwrap_err();
            assert!(
                matches!(error, LogError::Purged { from: 5, first: 10 }),
                "{error}"
            );
            #[expect(clippy::reversed_empty_ranges, reason = "an empty range is the point")]
            let mut nothing = store.read_range(9..=3);
            assert!(nothing.next_piece().await.unwrap().is_none());
        }
    });
}

#[test]
fn flushed_index_goes_back_on_truncate() {
    run(async {
        for disk in TestDisk::both() {
            let mut store = disk.open();
            append(&store, entries(1, 0..10, 10)).await;
            let flushed = store.flushed();
            assert_eq!(Some(9), *flushed.borrow());
            store.truncate_after(Some(id(1, 4))).await.unwrap();
            assert_eq!(Some(4), *flushed.borrow());
            append(&store, entries(2, 5..7, 10)).await;
            assert_eq!(Some(6), *flushed.borrow());
            assert_eq!(id(2, 5), read(&store, 5..6).await[0].log_id);
            store.truncate_after(None).await.unwrap();
            assert_eq!(None, *flushed.borrow());

            // A snapshot that reaches further than the log counts as flushed.
            store.purge(id(3, 99)).await.unwrap();
            assert_eq!(Some(99), *flushed.borrow());
            append(&store, entries(3, 100..101, 10)).await;
            store.close().await.unwrap();
            assert_eq!(100..101, disk.open().indexes());
        }
    });
}

#[test]
fn truncated_entries_do_not_come_back() {
    run(async {
        for disk in TestDisk::both() {
            let mut store = disk.open_cold();
            append(&store, entries(1, 0..100, 1000)).await;
            store.truncate_after(Some(id(1, 19))).await.unwrap();
            append(&store, entries(2, 20..25, 500)).await;
            store.close().await.unwrap();
            let store = disk.open_cold();
            assert_eq!(0..25, store.indexes());
            let expected = [entries(1, 0..20, 1000), entries(2, 20..25, 500)].concat();
            assert_eq!(expected, read(&store, 0..100).await);
        }
    });
}

#[test]
fn purge_gives_space_back() {
    run(async {
        for disk in TestDisk::both() {
            let mut store = disk.open();
            for i in 0..260 {
                append(&store, entries(1, i..i + 1, 1 << 20)).await;
            }
            let full = store.log_bytes();
            assert!((255 << 20..300 << 20).contains(&full), "log_bytes={full}");
            for upto in [100, 200, 250] {
                store.purge(id(1, upto)).await.unwrap();
            }
            assert_eq!(251..260, store.indexes());
            let left = store.log_bytes();
            assert!((8 << 20..10 << 20).contains(&left), "log_bytes={left}");
            // RocksDB writes its files behind our back: what was still in memory at one purge is dropped by a later one.
            let (mut purged, mut end) = (250, 260);
            let deadline = Instant::now() + Duration::from_secs(30);
            while let TestDisk::Rocks(dir) = &disk {
                let bytes = dir_bytes(dir.path());
                if bytes < 200 << 20 {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "260 MiB were written, 9 MiB are wanted, {bytes} are left"
                );
                append(&store, entries(1, end..end + 1, 1 << 20)).await;
                (purged, end) = (purged + 1, end + 1);
                store.purge(id(1, purged)).await.unwrap();
            }
            store.close().await.unwrap();
            let store = disk.open();
            assert_eq!(
                entries(1, purged + 1..end, 1 << 20),
                read(&store, 0..end + 100).await
            );
        }
    });
}

fn dir_bytes(dir: &std::path::Path) -> u64 {
    let items = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    items
        .map(|item| {
            match item.metadata() {
                Ok(meta) if meta.is_dir() => dir_bytes(&item.path()),
                Ok(meta) => meta.len(),
                // RocksDB has removed it meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(error) => panic!("{}: {error}", item.path().display()),
            }
        })
        .sum()
}

#[test]
fn meta_values_are_atomic_listed_and_removed() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            let key = |db: &str, field: &str| MetaKey::database(db, field).unwrap();
            let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
            let put = vec![
                (key("a", "x"), value("1")),
                (key("a", "y"), value("2")),
                (key("ab", "x"), value("3")),
            ];
            store.meta_put(put, true).await.unwrap();
            let blocking = store.clone();
            let change = vec![
                (key("a", "x"), None),
                (MetaKey::node("id").unwrap(), value("7")),
            ];
            tokio::task::spawn_blocking(move || blocking.meta_put_blocking(change, true))
                .await
                .unwrap()
                .unwrap();

            let list: Vec<_> = store.meta_of_database("a").unwrap();
            assert_eq!(vec![(key("a", "y"), Bytes::from_static(b"2"))], list);
            assert_eq!(2, store.meta_of_databases().unwrap().len());
            assert_eq!(None, store.meta_get(&key("a", "x")).unwrap());
            store.close().await.unwrap();
            let store = disk.open();
            assert_eq!(
                "7",
                store
                    .meta_get(&MetaKey::node("id").unwrap())
                    .unwrap()
                    .unwrap()
            );
        }
    });
}

#[test]
fn raised_format_stays_and_keeps_out_who_does_not_understand_it() {
    run(async {
        for disk in TestDisk::both() {
            let open = |formats| {
                let mut options = LogOptions::default();
                options.formats = formats;
                disk.open_with(options)
            };
            let store = open(1..=3).unwrap();
            assert_eq!(store.format(), 1);
            store.raise_format(2).await.unwrap();
            store.raise_format(1).await.unwrap();
            assert_eq!(store.format(), 2);
            store.close().await.unwrap();
            drop(store);
            for formats in [1..=1, 3..=4] {
                let refused = open(formats.clone()).err().unwrap();
                assert!(
                    matches!(refused, OpenError::UnknownFormat { format: 2, .. }),
                    "{formats:?}: {refused}"
                );
            }
            let store = open(2..=3).unwrap();
            assert_eq!(store.format(), 2);
            store.close().await.unwrap();
        }
    });
}

#[test]
fn log_whose_lock_cannot_be_opened_is_not_called_in_use() {
    let dir = tempfile::tempdir().unwrap();
    drop(LogStore::open(dir.path(), LogOptions::default()).unwrap());
    let lock = dir.path().join("rocksdb/LOCK");
    std::fs::remove_file(&lock).unwrap();
    // Root may open every file, but no directory as one.
    std::fs::create_dir(&lock).unwrap();
    let error = LogStore::open(dir.path(), LogOptions::default())
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}
