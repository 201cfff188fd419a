//! What is special about the file destination: its layout, its temporary files, foreign files beside its own. The contract that
//! it shares with the others is in `contract`.

use std::fs;

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
async fn repeated_and_refused_uploads_leave_one_file() {
    let archive = Archive::empty();
    let kept = five_transactions()[1].clone();
    archive.put(Level::ZERO, kept.clone()).await;
    archive.put(Level::ZERO, kept.clone()).await;
    let other = transaction(2, 2, &pages([(2, 22)]));
    let upload = Upload::from_bytes(Level::ZERO, other).unwrap();
    let error = archive.destination.put(upload).await.unwrap_err();
    assert!(
        matches!(error, DestinationError::Conflict { .. }),
        "{error}"
    );
    assert_eq!(fs::read(archive.path(key(0, 2, 2))).unwrap(), kept);
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
async fn listing_skips_foreign_names() {
    let archive = Archive::empty();
    let info = archive
        .put(Level::ZERO, five_transactions()[4].clone())
        .await;
    let dir = archive.dir.path().join("replica/ltx/0");
    for name in [
        "0000000000000006-0000000000000006.ltx.tmp",
        "notes.txt",
        "000000000000000A-000000000000000A.ltx",
    ] {
        fs::write(dir.join(name), b"x").unwrap();
    }
    fs::create_dir(dir.join("0000000000000007-0000000000000007.ltx")).unwrap();
    let listed = archive.destination.list(Level::ZERO, Txid::ZERO).await;
    assert_eq!(listed.unwrap(), [info]);
}

#[tokio::test]
async fn panicking_producer_leaves_no_temporary_file() {
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
