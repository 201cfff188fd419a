//! What the tests share: an archive in a temporary directory, hand-made transactions, restores into memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use halite_archive::{
    Destination, FileDestination, FileInfo, FileKey, Level, MemStore, RestoreError, RestoreOptions,
    RestoreReport, Target, ThreadPool, Upload, restore,
};
use halite_ltx::{Encoder, Header, PageNo, PageSize, Txid};
use tempfile::TempDir;

pub(crate) const PAGE_SIZE: PageSize = PageSize::MIN;

pub(crate) struct Archive {
    pub(crate) dir: TempDir,
    pub(crate) destination: FileDestination,
}

impl Archive {
    pub(crate) fn empty() -> Self {
        let dir = TempDir::new().expect("temporary directory");
        let destination = FileDestination::new(dir.path().join("replica"), Arc::new(ThreadPool));
        Archive { dir, destination }
    }

    /// An archive with what stock Litestream wrote.
    pub(crate) async fn of_vector(name: &str) -> Self {
        let archive = Archive::empty();
        for level in Level::all() {
            let Ok(entries) = fs::read_dir(vector(name).join(level.to_string())) else {
                continue;
            };
            for entry in entries {
                archive
                    .put(level, fs::read(entry.unwrap().path()).unwrap().into())
                    .await;
            }
        }
        archive
    }

    pub(crate) async fn put(&self, level: Level, ltx: Bytes) -> FileInfo {
        let upload = Upload::from_bytes(level, ltx).expect("readable header");
        self.destination.put(upload).await.expect("stored")
    }

    pub(crate) fn path(&self, key: FileKey) -> PathBuf {
        self.dir.path().join("replica/ltx").join(key.to_string())
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.dir.path().join("restored.db")
    }

    pub(crate) async fn restore(&self, target: Target) -> Result<RestoreReport, RestoreError> {
        restore(
            &self.destination,
            target,
            &self.output(),
            RestoreOptions::default(),
        )
        .await
    }

    /// Restores, gives the bytes and removes the file.
    pub(crate) async fn restored(&self, target: Target) -> Vec<u8> {
        self.restore(target).await.expect("restorable");
        let bytes = fs::read(self.output()).unwrap();
        fs::remove_file(self.output()).unwrap();
        bytes
    }

    /// Names in the directory of the output that begin with its name.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("restored.db"))
            .collect();
        names.sort();
        names
    }
}

/// An empty store in memory; content is produced on other threads, so that a producer may panic.
pub(crate) fn mem_store() -> MemStore {
    MemStore::new("bucket", Arc::new(ThreadPool))
}

pub(crate) fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../proto/ltx/tests/vectors")
        .join(name)
}

pub(crate) fn key(level: u8, min: u64, max: u64) -> FileKey {
    FileKey::new(Level::new(level).unwrap(), Txid::new(min), Txid::new(max))
}

pub(crate) fn page(fill: u8) -> Vec<u8> {
    vec![fill; PAGE_SIZE.as_usize()]
}

/// An LTX file of one transaction, stamped `1000 * txid` milliseconds after 1970.
pub(crate) fn transaction(txid: u64, commit: u32, pages: &BTreeMap<u32, Vec<u8>>) -> Bytes {
    let txid = Txid::new(txid);
    let header = Header::new(PAGE_SIZE, commit, txid, txid, 1000 * txid.get() as i64);
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    for (&pgno, data) in pages {
        encoder.encode_page(PageNo::new(pgno), data).unwrap();
    }
    encoder.finish(None).unwrap().0.into()
}

/// The pages of a transaction from pairs of number and fill byte.
pub(crate) fn pages<const N: usize>(pages: [(u32, u8); N]) -> BTreeMap<u32, Vec<u8>> {
    pages
        .into_iter()
        .map(|(pgno, fill)| (pgno, page(fill)))
        .collect()
}

/// Five transactions on a database of two to three pages.
pub(crate) fn five_transactions() -> [Bytes; 5] {
    [
        transaction(1, 2, &pages([(1, 10), (2, 20)])),
        transaction(2, 2, &pages([(2, 21)])),
        transaction(3, 3, &pages([(1, 11), (3, 30)])),
        transaction(4, 3, &pages([(3, 31)])),
        transaction(5, 2, &pages([(1, 12)])),
    ]
}
