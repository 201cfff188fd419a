//! Archives that are merged and thinned out while they grow, as a node does it.

use std::time::Duration;

use halite_archive::{
    Destination, FileInfo, Level, MergeError, Schedule, Target, ThreadPool, Work, expired,
    list_all, merged_upload, next_work, restore_points, verify,
};
use halite_ltx::Txid;
use jiff::Timestamp;

use super::history::History;
use super::program::Litestream;
use super::{compare, put_batch, put_state, targets};
use crate::support::{Archive, key};

fn schedule() -> Schedule {
    let secs = Duration::from_secs;
    Schedule {
        levels: vec![secs(2), secs(5)],
        snapshot_interval: secs(6),
        snapshot_retention: secs(8),
        level_zero_retention: secs(1),
    }
}

/// Merges what is due and deletes what is expired.
async fn tend(archive: &Archive, history: &History, now: Timestamp) {
    let destination = &archive.destination;
    let listing = async || list_all(destination).await.unwrap();
    let listed = async || destination.dated(listing().await).await.unwrap();
    while let Some(work) = next_work(&listed().await, &schedule(), now) {
        match work {
            Work::Merge(merge) => {
                let upload = merged_upload(destination, &merge, &ThreadPool)
                    .await
                    .unwrap();
                assert_eq!(upload.key, merge.key());
                destination.put(upload).await.unwrap();
            }
            Work::Snapshot => {
                let newest = listing().await.iter().map(|file| file.key.max).max();
                put_state(archive, history, newest.unwrap()).await;
            }
        }
    }
    let expired = expired(&listed().await, &schedule(), now);
    destination.delete(expired).await.unwrap();
}

fn of_level(files: &[FileInfo], level: u8) -> usize {
    let level = Level::new(level).unwrap();
    files.iter().filter(|file| file.key.level == level).count()
}

async fn merge_and_restore(page_bytes: u32) {
    let litestream = Litestream::find().await;
    let history = History::play(page_bytes);
    let archive = Archive::empty();
    let mut synced = 0;
    let begin = History::timestamp(0).as_second();
    for second in begin..begin + 40 {
        let now = Timestamp::from_second(second).unwrap();
        while synced < History::TRANSACTIONS && History::timestamp(synced + 1) < now {
            put_batch(&archive, 0, &history, synced, synced + 1).await;
            synced += 1;
        }
        tend(&archive, &history, now).await;
        // Each look takes a minute of processor time.
        if ![9, 14, 39].contains(&(second - begin)) {
            continue;
        }
        let files = list_all(&archive.destination).await.unwrap();
        let report = verify(&archive.destination, &ThreadPool).await.unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let points = restore_points(&files);
        let newest = points.last().unwrap().txid;
        assert_eq!(newest.get(), synced);
        for (target, _) in targets() {
            let found = compare(&litestream, &archive, &history, target).await;
            let found = found.unwrap_or_else(|fault| panic!("{fault} target={target} {files:#?}"));
            match target {
                Target::Latest => assert_eq!(found, Some(newest)),
                Target::Txid(txid) => {
                    let is_point = points.iter().any(|point| point.txid == txid);
                    assert_eq!(found, is_point.then_some(txid), "{files:#?}");
                }
                Target::Timestamp(_) => {}
            }
        }
    }
    let files = list_all(&archive.destination).await.unwrap();
    assert!(
        of_level(&files, 9) > 0 && of_level(&files, 2) > 0,
        "{files:#?}"
    );
    assert_eq!(of_level(&files, 0), 1, "all else is merged: {files:#?}");
    assert!(files.len() < 8, "what is old is gone: {files:#?}");
}

#[tokio::test]
async fn merged_pages_of_512_bytes_are_restored_alike() {
    merge_and_restore(512).await;
}

#[tokio::test]
async fn merged_pages_of_4096_bytes_are_restored_alike() {
    merge_and_restore(4096).await;
}

#[tokio::test]
async fn a_damaged_source_is_named_and_nothing_is_stored() {
    let history = History::play(4096);
    let archive = Archive::empty();
    for txid in 1..=4 {
        put_batch(&archive, 0, &history, txid - 1, txid).await;
    }
    let path = archive.path(key(0, 3, 3));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let files = list_all(&archive.destination).await.unwrap();
    let now = Timestamp::from_second(2_000_000_000).unwrap();
    let schedule = Schedule::default();
    let Some(Work::Merge(merge)) = next_work(&files, &schedule, now) else {
        panic!("nothing is due");
    };
    let error = match merged_upload(&archive.destination, &merge, &ThreadPool).await {
        Ok(upload) => MergeError::from(archive.destination.put(upload).await.unwrap_err()),
        Err(error) => error,
    };
    assert_eq!(error.damaged(), Some(key(0, 3, 3)), "{error}");
    let after = list_all(&archive.destination).await.unwrap();
    assert_eq!(after, files);
    assert_eq!(merge.key().max, Txid::new(4));
}
