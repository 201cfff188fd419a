//! Archives that change while a restore runs.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use halite_archive::{
    Destination, DestinationError, FileDestination, FileInfo, FileKey, FileReader, Level,
    LevelZeroBatch, RestoreError, RestoreOptions, Target, Upload, restore,
};
use halite_ltx::Txid;
use tokio::sync::OnceCell;

use crate::support::{Archive, five_transactions, key, page};

/// Before the first file is opened, replaces level 0 by what `merged` holds.
#[derive(Debug)]
struct Compacting<'a> {
    inner: &'a FileDestination,
    merged: fn() -> Option<Upload>,
    done: OnceCell<()>,
}

impl Compacting<'_> {
    async fn compact(&self) -> Result<(), DestinationError> {
        if let Some(upload) = (self.merged)() {
            self.inner.put(upload).await?;
        }
        self.inner
            .delete((2..=5).map(|txid| key(0, txid, txid)).collect())
            .await
    }
}

impl Destination for Compacting<'_> {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn list(
        &self,
        level: Level,
        seek: Txid,
    ) -> BoxFuture<'_, Result<Vec<FileInfo>, DestinationError>> {
        self.inner.list(level, seek)
    }

    fn open(
        &self,
        key: FileKey,
        offset: u64,
        len: Option<u64>,
    ) -> BoxFuture<'_, Result<FileReader, DestinationError>> {
        Box::pin(async move {
            self.done.get_or_try_init(|| self.compact()).await?;
            self.inner.open(key, offset, len).await
        })
    }

    fn put(&self, upload: Upload) -> BoxFuture<'_, Result<FileInfo, DestinationError>> {
        self.inner.put(upload)
    }

    fn delete(&self, keys: Vec<FileKey>) -> BoxFuture<'_, Result<(), DestinationError>> {
        self.inner.delete(keys)
    }
}

/// Transactions 2 to 5 as one file of level 1.
fn merged() -> Option<Upload> {
    let mut batch = LevelZeroBatch::new(Txid::new(1), usize::MAX);
    for ltx in &five_transactions()[1..] {
        batch.push(ltx.clone()).unwrap();
    }
    let mut upload = batch.finish().unwrap()?;
    upload.key.level = Level::new(1)?;
    Some(upload)
}

async fn race(
    target: Target,
    merged: fn() -> Option<Upload>,
) -> (Archive, Result<Txid, RestoreError>) {
    let archive = Archive::empty();
    for ltx in five_transactions() {
        archive.put(Level::ZERO, ltx).await;
    }
    let racing = Compacting {
        inner: &archive.destination,
        merged,
        done: OnceCell::new(),
    };
    let result = restore(
        &racing,
        target,
        &archive.output(),
        RestoreOptions::default(),
    )
    .await;
    (archive, result.map(|report| report.txid))
}

#[tokio::test]
async fn merged_files_are_planned_anew() {
    for target in [Target::Latest, Target::Txid(Txid::new(5))] {
        let (archive, result) = race(target, merged).await;
        assert_eq!(result.unwrap(), Txid::new(5));
        assert_eq!(
            std::fs::read(archive.output()).unwrap(),
            [page(12), page(21)].concat()
        );
    }
}

#[tokio::test]
async fn transaction_that_was_merged_away_is_no_missing_backup() {
    let (archive, result) = race(Target::Txid(Txid::new(3)), merged).await;
    let error = result.unwrap_err();
    assert!(
        matches!(error, RestoreError::Replan { txid, .. } if txid == Txid::new(3)),
        "{error}"
    );
    assert!(!error.is_no_backup());
    assert!(archive.leftovers().is_empty());
}

#[tokio::test]
async fn lost_files_do_not_restore_an_older_transaction() {
    let (_archive, result) = race(Target::Txid(Txid::new(5)), || None).await;
    assert!(matches!(result, Err(RestoreError::Replan { .. })));
}

/// Gives readers that wait, once, until they are let go.
#[derive(Debug)]
struct Waiting {
    inner: FileDestination,
    reading: SyncSender<()>,
    go: Arc<Mutex<Receiver<()>>>,
}

struct WaitingReader {
    inner: FileReader,
    reading: Option<SyncSender<()>>,
    go: Arc<Mutex<Receiver<()>>>,
}

impl Read for WaitingReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(reading) = self.reading.take() {
            reading.send(()).map_err(io::Error::other)?;
            self.go.lock().unwrap().recv().map_err(io::Error::other)?;
        }
        self.inner.read(buf)
    }
}

impl Destination for Waiting {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn list(
        &self,
        level: Level,
        seek: Txid,
    ) -> BoxFuture<'_, Result<Vec<FileInfo>, DestinationError>> {
        self.inner.list(level, seek)
    }

    fn open(
        &self,
        key: FileKey,
        offset: u64,
        len: Option<u64>,
    ) -> BoxFuture<'_, Result<FileReader, DestinationError>> {
        Box::pin(async move {
            let inner = self.inner.open(key, offset, len).await?;
            let (reading, go) = (Some(self.reading.clone()), Arc::clone(&self.go));
            Ok(Box::new(WaitingReader { inner, reading, go }) as FileReader)
        })
    }

    fn put(&self, upload: Upload) -> BoxFuture<'_, Result<FileInfo, DestinationError>> {
        self.inner.put(upload)
    }

    fn delete(&self, keys: Vec<FileKey>) -> BoxFuture<'_, Result<(), DestinationError>> {
        self.inner.delete(keys)
    }
}

#[tokio::test]
async fn dropped_restore_removes_its_temporary_file() {
    let archive = Archive::empty();
    archive
        .put(Level::ZERO, five_transactions()[0].clone())
        .await;
    let (reading, is_reading) = sync_channel(1);
    let (let_go, go) = sync_channel(1);
    let go = Arc::new(Mutex::new(go));
    let waiting = Waiting {
        inner: archive.destination.clone(),
        reading,
        go,
    };
    let output = archive.output();
    let task = tokio::spawn(async move {
        restore(&waiting, Target::Latest, &output, RestoreOptions::default()).await
    });
    let deadline = Duration::from_secs(60);
    tokio::task::spawn_blocking(move || is_reading.recv_timeout(deadline))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(archive.leftovers(), ["restored.db.halite-tmp"]);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let_go.send(()).unwrap();
    let gone = async {
        while !archive.leftovers().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(deadline, gone)
        .await
        .expect("temporary file is removed");
}
