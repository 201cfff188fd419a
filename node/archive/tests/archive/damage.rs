//! Archives that something has happened to.

use std::fs;

use halite_archive::{
    Destination, FileKey, Level, PlanError, Problem, RestoreError, Target, ThreadPool, verify,
};
use halite_ltx::Txid;
use jiff::Timestamp;

use crate::support::{Archive, five_transactions, key};

async fn archive() -> Archive {
    let archive = Archive::empty();
    for ltx in five_transactions() {
        archive.put(Level::ZERO, ltx).await;
    }
    archive
}

async fn problems(archive: &Archive) -> Vec<String> {
    let report = verify(&archive.destination, &ThreadPool).await.unwrap();
    report.problems.iter().map(Problem::to_string).collect()
}

fn change(archive: &Archive, key: FileKey, change: impl FnOnce(&mut Vec<u8>)) {
    let path = archive.path(key);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
}

#[tokio::test]
async fn missing_file_is_named_as_a_gap() {
    let archive = archive().await;
    archive
        .destination
        .delete(vec![key(0, 3, 3), key(0, 2, 2)])
        .await
        .unwrap();
    let gap = "transactions are missing first_missing_txid=0000000000000002 last_missing_txid=0000000000000003 \
               restorable_up_to=0000000000000001 next_file=0/0000000000000004-0000000000000004.ltx";
    let timestamp = Target::Timestamp(Timestamp::from_millisecond(4_500).unwrap());
    for target in [
        Target::Latest,
        Target::Txid(Txid::new(5)),
        Target::Txid(Txid::new(3)),
        timestamp,
    ] {
        let error = archive.restore(target).await.unwrap_err();
        assert_eq!(error.to_string(), gap, "{target}");
    }
    assert_eq!(problems(&archive).await, [gap]);
    assert!(archive.leftovers().is_empty());
    archive
        .restore(Target::Txid(Txid::new(1)))
        .await
        .expect("before the gap all is well");
}

#[tokio::test]
async fn empty_archive_is_no_backup() {
    let archive = Archive::empty();
    let error = archive.restore(Target::Latest).await.unwrap_err();
    assert!(error.is_no_backup(), "{error}");
    assert_eq!(
        problems(&archive).await,
        ["no backup found: the archive is empty"]
    );
}

#[tokio::test]
async fn every_damaged_byte_is_found() {
    let archive = archive().await;
    let key = key(0, 2, 2);
    let len = fs::metadata(archive.path(key)).unwrap().len() as usize;
    for at in 0..len {
        change(&archive, key, |bytes| bytes[at] ^= 0x10);
        let error = archive.restore(Target::Latest).await.unwrap_err();
        let named = matches!(
            &error,
            RestoreError::File { key: found, .. } | RestoreError::FileName { key: found, .. }
            | RestoreError::PageSize { key: found, .. } if *found == key
        );
        assert!(named, "byte {at}: {error}");
        assert!(archive.leftovers().is_empty(), "byte {at}");
        assert_eq!(problems(&archive).await.len(), 1, "byte {at}");
        change(&archive, key, |bytes| bytes[at] ^= 0x10);
    }
    archive.restore(Target::Latest).await.unwrap();
}

#[tokio::test]
async fn truncation_is_found_at_every_length() {
    let archive = archive().await;
    let key = key(0, 5, 5);
    let whole = fs::read(archive.path(key)).unwrap();
    for len in 0..whole.len() {
        change(&archive, key, |bytes| bytes.truncate(len));
        let error = archive.restore(Target::Latest).await.unwrap_err();
        assert!(
            matches!(error, RestoreError::File { key: found, .. } if found == key),
            "{len}: {error}"
        );
        change(&archive, key, |bytes| *bytes = whole.clone());
    }
    change(&archive, key, |bytes| bytes.push(0));
    let error = archive.restore(Target::Latest).await.unwrap_err();
    assert!(
        error.to_string().contains("bytes after the trailer"),
        "{error}"
    );
    assert!(archive.leftovers().is_empty());
}

#[tokio::test]
async fn file_under_a_wrong_name_is_refused() {
    let archive = archive().await;
    fs::rename(archive.path(key(0, 5, 5)), archive.path(key(0, 5, 6))).unwrap();
    let error = archive.restore(Target::Latest).await.unwrap_err();
    assert!(
        matches!(error, RestoreError::FileName { key: found, .. } if found == key(0, 5, 6)),
        "{error}"
    );
    assert_eq!(problems(&archive).await.len(), 1);
}

#[tokio::test]
async fn lost_modification_time_is_reported() {
    let archive = archive().await;
    let file = fs::File::options()
        .write(true)
        .open(archive.path(key(0, 4, 4)))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    let report = verify(&archive.destination, &ThreadPool).await.unwrap();
    assert!(
        matches!(report.problems[..], [Problem::Timestamp { key: found, .. }] if found == key(0, 4, 4))
    );
}

#[tokio::test]
async fn targets_outside_of_the_archive_name_its_bounds() {
    let archive = archive().await;
    let error = archive
        .restore(Target::Txid(Txid::new(6)))
        .await
        .unwrap_err();
    let newest = Txid::new(5);
    assert!(
        matches!(error, RestoreError::Plan(PlanError::AfterNewest { newest: found, .. }) if found == newest)
    );
    for ms in [999, 1000, 5001] {
        let timestamp = Timestamp::from_millisecond(ms).unwrap();
        let error = archive
            .restore(Target::Timestamp(timestamp))
            .await
            .unwrap_err();
        let bounds = "must_be_after=1970-01-01T00:00:01Z and_not_after=1970-01-01T00:00:05Z";
        assert!(error.to_string().ends_with(bounds), "{error}");
    }
    let error = archive.restore(Target::Txid(Txid::ZERO)).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("nearest_before=none nearest_after=0000000000000001"),
        "{error}"
    );
}
