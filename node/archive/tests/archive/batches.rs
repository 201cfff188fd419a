//! Level-0 batches and snapshots.

use std::io;

use bytes::Bytes;
use halite_archive::{
    BatchError, Content, Destination, DestinationError, Level, LevelZeroBatch, PlanError,
    RestoreError, SnapshotSpec, Target, put_snapshot, snapshot_upload,
};
use halite_ltx::{Checksum, Encoder, Header, PageNo, PageSize, Txid};

use crate::support::{Archive, PAGE_SIZE, five_transactions, key, page, pages, transaction};

fn batch(after: u64, transactions: &[Bytes]) -> LevelZeroBatch {
    let mut batch = LevelZeroBatch::new(Txid::new(after), usize::MAX);
    for ltx in transactions {
        batch.push(ltx.clone()).unwrap();
    }
    batch
}

#[tokio::test]
async fn batches_become_files_that_restore() {
    let archive = Archive::empty();
    let all = five_transactions();
    for (after, range) in [(0, 0..3), (3, 3..5)] {
        let upload = batch(after, &all[range]).finish().unwrap().unwrap();
        archive.destination.put(upload).await.unwrap();
    }
    let files = archive
        .destination
        .list(Level::ZERO, Txid::ZERO)
        .await
        .unwrap();
    assert_eq!(
        files.iter().map(|file| file.key).collect::<Vec<_>>(),
        [key(0, 1, 3), key(0, 4, 5)]
    );
    assert_eq!(
        files
            .iter()
            .map(|file| file.timestamp.as_millisecond())
            .collect::<Vec<_>>(),
        [3000, 5000]
    );
    assert_eq!(
        archive.restored(Target::Latest).await,
        [page(12), page(21)].concat()
    );
    assert_eq!(
        archive.restored(Target::Txid(Txid::new(3))).await,
        [page(11), page(21), page(30)].concat()
    );

    let error = archive
        .restore(Target::Txid(Txid::new(4)))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "transaction is inside a file; only the ends of files can be restored txid=0000000000000004 \
         nearest_before=0000000000000003 nearest_after=0000000000000005"
    );
    assert!(!error.is_no_backup());
}

#[test]
fn same_transactions_give_the_same_bytes() {
    let bytes = || match batch(0, &five_transactions())
        .finish()
        .unwrap()
        .unwrap()
        .content
    {
        Content::Bytes(bytes) => bytes,
        Content::Writer(_) => panic!("batches are in memory"),
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn empty_batch_makes_no_file() {
    assert!(
        LevelZeroBatch::new(Txid::new(7), 1000)
            .finish()
            .unwrap()
            .is_none()
    );
}

#[test]
fn batch_rejects_what_does_not_follow() {
    let all = five_transactions();
    let mut batch = LevelZeroBatch::new(Txid::new(1), usize::MAX);
    for wrong in [&all[0], &all[2]] {
        let error = batch.push(wrong.clone()).unwrap_err();
        assert!(
            matches!(error, BatchError::NotNext { expected, .. } if expected == Txid::new(2)),
            "{error}"
        );
    }
    let range = Header::new(PAGE_SIZE, 1, Txid::new(2), Txid::new(3), 0);
    let range = Encoder::new(Vec::new(), range)
        .unwrap()
        .finish(None)
        .unwrap()
        .0;
    assert!(matches!(
        batch.push(range.into()),
        Err(BatchError::NotNext { .. })
    ));
    assert!(matches!(
        batch.push(all[1].slice(..99)),
        Err(BatchError::Header(_))
    ));
    batch.push(all[1].clone()).unwrap();

    let other = Header::new(PageSize::DEFAULT, 1, Txid::new(3), Txid::new(3), 0);
    let other = Encoder::new(Vec::new(), other)
        .unwrap()
        .finish(None)
        .unwrap()
        .0;
    assert!(matches!(
        batch.push(other.into()),
        Err(BatchError::PageSize { .. })
    ));
    batch.push(all[2].clone()).unwrap();
    assert_eq!((batch.len(), batch.max()), (2, Txid::new(3)));
}

#[test]
fn full_batch_leaves_the_rest_for_the_next_one() {
    let all = five_transactions();
    let limit = all[0].len() + all[1].len();
    let mut first = LevelZeroBatch::new(Txid::ZERO, limit);
    first.push(all[0].clone()).unwrap();
    first.push(all[1].clone()).unwrap();
    assert!(matches!(
        first.push(all[2].clone()),
        Err(BatchError::Full { .. })
    ));
    let mut next = LevelZeroBatch::new(first.max(), 1);
    next.push(all[2].clone())
        .expect("an empty batch takes a transaction of any size");
    assert_eq!(first.finish().unwrap().unwrap().key, key(0, 1, 2));
}

#[test]
fn database_checksums_are_left_out_of_the_file() {
    let mut header = Header::new(PAGE_SIZE, 2, Txid::new(2), Txid::new(2), 2000);
    header.no_checksum = false;
    header.pre_apply_checksum = Some(Checksum::new(7));
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    encoder.encode_page(PageNo::new(2), &page(5)).unwrap();
    let tracked: Bytes = encoder.finish(Some(Checksum::new(8))).unwrap().0.into();
    let upload = batch(1, &[tracked]).finish().unwrap().unwrap();
    let Content::Bytes(bytes) = upload.content else {
        panic!("batches are in memory")
    };
    let plain = transaction(2, 2, &pages([(2, 5)]));
    assert_eq!(bytes, plain);
}

#[test]
fn damaged_transaction_makes_no_file() {
    let all = five_transactions();
    let mut damaged = all[1].to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let error = batch(0, &[all[0].clone(), damaged.into()])
        .finish()
        .unwrap_err();
    assert!(error.to_string().contains("input=1"), "{error}");
}

#[test]
fn first_file_must_hold_the_whole_database() {
    // TXID 2 grows the database to four pages without page 3.
    let all = [
        transaction(1, 2, &pages([(1, 1), (2, 2)])),
        transaction(2, 4, &pages([(4, 4)])),
    ];
    let error = batch(0, &all).finish().unwrap_err();
    assert!(
        error.to_string().contains("snapshot leaves out a page"),
        "{error}"
    );
}

fn spec(txid: u64) -> SnapshotSpec {
    SnapshotSpec {
        page_size: PAGE_SIZE,
        commit: 3,
        txid: Txid::new(txid),
        timestamp_ms: 1000 * txid as i64,
    }
}

#[tokio::test]
async fn snapshot_stands_in_for_the_transactions_before() {
    let archive = Archive::empty();
    let all = five_transactions();
    archive
        .destination
        .put(batch(3, &all[3..]).finish().unwrap().unwrap())
        .await
        .unwrap();
    let error = archive.restore(Target::Latest).await.unwrap_err();
    let gap = PlanError::Gap {
        first: Txid::new(1),
        last: Txid::new(3),
        reached: Txid::ZERO,
        next: key(0, 4, 5),
    };
    assert!(
        matches!(&error, RestoreError::Plan(found) if *found == gap),
        "{error}"
    );

    let source = |pgno: PageNo, page: &mut [u8]| {
        page.fill([11, 21, 30][pgno.get() as usize - 1]);
        Ok(())
    };
    let info = put_snapshot(&archive.destination, spec(3), source)
        .await
        .unwrap();
    assert_eq!(info.key, key(9, 1, 3));
    assert_eq!(
        info.bytes,
        std::fs::metadata(archive.path(info.key)).unwrap().len()
    );
    assert_eq!(
        archive.restored(Target::Txid(Txid::new(3))).await,
        [page(11), page(21), page(30)].concat()
    );
    assert_eq!(
        archive.restored(Target::Latest).await,
        [page(12), page(21)].concat()
    );
}

#[tokio::test]
async fn snapshot_with_a_failing_source_is_not_stored() {
    let archive = Archive::empty();
    let source = |pgno: PageNo, _: &mut [u8]| match pgno.get() {
        3 => Err(io::Error::other("page is gone")),
        _ => Ok(()),
    };
    let error = put_snapshot(&archive.destination, spec(3), source)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, DestinationError::Content { source, .. } if source.to_string() == "page is gone"),
        "{error}"
    );
    assert!(
        archive
            .destination
            .list(Level::SNAPSHOT, Txid::ZERO)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        !archive
            .path(key(9, 1, 3))
            .with_extension("ltx.tmp")
            .exists()
    );
    assert!(snapshot_upload(spec(0), |_: PageNo, _: &mut [u8]| Ok(())).is_err());
}
