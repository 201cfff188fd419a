//! The log store: one type for production and simulation, over whichever disk it was opened on.

mod raft;
mod range_reader;
pub(crate) mod shared;

use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::backend::rocks::RocksBackend;
use crate::backend::{Backend, Durability};
use crate::error::{LogError, OpenError};
use crate::mem_disk::MemDisk;
use crate::meta_key::MetaKey;
use crate::raft_types::{Entry, LogId, TypeConfig, Vote};
use crate::writer::{Done, Op, Writer, meta_change};
use shared::Shared;

pub use range_reader::RangeReader;

/// Operations waiting for the writer. As many as Raft queues: whoever hands it entries bounds them by their bytes.
const QUEUE_OPS_MAX: usize = 65_536;
/// What logs began with.
const FORMAT_FIRST: u64 = 1;
/// Bytes of entries waiting for the writer. Those who hand entries to Raft stay far below; it is the last resort against a full memory,
/// and costs heartbeats when it is reached, since Raft's core waits.
const QUEUE_BYTES_MAX: u32 = 256 << 20;

/// A value of the node to store, or `None` to remove it.
pub type MetaChange = (MetaKey, Option<Bytes>);

/// How to open a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogOptions {
    /// Bytes of recent entries kept in memory, so that replication and apply do not read the disk. Entries that are not yet
    /// on disk are kept beyond it.
    pub cache_bytes: usize,
    /// Format numbers that the caller understands: a log that holds another one is not opened, a new one gets the first.
    pub formats: RangeInclusive<u64>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            formats: FORMAT_FIRST..=FORMAT_FIRST,
        }
    }
}

/// Counters and gauges of one store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Batches written.
    pub groups: u64,
    /// Batches that were synced: one fsync each.
    pub syncs: u64,
    /// Appends completed; `appends / syncs` of them shared an fsync.
    pub appends: u64,
    /// Entries those appends held.
    pub entries: u64,
    /// Operations waiting for the writer.
    pub queue_ops: u64,
    /// Bytes of entries waiting for the writer.
    pub queue_bytes: u64,
    /// Bytes of entries held in memory.
    pub cached_bytes: u64,
    /// Bytes of all entries, roughly.
    pub log_bytes: u64,
    /// Index of the first entry; equals `end_index` if there is none.
    pub first_index: u64,
    /// Index after the last entry.
    pub end_index: u64,
}

/// The Raft log, the vote and the node's durable values. Clones are handles to the same store.
///
/// Dropping the last handle syncs what was written lazily and, in production, waits for the writer thread; [`LogStore::close`] does
/// the same without blocking an async worker, and lets go of the directory even while readers are still around.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

/// Reads entries and the vote, from memory where it can. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

struct Inner {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Op>,
    room: Arc<Semaphore>,
    formats: RangeInclusive<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    /// A place in the queue: what is put there afterwards need not wait.
    async fn slot(&self) -> Result<mpsc::Permit<'_, Op>, LogError> {
        self.queue.reserve().await.map_err(|_| LogError::Closed)
    }
}

impl LogStore {
    /// Opens, or creates, the log in `dir`. Blocks: it replays up to 128 MiB of write-ahead log.
    ///
    /// # Errors
    /// See [`OpenError`]. A last write that a crash tore is dropped without an error, since it was never acknowledged; anything else
    /// that is missing or damaged is an error, and stays one when the open is repeated.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, OpenError> {
        let backend: Arc<dyn Backend> = Arc::new(RocksBackend::open(dir)?);
        let (store, writer) = Self::assemble(backend, dir, &options, false)?;
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run_on_thread())
            .map_err(|source| OpenError::Io {
                dir: dir.to_owned(),
                source,
            })?;
        *store.inner.thread.lock() = Some(thread);
        Ok(store)
    }

    /// Opens the log on a simulated disk. The writer is a task of the current tokio runtime, no thread is started, and nothing
    /// blocks: under a paused or simulated clock, every run repeats.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if another store has the disk and it did not crash; [`OpenError::Corrupt`] for damage at the ends of the log.
    pub fn open_memory(disk: &MemDisk, options: LogOptions) -> Result<Self, OpenError> {
        let dir = Path::new("(memory)");
        let backend: Arc<dyn Backend> = Arc::new(disk.attach()?);
        let (store, writer) = Self::assemble(backend, dir, &options, true)?;
        tokio::spawn(writer.run_as_task());
        Ok(store)
    }

    fn assemble(
        backend: Arc<dyn Backend>,
        dir: &Path,
        options: &LogOptions,
        in_place: bool,
    ) -> Result<(Self, Writer), OpenError> {
        let format = shared::check_format(&*backend, dir, &options.formats)?;
        let shared = Shared::load(backend, options.cache_bytes, in_place, format)
            .map_err(|error| shared::open_error(dir.to_owned(), error))?;
        let shared = Arc::new(shared);
        let (queue, ops) = mpsc::channel(QUEUE_OPS_MAX);
        let writer = Writer::new(shared.clone(), ops);
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize));
        let inner = Inner {
            shared,
            queue,
            room,
            formats: options.formats.clone(),
            thread: Mutex::new(None),
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            writer,
        ))
    }

    /// A reader of entries and the vote.
    pub fn reader(&self) -> LogReader {
        LogReader {
            shared: self.inner.shared.clone(),
        }
    }

    /// The highest index that is on this disk (synced, or purged), `None` for an empty log. Gates and appliers wait for it, since a
    /// quorum may have an entry before this node does. It goes back when entries are truncated, and on [`LogStore::recover`].
    pub fn flushed(&self) -> watch::Receiver<Option<u64>> {
        self.inner.shared.flushed()
    }

    /// Log id of the last entry, or of the last purged one if there is none; it may still be on its way to the disk.
    pub fn last_log_id(&self) -> Option<LogId> {
        self.inner.shared.tail.lock().last()
    }

    /// Log id up to which the log was purged.
    pub fn purged_log_id(&self) -> Option<LogId> {
        self.inner.shared.tail.lock().purged()
    }

    /// The last committed log id that was saved; after a power loss it may be older than the truth.
    pub fn committed_log_id(&self) -> Option<LogId> {
        self.inner.shared.tail.lock().committed
    }

    /// The last vote that is on disk.
    pub fn vote(&self) -> Option<Vote> {
        self.inner.shared.tail.lock().vote
    }

    /// Indexes of the entries that exist.
    pub fn indexes(&self) -> Range<u64> {
        self.inner.shared.tail.lock().range()
    }

    /// Bytes of all entries, roughly.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes_from(0)
    }

    /// Bytes of the entries at and behind `index`, roughly: what a follower that needs `index` makes this node keep.
    pub fn log_bytes_from(&self, index: u64) -> u64 {
        self.inner.shared.tail.lock().bytes_from(index)
    }

    /// Counters and gauges.
    pub fn stats(&self) -> LogStats {
        let counters = &self.inner.shared.counters;
        let tail = self.inner.shared.tail.lock();
        LogStats {
            groups: counters.groups.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            appends: counters.appends.load(Ordering::Relaxed),
            entries: counters.entries.load(Ordering::Relaxed),
            queue_ops: (self.inner.queue.max_capacity() - self.inner.queue.capacity()) as u64,
            queue_bytes: (QUEUE_BYTES_MAX as usize - self.inner.room.available_permits()) as u64,
            cached_bytes: tail.cached_bytes() as u64,
            log_bytes: tail.bytes_from(0),
            first_index: tail.range().start,
            end_index: tail.range().end,
        }
    }

    /// The number of the batch that is being written and synced at this moment, if one is. Whoever finds the same number for seconds
    /// looks at a disk that hangs.
    pub fn writing(&self) -> Option<u64> {
        let counters = &self.inner.shared.counters;
        // In this order: a batch that ends in between is not taken for one that lasts.
        let ended = counters.batches_ended.load(Ordering::Acquire);
        let begun = counters.batches_begun.load(Ordering::Acquire);
        (begun > ended).then_some(begun)
    }

    /// The failure that stopped the store, if one did.
    pub fn failure(&self) -> Option<String> {
        self.inner.shared.tail.lock().failed.clone()
    }

    /// Walks over `range`; see [`RangeReader`]. Needs no Raft: redo at start uses it.
    pub fn read_range(&self, range: RangeInclusive<u64>) -> RangeReader {
        RangeReader::new(self.reader(), range)
    }

    /// One of the node's values. A short read of memory or page cache.
    pub fn meta_get(&self, key: &MetaKey) -> Result<Option<Bytes>, LogError> {
        self.inner.shared.meta_get(key.as_str())
    }

    /// All values of one database.
    pub fn meta_of_database(&self, name: &str) -> Result<Vec<(MetaKey, Bytes)>, LogError> {
        self.meta_list(&format!("db/{name}/"))
    }

    /// The values of all databases.
    pub fn meta_of_databases(&self) -> Result<Vec<(MetaKey, Bytes)>, LogError> {
        self.meta_list("db/")
    }

    fn meta_list(&self, prefix: &str) -> Result<Vec<(MetaKey, Bytes)>, LogError> {
        let pairs = self.inner.shared.meta_scan(prefix)?;
        Ok(pairs
            .into_iter()
            .filter_map(|(key, value)| Some((MetaKey::from_stored(&key)?, value)))
            .collect())
    }

    /// Stores values of the node, all or none of them, behind everything queued before. With `sync` they are durable when it
    /// returns; without, they become durable with the next write that is synced.
    pub async fn meta_put(&self, changes: Vec<MetaChange>, sync: bool) -> Result<(), LogError> {
        let changes = stored_names(changes);
        self.call(|done| Op::Meta {
            changes,
            sync,
            done,
        })
        .await
    }

    /// [`LogStore::meta_put`] for threads outside the runtime, such as a lane; panics on an async worker. On a simulated
    /// disk, where nothing may block, it is written at once, ahead of what is queued.
    pub fn meta_put_blocking(&self, changes: Vec<MetaChange>, sync: bool) -> Result<(), LogError> {
        let changes = stored_names(changes);
        if self.inner.shared.in_place {
            return self.meta_put_in_place(&changes, sync);
        }
        let (done, result) = oneshot::channel();
        self.inner
            .queue
            .blocking_send(Op::Meta {
                changes,
                sync,
                done,
            })
            .map_err(|_| LogError::Closed)?;
        result.blocking_recv().map_err(|_| LogError::Closed)?
    }

    fn meta_put_in_place(
        &self,
        changes: &[(String, Option<Bytes>)],
        sync: bool,
    ) -> Result<(), LogError> {
        let shared = &self.inner.shared;
        if let Some(cause) = shared.tail.lock().failed.clone() {
            return Err(LogError::Failed { cause });
        }
        let changes: Vec<_> = changes
            .iter()
            .map(|(key, value)| meta_change(key, value.as_ref()))
            .collect();
        let durability = if sync {
            Durability::Now
        } else {
            Durability::Lazy
        };
        shared.backend.write(&changes, durability).map_err(|error| {
            shared.fail(&error);
            LogError::Io(error)
        })
    }

    /// The format numbers that it was opened with.
    pub fn formats(&self) -> RangeInclusive<u64> {
        self.inner.formats.clone()
    }

    /// The format number of this log.
    pub fn format(&self) -> u64 {
        self.inner.shared.format.load(Ordering::Acquire)
    }

    /// Raises the format number, durably: who does not understand it does not open this log any more. Never lowers it.
    pub async fn raise_format(&self, format: u64) -> Result<(), LogError> {
        if format <= self.format() {
            return Ok(());
        }
        let value = Bytes::copy_from_slice(&format.to_le_bytes());
        let changes = vec![(shared::KEY_FORMAT.to_owned(), Some(value))];
        self.call(|done| Op::Meta {
            changes,
            sync: true,
            done,
        })
        .await?;
        self.inner.shared.format.fetch_max(format, Ordering::AcqRel);
        Ok(())
    }

    /// Opens the disk anew after a failure and takes over what is there. The `Raft` that ran on the store must be shut down
    /// before; a new one can start after. Entries that were appended and not flushed may be gone.
    ///
    /// # Errors
    /// As [`LogStore::open`]; the store stays stopped and the call may be repeated.
    pub async fn recover(&self) -> Result<(), OpenError> {
        let closed = || OpenError::Io {
            dir: "(closed)".into(),
            source: LogError::Closed.into(),
        };
        let (done, result) = oneshot::channel();
        self.inner
            .queue
            .send(Op::Recover { done })
            .await
            .map_err(|_| closed())?;
        result.await.map_err(|_| closed())?
    }

    /// Writes what is queued, syncs, and lets go of the directory. Every later call on any handle or reader fails.
    pub async fn close(&self) -> Result<(), LogError> {
        let result = self.call(|done| Op::Close { done }).await;
        match result {
            // Closed before.
            Err(LogError::Closed) => Ok(()),
            other => other,
        }
    }

    /// Queues an operation and waits until the writer has done it.
    async fn call(&self, op: impl FnOnce(Done) -> Op) -> Result<(), LogError> {
        let (done, result) = oneshot::channel();
        self.inner
            .queue
            .send(op(done))
            .await
            .map_err(|_| LogError::Closed)?;
        result.await.map_err(|_| LogError::Closed)?
    }

    /// Queues a purge, and waits for it only where it reaches over the log's end: what comes behind it is another log then. Else the entries
    /// are gone from memory at once, and from the disk when the writer comes to it: an older purge pointer only means more entries.
    async fn enqueue_purge(&self, upto: LogId) -> Result<(), LogError> {
        let (done, result) = oneshot::channel();
        let slot = self.inner.slot().await?;
        let past_end = {
            let mut tail = self.inner.shared.tail.lock();
            let range = tail.range();
            let first = upto.index + 1;
            let past_end = first >= range.end;
            let purged_bytes = tail
                .bytes_from(range.start)
                .saturating_sub(tail.bytes_from(first.max(range.start)));
            if !past_end && tail.failed.is_none() {
                tail.purge(upto);
            }
            slot.send(Op::Purge {
                upto,
                purged_bytes,
                past_end,
                done,
            });
            past_end
        };
        if past_end {
            return result.await.map_err(|_| LogError::Closed)?;
        }
        Ok(())
    }

    async fn enqueue_append(
        &self,
        entries: Vec<Entry>,
        bytes: usize,
        done: IOFlushed<TypeConfig>,
    ) -> Result<(), LogError> {
        // An append larger than the whole queue waits until it is alone.
        let permits = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(QUEUE_BYTES_MAX);
        let room = self
            .inner
            .room
            .clone()
            .acquire_many_owned(permits)
            .await
            .map_err(|_| LogError::Closed)?;
        let slot = self.inner.slot().await?;
        // Readable and queued in one step: the order in memory is the order on disk.
        let mut tail = self.inner.shared.tail.lock();
        tail.append(&entries)?;
        slot.send(Op::Append {
            entries,
            bytes,
            room,
            done,
        });
        Ok(())
    }
}

impl LogReader {
    /// What exists of `range`, in order, at least one entry if there is one, up to about `bytes_max` bytes.
    pub async fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
        if self.shared.in_place || self.shared.tail.lock().plan_is_hot(&range) {
            return self.shared.read(range, bytes_max);
        }
        let shared = self.shared.clone();
        match tokio::task::spawn_blocking(move || shared.read(range, bytes_max)).await {
            Ok(result) => result,
            Err(error) => Err(LogError::Io(io::Error::other(error))),
        }
    }
}

fn stored_names(changes: Vec<MetaChange>) -> Vec<(String, Option<Bytes>)> {
    changes
        .into_iter()
        .map(|(key, value)| (key.as_str().to_owned(), value))
        .collect()
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Replacing the sender closes the queue; the writer finishes what is in it.
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.queue, closed));
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("log writer thread panicked");
        }
    }
}
