//! The contract of [`Destination`]: the same checks for every backend.
//!
//! What a file holds is read back through the destination, so that the checks know nothing of directories or objects.

use std::io::Read;

use bytes::Bytes;
use halite_archive::{
    Content, Destination, DestinationError, FileInfo, FileKey, Level, LevelZeroBatch,
    RestoreOptions, Target, Upload, list_all, restore,
};
use halite_ltx::Txid;
use jiff::Timestamp;

use crate::support::{Archive, five_transactions, key, mem_store, page, pages, transaction};

/// One test per check and backend.
macro_rules! contract {
    ($($check:ident),+ $(,)?) => {
        mod file {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&super::Archive::empty().destination).await;
            })+
        }
        mod memory {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&super::mem_store().destination("app")).await;
            })+
        }
    };
}

contract!(
    listed_file_has_length_and_header_timestamp,
    same_file_can_be_stored_again,
    other_content_under_the_same_name_is_a_conflict,
    of_two_writers_at_once_one_wins,
    listing_seeks_and_sorts_within_its_level,
    ranges_are_read,
    deleting_is_repeatable_and_opening_what_is_gone_says_so,
    open_file_can_be_read_after_it_is_deleted,
    produced_content_is_stored,
    failing_producer_leaves_nothing,
    panicking_producer_leaves_nothing,
    history_is_restored_from_all_levels,
);

async fn put(destination: &dyn Destination, ltx: Bytes) -> FileInfo {
    let upload = Upload::from_bytes(Level::ZERO, ltx).expect("readable header");
    destination.put(upload).await.expect("stored")
}

async fn read(destination: &dyn Destination, key: FileKey, at: u64, len: Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = destination.open(key, at, len).await.expect("there");
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

async fn files(destination: &dyn Destination) -> Vec<FileInfo> {
    list_all(destination).await.unwrap()
}

async fn listed_file_has_length_and_header_timestamp(destination: &dyn Destination) {
    let ltx = five_transactions()[2].clone();
    let expected = FileInfo {
        key: key(0, 3, 3),
        bytes: ltx.len() as u64,
        timestamp: Timestamp::from_millisecond(3000).unwrap(),
    };
    assert_eq!(put(destination, ltx).await, expected);
    assert_eq!(files(destination).await, [expected]);
}

async fn same_file_can_be_stored_again(destination: &dyn Destination) {
    let first = put(destination, five_transactions()[0].clone()).await;
    let again = put(destination, five_transactions()[0].clone()).await;
    assert_eq!(first, again);
    assert_eq!(files(destination).await, [first]);
}

async fn other_content_under_the_same_name_is_a_conflict(destination: &dyn Destination) {
    let kept = five_transactions()[1].clone();
    let info = put(destination, kept.clone()).await;
    let same_length = transaction(2, 2, &pages([(2, 22)]));
    let longer = transaction(2, 2, &pages([(1, 1), (2, 22)]));
    assert_eq!(same_length.len(), kept.len());
    for other in [same_length, longer] {
        let upload = Upload::from_bytes(Level::ZERO, other).unwrap();
        let error = destination.put(upload).await.unwrap_err();
        assert!(
            matches!(error, DestinationError::Conflict { key: found, .. } if found == key(0, 2, 2)),
            "{error}"
        );
        assert!(!error.is_retryable());
        assert_eq!(read(destination, key(0, 2, 2), 0, None).await, kept);
    }
    assert_eq!(files(destination).await, [info]);
}

async fn of_two_writers_at_once_one_wins(destination: &dyn Destination) {
    let contents = [
        five_transactions()[1].clone(),
        transaction(2, 2, &pages([(2, 22)])),
    ];
    let [first, second] = contents.clone().map(|ltx| {
        let upload = Upload::from_bytes(Level::ZERO, ltx).unwrap();
        destination.put(upload)
    });
    let (first, second) = tokio::join!(first, second);
    let (winner, lost) = match (first, second) {
        (Ok(_), Err(lost)) => (&contents[0], lost),
        (Err(lost), Ok(_)) => (&contents[1], lost),
        other => panic!("one of two wins: {other:?}"),
    };
    assert!(
        matches!(
            lost,
            DestinationError::Conflict { .. } | DestinationError::Busy { .. }
        ),
        "{lost}"
    );
    assert_eq!(read(destination, key(0, 2, 2), 0, None).await, *winner);
}

async fn listing_seeks_and_sorts_within_its_level(destination: &dyn Destination) {
    for ltx in five_transactions().into_iter().rev() {
        put(destination, ltx).await;
    }
    let mut above = Upload::from_bytes(Level::ZERO, five_transactions()[4].clone()).unwrap();
    above.key.level = Level::new(1).unwrap();
    destination.put(above).await.unwrap();
    let list = async |level, seek| -> Vec<u64> {
        let files = destination.list(level, Txid::new(seek)).await.unwrap();
        files.iter().map(|file| file.key.min.get()).collect()
    };
    assert_eq!(list(Level::ZERO, 0).await, [1, 2, 3, 4, 5]);
    assert_eq!(list(Level::ZERO, 4).await, [4, 5]);
    assert_eq!(list(Level::ZERO, 6).await, [0; 0]);
    assert_eq!(list(Level::new(1).unwrap(), 0).await, [5]);
    assert_eq!(list(Level::SNAPSHOT, 0).await, [0; 0]);
}

async fn ranges_are_read(destination: &dyn Destination) {
    let whole = five_transactions()[0].clone();
    put(destination, whole.clone()).await;
    let len = whole.len();
    for (at, count, expected) in [
        (0, None, 0..len),
        (10, Some(20), 10..30),
        (len - 3, Some(20), len - 3..len),
        (0, Some(0), 0..0),
        (len, None, len..len),
        (len + 3, None, len..len),
        (len + 3, Some(1), len..len),
    ] {
        let bytes = read(destination, key(0, 1, 1), at as u64, count).await;
        assert_eq!(bytes, whole[expected], "at={at} count={count:?}");
    }
}

async fn deleting_is_repeatable_and_opening_what_is_gone_says_so(destination: &dyn Destination) {
    put(destination, five_transactions()[0].clone()).await;
    let kept = put(destination, five_transactions()[1].clone()).await;
    for _ in 0..2 {
        let keys = vec![key(0, 1, 1), key(3, 1, 9)];
        destination.delete(keys).await.unwrap();
    }
    let Err(error) = destination.open(key(0, 1, 1), 0, None).await else {
        panic!("the file is deleted");
    };
    assert!(
        matches!(error, DestinationError::NotFound { key: found, .. } if found == key(0, 1, 1)),
        "{error}"
    );
    assert!(!error.is_retryable());
    assert_eq!(files(destination).await, [kept]);
}

async fn open_file_can_be_read_after_it_is_deleted(destination: &dyn Destination) {
    let whole = five_transactions()[0].clone();
    put(destination, whole.clone()).await;
    let mut reader = destination.open(key(0, 1, 1), 0, None).await.unwrap();
    destination.delete(vec![key(0, 1, 1)]).await.unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, whole);
}

/// An upload of `1-3` at level 9.
fn produced(
    write: impl FnOnce(&mut dyn std::io::Write) -> Result<(), halite_archive::ContentError>
    + Send
    + 'static,
) -> Upload {
    Upload {
        key: key(9, 1, 3),
        timestamp: Timestamp::UNIX_EPOCH,
        content: Content::Writer(Box::new(write)),
    }
}

async fn produced_content_is_stored(destination: &dyn Destination) {
    let upload = produced(|writer| {
        writer.write_all(b"first ")?;
        writer.write_all(b"second")?;
        Ok(())
    });
    let info = destination.put(upload).await.unwrap();
    assert_eq!((info.key, info.bytes), (key(9, 1, 3), 12));
    assert_eq!(
        read(destination, key(9, 1, 3), 0, None).await,
        b"first second"
    );
}

async fn failing_producer_leaves_nothing(destination: &dyn Destination) {
    let upload = produced(|writer| {
        writer.write_all(b"half of it")?;
        Err("page is gone".into())
    });
    let error = destination.put(upload).await.unwrap_err();
    assert!(
        matches!(&error, DestinationError::Content { source, .. } if source.to_string() == "page is gone"),
        "{error}"
    );
    assert_eq!(files(destination).await, []);
}

async fn panicking_producer_leaves_nothing(destination: &dyn Destination) {
    let upload = produced(|_| panic!("expected by the test"));
    let error = destination.put(upload).await.unwrap_err();
    assert!(matches!(error, DestinationError::Stopped(_)), "{error}");
    assert_eq!(files(destination).await, []);
}

async fn history_is_restored_from_all_levels(destination: &dyn Destination) {
    let all = five_transactions();
    let mut merged = LevelZeroBatch::new(Txid::ZERO, usize::MAX);
    for ltx in &all[..3] {
        merged.push(ltx.clone()).unwrap();
    }
    let mut upload = merged.finish().unwrap().unwrap();
    upload.key.level = Level::new(2).unwrap();
    destination.put(upload).await.unwrap();
    for ltx in &all[3..] {
        put(destination, ltx.clone()).await;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let output = dir.path().join("restored.db");
    let options = RestoreOptions::default();
    let report = restore(destination, Target::Latest, &output, options)
        .await
        .unwrap();
    assert_eq!(report.txid, Txid::new(5));
    assert_eq!(
        std::fs::read(output).unwrap(),
        [page(12), page(21)].concat()
    );
}
