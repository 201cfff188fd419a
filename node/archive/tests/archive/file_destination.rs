//! The file destination's contract.

use std::fs;
use std::io::Read;

use halite_archive::{Content, Destination, DestinationError, Level, Upload};
use halite_ltx::Txid;
use jiff::Timestamp;

use crate::support::{Archive, five_transactions, key, pages, transaction};

#[tokio::test]
async fn layout_and_modification_time_are_those_of_litestream() {
    let archive = Archive::empty();
    let info = archive
        .put(Level::ZERO, five_transactions()[0].clone())
        .await;
    let path = archive
        .dir
        .path()
        .join("replica/ltx/0/0000000000000001-0000000000000001.ltx");
    let metadata = fs::metadata(path).unwrap();
    let modified = Timestamp::try_from(metadata.modified().unwrap()).unwrap();
    assert_eq!(
        (modified.as_millisecond(), metadata.len()),
        (1000, info.bytes)
    );
    assert_eq!(
        archive
            .destination
            .list(Level::ZERO, Txid::ZERO)
            .await
            .unwrap(),
        [info]
    );
}

#[tokio::test]
async fn same_file_can_be_stored_again() {
    let archive = Archive::empty();
    let first = archive
        .put(Level::ZERO, five_transactions()[0].clone())
        .await;
    let again = archive
        .put(Level::ZERO, five_transactions()[0].clone())
        .await;
    assert_eq!(first, again);
    assert_eq!(
        fs::read_dir(archive.dir.path().join("replica/ltx/0"))
            .unwrap()
            .count(),
        1
    );
}

#[tokio::test]
async fn other_content_under_the_same_name_is_a_conflict() {
    let archive = Archive::empty();
    let kept = five_transactions()[1].clone();
    archive.put(Level::ZERO, kept.clone()).await;
    let same_length = transaction(2, 2, &pages([(2, 22)]));
    let longer = transaction(2, 2, &pages([(1, 1), (2, 22)]));
    assert_eq!(same_length.len(), kept.len());
    for other in [same_length, longer] {
        let upload = Upload::from_bytes(Level::ZERO, other).unwrap();
        let error = archive.destination.put(upload).await.unwrap_err();
        assert!(
            matches!(error, DestinationError::Conflict { key: found, .. } if found == key(0, 2, 2)),
            "{error}"
        );
        assert!(!error.is_retryable());
        assert_eq!(fs::read(archive.path(key(0, 2, 2))).unwrap(), kept);
    }
    assert_eq!(
        fs::read_dir(archive.dir.path().join("replica/ltx/0"))
            .unwrap()
            .count(),
        1
    );
}

#[tokio::test]
async fn upload_that_another_process_writes_is_busy() {
    let archive = Archive::empty();
    fs::create_dir_all(archive.dir.path().join("replica/ltx/0")).unwrap();
    let tmp = archive.path(key(0, 1, 1)).with_extension("ltx.tmp");
    let held = fs::File::create(&tmp).unwrap();
    held.lock().unwrap();
    let upload = || Upload::from_bytes(Level::ZERO, five_transactions()[0].clone()).unwrap();
    let error = archive.destination.put(upload()).await.unwrap_err();
    assert!(
        matches!(error, DestinationError::Busy { .. }) && error.is_retryable(),
        "{error}"
    );
    drop(held);
    archive.destination.put(upload()).await.unwrap();
}

#[tokio::test]
async fn listing_seeks_sorts_and_skips_foreign_names() {
    let archive = Archive::empty();
    for ltx in five_transactions().into_iter().rev() {
        archive.put(Level::ZERO, ltx).await;
    }
    let dir = archive.dir.path().join("replica/ltx/0");
    for name in [
        "0000000000000006-0000000000000006.ltx.tmp",
        "notes.txt",
        "000000000000000A-000000000000000A.ltx",
    ] {
        fs::write(dir.join(name), b"x").unwrap();
    }
    fs::create_dir(dir.join("0000000000000007-0000000000000007.ltx")).unwrap();
    let list = async |seek| -> Vec<u64> {
        let files = archive
            .destination
            .list(Level::ZERO, Txid::new(seek))
            .await
            .unwrap();
        files.iter().map(|file| file.key.min.get()).collect()
    };
    assert_eq!(list(0).await, [1, 2, 3, 4, 5]);
    assert_eq!(list(4).await, [4, 5]);
    assert_eq!(list(6).await, [0; 0]);
    assert!(
        archive
            .destination
            .list(Level::SNAPSHOT, Txid::ZERO)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn ranges_are_read() {
    let archive = Archive::empty();
    let whole = five_transactions()[0].clone();
    archive.put(Level::ZERO, whole.clone()).await;
    let read = async |offset, len| {
        let mut bytes = Vec::new();
        let mut reader = archive
            .destination
            .open(key(0, 1, 1), offset, len)
            .await
            .unwrap();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(read(0, None).await, whole);
    assert_eq!(read(10, Some(20)).await, &whole[10..30]);
    assert_eq!(
        read(whole.len() as u64 - 3, Some(20)).await,
        &whole[whole.len() - 3..]
    );
    assert_eq!(read(whole.len() as u64 + 3, None).await, [0; 0]);
}

#[tokio::test]
async fn deleting_is_repeatable_and_opening_what_is_gone_says_so() {
    let archive = Archive::empty();
    archive
        .put(Level::ZERO, five_transactions()[0].clone())
        .await;
    for _ in 0..2 {
        archive
            .destination
            .delete(vec![key(0, 1, 1), key(3, 1, 9)])
            .await
            .unwrap();
    }
    let Err(error) = archive.destination.open(key(0, 1, 1), 0, None).await else {
        panic!("the file is deleted");
    };
    assert!(
        matches!(error, DestinationError::NotFound { key: found, .. } if found == key(0, 1, 1)),
        "{error}"
    );
}

#[tokio::test]
async fn panicking_producer_leaves_nothing() {
    let archive = Archive::empty();
    let upload = Upload {
        key: key(9, 1, 3),
        timestamp: Timestamp::UNIX_EPOCH,
        content: Content::Writer(Box::new(|_| panic!("expected by the test"))),
    };
    let error = archive.destination.put(upload).await.unwrap_err();
    assert!(matches!(error, DestinationError::Stopped(_)), "{error}");
    assert_eq!(
        fs::read_dir(archive.dir.path().join("replica/ltx/9"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn longer_leftover_of_a_killed_upload_is_written_over() {
    let archive = Archive::empty();
    let ltx = five_transactions()[0].clone();
    let dir = archive.dir.path().join("replica/ltx/0");
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join(format!("{}.tmp", key(0, 1, 1).file_name())),
        vec![0xee; 100_000],
    )
    .unwrap();
    archive.put(Level::ZERO, ltx.clone()).await;
    assert_eq!(fs::read(archive.path(key(0, 1, 1))).unwrap(), ltx);
    assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
}
