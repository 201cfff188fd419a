//! Damage is found and named; a torn last write is not damage.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use halite_log::{LogError, LogOptions, LogStore, MetaKey, OpenError};
use rocksdb::{DB, Options};

use crate::support::{TestDisk, append, copy_dir, entries, read, run};

/// Changes the stored record of `index` behind the store's back.
fn rewrite_record(dir: &Path, index: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let db = DB::open_cf(
        &Options::default(),
        dir.join("rocksdb"),
        ["log", "vote", "meta"],
    )
    .unwrap();
    let log = db.cf_handle("log").unwrap();
    let mut record = db.get_cf(log, index.to_be_bytes()).unwrap().unwrap();
    change(&mut record);
    db.put_cf(log, index.to_be_bytes(), record).unwrap();
}

#[test]
fn corrupt_record_is_named_and_never_served() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            append(&store, entries(1, 0..20, 100)).await;
            store.close().await.unwrap();
            match &disk {
                TestDisk::Rocks(dir) => rewrite_record(dir.path(), 7, |record| record[50] ^= 4),
                TestDisk::Memory(disk) => assert!(disk.corrupt(7)),
            }
            let store = disk.open_cold();
            assert_eq!(entries(1, 0..7, 100), read(&store, 0..7).await);
            assert_eq!(entries(1, 8..20, 100), read(&store, 8..20).await);
            let error = store.reader().read(0..20, usize::MAX).await.unwrap_err();
            assert!(
                matches!(&error, LogError::Corrupt { family: "log", key, .. } if key == "7"),
                "{error}"
            );
            let error = store.read_range(5..=9).next_piece().await.unwrap_err();
            assert!(error.to_string().contains("key=7"), "{error}");
        }
    });
}

#[test]
fn corrupt_last_record_fails_the_open() {
    run(async {
        for disk in TestDisk::both() {
            let store = disk.open();
            append(&store, entries(1, 0..20, 100)).await;
            store.close().await.unwrap();
            match &disk {
                TestDisk::Rocks(dir) => {
                    rewrite_record(dir.path(), 19, |record| record.truncate(40))
                }
                TestDisk::Memory(disk) => assert!(disk.corrupt(19)),
            }
            let error = disk.open_with(LogOptions::default()).err().unwrap();
            assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains("key=19"), "{error}");
        }
    });
}

#[test]
fn missing_entry_is_a_hole_and_not_an_end() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path(), LogOptions::default()).unwrap();
        append(&store, entries(1, 0..20, 100)).await;
        store.close().await.unwrap();
        {
            let db = DB::open_cf(
                &Options::default(),
                dir.path().join("rocksdb"),
                ["log", "vote", "meta"],
            )
            .unwrap();
            db.delete_cf(db.cf_handle("log").unwrap(), 11_u64.to_be_bytes())
                .unwrap();
        }
        let store = LogStore::open(dir.path(), LogOptions::default()).unwrap();
        let error = store.reader().read(5..20, usize::MAX).await.unwrap_err();
        assert!(matches!(error, LogError::Hole { index: 11 }), "{error}");
    });
}

/// A copy of a store that has flushed 0..40, with 4 KiB entries, as a crash would leave it; optionally with a last write that was
/// never synced.
async fn crashed_copy(unsynced: bool) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let store = LogStore::open(&home.path().join("live"), LogOptions::default()).unwrap();
    for i in 0..40 {
        append(&store, entries(1, i..i + 1, 4096)).await;
    }
    if unsynced {
        let value = Some(Bytes::from(vec![1; 4096]));
        store
            .meta_put(vec![(MetaKey::node("lazy").unwrap(), value)], false)
            .await
            .unwrap();
    }
    let crashed = home.path().join("crashed");
    copy_dir(&home.path().join("live"), &crashed);
    store.close().await.unwrap();
    (home, crashed)
}

/// As [`crashed_copy`], but with 1 MiB entries before, until write-ahead logs are recycled, so that the last 40 entries of 4 KiB lie in
/// front of the remains of an earlier use. Answers the index of the first of them as well.
async fn crashed_copy_recycled() -> (tempfile::TempDir, PathBuf, u64) {
    let home = tempfile::tempdir().unwrap();
    let live = home.path().join("live");
    let store = LogStore::open(&live, LogOptions::default()).unwrap();
    let mut index = 0;
    let (mut newest, mut recycled) = (newest_wal(&live).0, false);
    while !recycled {
        append(&store, entries(1, index..index + 1, 1 << 20)).await;
        index += 1;
        let (path, bytes) = newest_wal(&live);
        // A new file that is large from the first entry on was used before.
        recycled = path != newest && bytes > 16 << 20;
        newest = path;
        assert!(index < 1000, "write-ahead logs are not recycled");
    }
    append(&store, entries(1, index..index + 40, 4096)).await;
    for i in index + 40..index + 80 {
        append(&store, entries(1, i..i + 1, 4096)).await;
    }
    let crashed = home.path().join("crashed");
    copy_dir(&live, &crashed);
    store.close().await.unwrap();
    (home, crashed, index)
}

fn newest_wal(dir: &Path) -> (PathBuf, u64) {
    let items = std::fs::read_dir(dir.join("rocksdb"))
        .unwrap()
        .map(|item| item.unwrap().path());
    let logs = items.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let newest = logs.max().unwrap();
    let bytes = std::fs::metadata(&newest).map_or(0, |meta| meta.len());
    (newest, bytes)
}

/// The file that holds the record of the last write, and where in it the payload of `index` begins.
fn payload_in_wal(dir: &Path, index: u64) -> (PathBuf, u64) {
    let items = std::fs::read_dir(dir.join("rocksdb"))
        .unwrap()
        .map(|item| item.unwrap().path());
    let needle = [index.to_le_bytes().as_slice(), &[index as u8; 100]].concat();
    let found = items
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .find_map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let at = bytes
                .windows(needle.len())
                .position(|window| window == needle)?;
            Some((path, at as u64))
        });
    found.expect("the entry is in no write-ahead log")
}

/// The write-ahead log that holds the entries.
fn wal(dir: &Path) -> (PathBuf, u64) {
    let items = std::fs::read_dir(dir.join("rocksdb"))
        .unwrap()
        .map(|item| item.unwrap().path());
    let logs = items.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| (path.clone(), std::fs::metadata(&path).unwrap().len()))
        .max_by_key(|(_, bytes)| *bytes)
        .unwrap()
}

#[test]
fn crashed_copy_opens_with_everything() {
    run(async {
        let (_home, dir) = crashed_copy(true).await;
        let store = LogStore::open(&dir, LogOptions::default()).unwrap();
        assert_eq!(entries(1, 0..40, 4096), read(&store, 0..100).await);
        assert!(
            store
                .meta_get(&MetaKey::node("lazy").unwrap())
                .unwrap()
                .is_some()
        );
    });
}

#[test]
fn torn_last_write_that_was_not_flushed_is_dropped() {
    run(async {
        for cut in [1, 100, 2000, 4000] {
            let (_home, dir) = crashed_copy(true).await;
            let (path, bytes) = wal(&dir);
            OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(bytes - cut)
                .unwrap();
            let store = LogStore::open(&dir, LogOptions::default()).unwrap();
            assert_eq!(0..40, store.indexes());
            assert_eq!(
                None,
                store.meta_get(&MetaKey::node("lazy").unwrap()).unwrap()
            );
        }
    });
}

#[test]
fn cut_off_flushed_writes_fail_the_open() {
    run(async {
        for cut in [1, 5000, 100_000] {
            let (_home, dir) = crashed_copy(false).await;
            let (path, bytes) = wal(&dir);
            OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(bytes - cut)
                .unwrap();
            let error = LogStore::open(&dir, LogOptions::default())
                .err()
                .expect("acknowledged entries are missing");
            assert!(
                matches!(error, OpenError::LostWrites { found, flushed, .. } if found < flushed),
                "{error}"
            );
        }
    });
}

fn flip_byte(path: &Path, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
}

/// Opens twice: the first open makes RocksDB drop what lies behind the damage, the second must not take that for the truth.
fn assert_lost(dir: &Path) {
    for _ in 0..2 {
        let error = LogStore::open(dir, LogOptions::default())
            .err()
            .expect("acknowledged entries are missing");
        assert!(
            matches!(error, OpenError::LostWrites { found, flushed, .. } if found < flushed),
            "{error}"
        );
    }
}

#[test]
fn damage_in_the_middle_of_the_write_ahead_log_fails_the_open() {
    run(async {
        for at in [20_000, 60_000, 120_000] {
            let (_home, dir) = crashed_copy(false).await;
            let (path, bytes) = wal(&dir);
            assert!(at < bytes - 8192);
            flip_byte(&path, at);
            assert_lost(&dir);
        }
    });
}

#[test]
fn damage_in_the_middle_is_proven_by_later_writes_when_the_mark_was_lost() {
    run(async {
        for at in [20_000, 60_000, 120_000] {
            let (_home, dir) = crashed_copy(false).await;
            std::fs::remove_file(dir.join("flushed")).unwrap();
            flip_byte(&wal(&dir).0, at);
            assert_lost(&dir);
        }
    });
}

#[test]
fn recycled_write_ahead_log_opens_with_everything() {
    run(async {
        let (_home, dir, small) = crashed_copy_recycled().await;
        let store = LogStore::open(&dir, LogOptions::default()).unwrap();
        let expected = [
            entries(1, 0..small, 1 << 20),
            entries(1, small..small + 80, 4096),
        ]
        .concat();
        assert_eq!(expected, read(&store, 0..u64::MAX).await);
    });
}

#[test]
fn damage_in_a_recycled_write_ahead_log_fails_the_open() {
    run(async {
        for mark in [true, false] {
            let (_home, dir, small) = crashed_copy_recycled().await;
            if !mark {
                std::fs::remove_file(dir.join("flushed")).unwrap();
            }
            let (path, at) = payload_in_wal(&dir, small + 60);
            flip_byte(&path, at + 50);
            assert_lost(&dir);
        }
    });
}

#[test]
fn unknown_format_is_refused() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        LogStore::open(dir.path(), LogOptions::default())
            .unwrap()
            .close()
            .await
            .unwrap();
        {
            let db = DB::open_cf(
                &Options::default(),
                dir.path().join("rocksdb"),
                ["log", "vote", "meta"],
            )
            .unwrap();
            let (key, value) = ("raft/format", 2_u64.to_le_bytes());
            let sealed = [
                (key.len() as u64).to_le_bytes().as_slice(),
                key.as_bytes(),
                &value,
            ]
            .concat();
            let record = [crc32fast::hash(&sealed).to_le_bytes().as_slice(), &value].concat();
            db.put_cf(db.cf_handle("meta").unwrap(), key, record)
                .unwrap();
        }
        let error = LogStore::open(dir.path(), LogOptions::default())
            .err()
            .unwrap();
        assert!(
            matches!(error, OpenError::UnknownFormat { format: 2, .. }),
            "{error}"
        );
    });
}
