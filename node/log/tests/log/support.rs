//! Disks to run a test on, and short ways to write and wait.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use halite_log::{
    Entry, EntryPayload, LogId, LogOptions, LogStore, MemDisk, OpenError, Payload, Rt, TypeConfig,
};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use tempfile::TempDir;

/// Nothing in these tests takes this long unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A disk that outlives the stores on it.
pub(crate) enum TestDisk {
    Rocks(TempDir),
    Memory(MemDisk),
}

impl TestDisk {
    pub(crate) fn both() -> [Self; 2] {
        [
            Self::Rocks(tempfile::tempdir().unwrap()),
            Self::Memory(MemDisk::new()),
        ]
    }

    pub(crate) fn open(&self) -> LogStore {
        self.open_with(LogOptions::default()).unwrap()
    }

    /// Opens with almost no cache, so that reads go to the disk.
    pub(crate) fn open_cold(&self) -> LogStore {
        let mut options = LogOptions::default();
        options.cache_bytes = 1;
        self.open_with(options).unwrap()
    }

    pub(crate) fn open_with(&self, options: LogOptions) -> Result<LogStore, OpenError> {
        match self {
            Self::Rocks(dir) => LogStore::open(dir.path(), options),
            Self::Memory(disk) => LogStore::open_memory(disk, options),
        }
    }
}

/// Runs a test on a runtime with openraft's seed set and a deadline.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, Rt::scope(7, test))
            .await
            .expect("test ran into its deadline");
    });
}

pub(crate) fn id(term: u64, index: u64) -> LogId {
    let leader = <TypeConfig as openraft::RaftTypeConfig>::LeaderId::new(term, 0);
    LogId::new(leader.to_committed(), index)
}

/// An entry whose payload names its index and is `bytes` long.
pub(crate) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let mut payload = index.to_le_bytes().to_vec();
    payload.resize(bytes.max(8), index as u8);
    Entry {
        log_id: id(term, index),
        payload: EntryPayload::Normal(Payload(Bytes::from(payload))),
    }
}

pub(crate) fn entries(term: u64, range: Range<u64>, bytes: usize) -> Vec<Entry> {
    range.map(|index| entry(term, index, bytes)).collect()
}

/// What the completion of an append is awaited through.
pub(crate) type Flushed =
    <<Rt as openraft::AsyncRuntime>::Oneshot as openraft::async_runtime::Oneshot>::Receiver<
        Result<(), std::io::Error>,
    >;

/// Appends and gives back what completes at the flush.
pub(crate) async fn begin_append(
    store: &LogStore,
    entries: Vec<Entry>,
) -> Result<Flushed, std::io::Error> {
    let (done, flushed) = TypeConfig::oneshot();
    store
        .clone()
        .append(entries, IOFlushed::signal(done))
        .await?;
    Ok(flushed)
}

/// Appends and waits for the flush.
pub(crate) async fn append(store: &LogStore, entries: Vec<Entry>) {
    begin_append(store, entries)
        .await
        .unwrap()
        .await
        .unwrap()
        .unwrap();
}

pub(crate) async fn read(store: &LogStore, range: Range<u64>) -> Vec<Entry> {
    store.reader().read(range, usize::MAX).await.unwrap()
}

/// Copies a directory as it is: what a machine that stops now would find, had everything been written back.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}
