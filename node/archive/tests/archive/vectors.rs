//! Archives that stock Litestream wrote.

use std::fs;

use halite_archive::{
    Destination, Level, Target, ThreadPool, list_all, plan, restore_points, verify,
};
use halite_ltx::Txid;
use rusqlite::Connection;

use crate::support::{Archive, vector};

const VECTORS: [&str; 4] = ["block-4096", "block-512", "block-65536", "frame-4096"];

#[tokio::test]
async fn newest_state_is_what_litestream_restores() {
    for name in VECTORS {
        let archive = Archive::of_vector(name).await;
        let expected = fs::read(vector(name).join("expected.db")).unwrap();
        let report = archive.restore(Target::Latest).await.unwrap();
        assert!(fs::read(archive.output()).unwrap() == expected, "{name}");
        assert_eq!(report.bytes(), expected.len() as u64, "{name}");
        assert_eq!(report.txid, Txid::new(13), "{name}");
        assert_eq!(archive.leftovers(), ["restored.db"], "{name}");
    }
}

#[tokio::test]
async fn level_zero_alone_restores_the_same_bytes() {
    for name in VECTORS {
        let archive = Archive::of_vector(name).await;
        for level in Level::all().skip(1) {
            let files = archive.destination.list(level, Txid::ZERO).await.unwrap();
            archive
                .destination
                .delete(files.iter().map(|file| file.key).collect())
                .await
                .unwrap();
        }
        let expected = fs::read(vector(name).join("expected.db")).unwrap();
        assert!(archive.restored(Target::Latest).await == expected, "{name}");
    }
}

#[tokio::test]
async fn every_transaction_restores_to_a_sound_database() {
    for name in VECTORS {
        let archive = Archive::of_vector(name).await;
        let points = restore_points(&list_all(&archive.destination).await.unwrap());
        let txids: Vec<u64> = points.iter().map(|point| point.txid.get()).collect();
        assert_eq!(txids, (1..=13).collect::<Vec<_>>(), "{name}");
        let mut counts = Vec::new();
        for point in points {
            archive.restore(Target::Txid(point.txid)).await.unwrap();
            counts.push(check_and_count(&archive));
            fs::remove_file(archive.output()).unwrap();
        }
        assert_eq!(counts.last(), Some(&Some(70)), "{name}");
        assert!(
            counts.windows(2).any(|pair| pair[0] < pair[1]),
            "{name} {counts:?}"
        );
    }
}

#[tokio::test]
async fn timestamp_restores_the_state_before_it() {
    for name in VECTORS {
        let archive = Archive::of_vector(name).await;
        let level_zero = archive
            .destination
            .list(Level::ZERO, Txid::ZERO)
            .await
            .unwrap();
        for pair in level_zero.windows(2) {
            // Exactly the timestamp of a file: that file is not part of it.
            let by_time = archive
                .restore(Target::Timestamp(pair[1].timestamp))
                .await
                .unwrap();
            assert_eq!(by_time.txid, pair[0].key.max, "{name}");
            let bytes = fs::read(archive.output()).unwrap();
            fs::remove_file(archive.output()).unwrap();
            assert!(
                archive.restored(Target::Txid(pair[0].key.max)).await == bytes,
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn plans_take_the_newest_snapshot_and_the_longest_files() {
    let archive = Archive::of_vector("block-4096").await;
    let files = list_all(&archive.destination).await.unwrap();
    let names = |target| -> Vec<String> {
        plan(&files, target)
            .unwrap()
            .files()
            .iter()
            .map(|file| file.key.to_string())
            .collect()
    };
    assert_eq!(
        names(Target::Latest),
        [
            "9/0000000000000001-000000000000000c.ltx",
            "2/0000000000000008-000000000000000d.ltx"
        ]
    );
    assert_eq!(
        names(Target::Txid(Txid::new(11))),
        [
            "9/0000000000000001-0000000000000007.ltx",
            "1/0000000000000008-000000000000000a.ltx",
            "0/000000000000000b-000000000000000b.ltx"
        ]
    );
    assert_eq!(
        names(Target::Txid(Txid::new(1))),
        ["2/0000000000000001-0000000000000001.ltx"]
    );
}

#[tokio::test]
async fn stock_archives_verify() {
    for name in VECTORS {
        let archive = Archive::of_vector(name).await;
        let report = verify(&archive.destination, &ThreadPool).await.unwrap();
        assert!(report.problems.is_empty(), "{name} {:?}", report.problems);
        let files = list_all(&archive.destination).await.unwrap();
        assert_eq!(report.files, files.len());
        assert_eq!(
            report.bytes,
            files.iter().map(|file| file.bytes).sum::<u64>()
        );
        assert_eq!(report.points.len(), 13);
    }
}

/// Runs SQLite's own check and counts the rows; `None` before the table exists.
fn check_and_count(archive: &Archive) -> Option<i64> {
    let copy = archive.dir.path().join("checked.db");
    fs::copy(archive.output(), &copy).unwrap();
    let connection = Connection::open(&copy).unwrap();
    let result: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(result, "ok");
    connection
        .query_row("SELECT count(*) FROM item", [], |row| row.get(0))
        .ok()
}
