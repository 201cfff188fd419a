//! The store in memory: what each fate does, and what a caller that dies leaves.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures::poll;
use halite_archive::{
    Content, Destination, DestinationError, Destinations, FileKey, Inline, Level, LevelZeroBatch,
    MemDestination, MemStore, StoreAction, StoreCounts, StoreFate, Upload, UrlError, list_all,
};
use halite_ltx::Txid;
use jiff::Timestamp;

use crate::support::{five_transactions, key, mem_store, pages, transaction};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(1);

fn upload(index: usize) -> Upload {
    Upload::from_bytes(Level::ZERO, five_transactions()[index].clone()).unwrap()
}

/// What is stored, without asking for a fate again.
async fn stored(store: &MemStore, destination: &MemDestination) -> Vec<FileKey> {
    store.clear_faults();
    let files = list_all(destination).await.unwrap();
    files.iter().map(|file| file.key).collect()
}

fn kind(error: &DestinationError) -> io::ErrorKind {
    assert!(error.is_retryable(), "{error}");
    match error {
        DestinationError::Io { source, .. } => source.kind(),
        other => panic!("faults are those of the storage: {other}"),
    }
}

#[tokio::test]
async fn unavailable_store_does_nothing() {
    let store = mem_store();
    let destination = store.destination("app");
    destination.put(upload(0)).await.unwrap();
    store.set_faults(|_| StoreFate::Unavailable);
    let error = destination.put(upload(1)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot put object: injected fault: 503 Service Unavailable \
         path=\"mem://bucket/app/0/0000000000000002-0000000000000002.ltx\""
    );
    assert_eq!(kind(&error), io::ErrorKind::Other);
    let error = destination.delete(vec![key(0, 1, 1)]).await.unwrap_err();
    kind(&error);
    kind(&destination.list(Level::ZERO, Txid::ZERO).await.unwrap_err());
    let opened = destination.open(key(0, 1, 1), 0, None).await;
    kind(&opened.err().unwrap());
    assert_eq!(store.counts().unavailable, 4);
    assert_eq!(stored(&store, &destination).await, [key(0, 1, 1)]);
}

#[tokio::test]
async fn lost_answer_hides_an_effect_that_took_place() {
    let store = mem_store();
    let destination = store.destination("app");
    destination.put(upload(0)).await.unwrap();
    let lost = StoreFate::UnavailableAfterEffect {
        before: SHORT,
        after: SHORT,
    };
    store.set_faults(move |_| lost);
    kind(&destination.put(upload(1)).await.unwrap_err());
    kind(&destination.delete(vec![key(0, 1, 1)]).await.unwrap_err());
    kind(&destination.list(Level::ZERO, Txid::ZERO).await.unwrap_err());
    assert_eq!(store.counts().unavailable_after_effect, 3);
    assert_eq!(stored(&store, &destination).await, [key(0, 2, 2)]);
    destination
        .put(upload(1))
        .await
        .expect("the same bytes again are a success");

    // The answer that is lost may have been a conflict: the file stays as it is.
    store.set_faults(move |_| lost);
    let other = transaction(2, 2, &pages([(2, 99)]));
    let other = || Upload::from_bytes(Level::ZERO, other.clone()).unwrap();
    kind(&destination.put(other()).await.unwrap_err());
    store.clear_faults();
    destination.put(upload(1)).await.unwrap();
    let error = destination.put(other()).await.unwrap_err();
    assert!(
        matches!(error, DestinationError::Conflict { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn request_that_times_out_does_nothing() {
    let store = mem_store();
    let destination = store.destination("app");
    store.set_faults(|_| StoreFate::TimesOut { delay: SHORT });
    let error = destination.put(upload(0)).await.unwrap_err();
    assert_eq!(kind(&error), io::ErrorKind::TimedOut);
    assert_eq!(store.counts().timed_out, 1);
    store.set_faults(|_| StoreFate::TimesOut { delay: LONG });
    let mut put = destination.put(upload(0));
    assert!(poll!(&mut put).is_pending(), "it is slow before it fails");
    assert_eq!(stored(&store, &destination).await, []);
}

#[tokio::test]
async fn caller_that_dies_before_the_effect_leaves_nothing() {
    let store = mem_store();
    let destination = store.destination("app");
    for after in [Duration::ZERO, LONG] {
        store.set_faults(move |_| StoreFate::Done {
            before: LONG,
            after,
        });
        let mut put = destination.put(upload(0));
        assert!(poll!(&mut put).is_pending());
        drop(put);
        assert_eq!(stored(&store, &destination).await, []);
    }
    assert_eq!(store.counts().delayed, 2);
}

#[tokio::test]
async fn caller_that_dies_after_the_effect_leaves_the_whole_file() {
    let store = mem_store();
    let destination = store.destination("app");
    store.set_faults(|_| StoreFate::Done {
        before: Duration::ZERO,
        after: LONG,
    });
    let mut put = destination.put(upload(0));
    assert!(poll!(&mut put).is_pending());
    drop(put);
    assert_eq!(stored(&store, &destination).await, [key(0, 1, 1)]);
    destination
        .put(upload(0))
        .await
        .expect("the file is whole: the same bytes are a success");
}

#[tokio::test]
async fn delay_ends_and_the_answer_is_that_of_the_store() {
    let store = mem_store();
    let destination = store.destination("app");
    store.set_faults(|_| StoreFate::Done {
        before: SHORT,
        after: SHORT,
    });
    let info = destination.put(upload(0)).await.unwrap();
    let listed = destination.list(Level::ZERO, Txid::ZERO).await.unwrap();
    assert_eq!(listed, [info]);
    assert_eq!(store.counts().delayed, 2);
}

/// The fate is asked per file: a deletion may stop half-way.
#[tokio::test]
async fn failing_deletion_keeps_the_files_that_follow() {
    let store = mem_store();
    let destination = store.destination("app");
    for index in 0..3 {
        destination.put(upload(index)).await.unwrap();
    }
    store.set_faults(|request| match request.key {
        Some(key) if key.min == Txid::new(2) => StoreFate::Unavailable,
        _ => StoreFate::DONE,
    });
    let keys = (1..=3).map(|txid| key(0, txid, txid)).collect();
    kind(&destination.delete(keys).await.unwrap_err());
    assert_eq!(
        stored(&store, &destination).await,
        [key(0, 2, 2), key(0, 3, 3)]
    );
}

#[tokio::test]
async fn fault_sees_what_is_asked() {
    let store = mem_store();
    let destination = store.destination("/a/b/");
    assert_eq!(destination.url(), "mem://bucket/a/b");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    store.set_faults(move |request| {
        assert_eq!(request.path, "a/b");
        let (action, key) = (request.action, request.key);
        log.lock()
            .unwrap()
            .push((action, request.level, key, request.bytes));
        StoreFate::DONE
    });
    let len = five_transactions()[0].len() as u64;
    let file = key(0, 1, 1);
    destination.put(upload(0)).await.unwrap();
    destination.list(Level::SNAPSHOT, Txid::ZERO).await.unwrap();
    drop(destination.open(file, 0, None).await.unwrap());
    destination.delete(vec![file]).await.unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        [
            (StoreAction::Put, Level::ZERO, Some(file), len),
            (StoreAction::List, Level::SNAPSHOT, None, 0),
            (StoreAction::Open, Level::ZERO, Some(file), 0),
            (StoreAction::Delete, Level::ZERO, Some(file), 0),
        ]
    );
    let counts = store.counts();
    assert_eq!(counts.requests(), 4);
    let by_action = (counts.lists, counts.opens, counts.puts, counts.deletes);
    assert_eq!(by_action, (1, 1, 1, 1));
    let injected = counts.delayed + counts.unavailable + counts.timed_out;
    assert_eq!(injected + counts.unavailable_after_effect, 0);
    assert_eq!(mem_store().counts(), StoreCounts::default());
}

#[tokio::test]
async fn archives_in_one_store_are_apart_and_clones_are_the_same() {
    let store = mem_store();
    let (app, apple) = (store.destination("app"), store.destination("apple"));
    app.put(upload(0)).await.unwrap();
    let other = transaction(1, 1, &pages([(1, 9)]));
    let other = Upload::from_bytes(Level::ZERO, other).unwrap();
    apple.put(other).await.expect("no conflict with the other");
    apple.put(upload(1)).await.unwrap();
    apple.delete(vec![key(0, 1, 1)]).await.unwrap();
    assert_eq!(stored(&store, &app).await, [key(0, 1, 1)]);
    let clone = store.clone();
    drop((store, app));
    assert_eq!(
        stored(&clone, &clone.destination("app")).await,
        [key(0, 1, 1)]
    );
    assert_eq!(stored(&clone, &apple).await, [key(0, 2, 2)]);
}

#[tokio::test]
async fn inline_content_is_produced_on_the_callers_thread() {
    let store = MemStore::new("bucket", Arc::new(Inline));
    let caller = std::thread::current().id();
    let content = Content::Writer(Box::new(move |writer| {
        assert_eq!(std::thread::current().id(), caller);
        writer.write_all(b"content")?;
        Ok(())
    }));
    let upload = Upload {
        key: key(9, 1, 3),
        timestamp: Timestamp::UNIX_EPOCH,
        content,
    };
    let info = store.destination("app").put(upload).await.unwrap();
    assert_eq!(info.bytes, 7);
}

#[tokio::test]
async fn store_opens_its_own_addresses_only() {
    let store = mem_store();
    let opened = Destinations::open(&store, "mem://bucket/a/b").unwrap();
    assert_eq!(opened.url(), "mem://bucket/a/b");
    let mut batch = LevelZeroBatch::new(Txid::ZERO, usize::MAX);
    batch.push(five_transactions()[0].clone()).unwrap();
    let upload = batch.finish().unwrap().unwrap();
    opened.put(upload).await.unwrap();
    let same = store.destination("a/b");
    assert_eq!(stored(&store, &same).await, [key(0, 1, 1)]);
    for url in [
        "mem://bucket2/a",
        "mem://bucket",
        "file:///a",
        "/a",
        "s3://bucket/a",
        "",
    ] {
        assert!(Destinations::open(&store, url).is_err(), "{url}");
    }
    let error = Destinations::open(&store, "file:///a").unwrap_err();
    assert!(
        matches!(error, UrlError::UnsupportedScheme { .. }),
        "{error}"
    );
}
