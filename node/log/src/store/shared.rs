//! What the store's handles, its readers and its writer share.

use std::io;
use std::ops::{ControlFlow, Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::backend::{Backend, Change, Durability, Family};
use crate::entry_record::{corrupt, decode, index_of, key, stored_bytes};
use crate::error::{LogError, OpenError};
use crate::raft_types::{Entry, LogId};
use crate::stored_value::{decode_log_id, decode_vote, seal, unseal};
use crate::tail::{Loaded, ReadPlan, Tail};

pub(crate) const KEY_VOTE: &str = "vote";
pub(crate) const KEY_PURGED: &str = "raft/purged";
pub(crate) const KEY_COMMITTED: &str = "raft/committed";
/// What one has to understand to read this log and its values.
pub(crate) const KEY_FORMAT: &str = "raft/format";

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    /// Batches that the writer has begun, and those it has ended, well or not.
    pub(crate) batches_begun: AtomicU64,
    pub(crate) batches_ended: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) appends: AtomicU64,
    pub(crate) entries: AtomicU64,
}

impl Counters {
    pub(crate) fn begin_batch(&self) {
        self.batches_begun.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn end_batch(&self) {
        self.batches_ended.fetch_add(1, Ordering::Release);
    }
}

pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) counters: Counters,
    /// Whether blocking calls run in place (simulation) or on tokio's blocking threads.
    pub(crate) in_place: bool,
    /// The format number on disk.
    pub(crate) format: AtomicU64,
    flushed: watch::Sender<Option<u64>>,
    cache_bytes: usize,
}

impl Shared {
    pub(crate) fn load(
        backend: Arc<dyn Backend>,
        cache_bytes: usize,
        in_place: bool,
        format: u64,
    ) -> Result<Self, LogError> {
        let loaded = load(&*backend)?;
        let tail = Tail::new(loaded, cache_bytes);
        let flushed = watch::Sender::new(tail.written_last());
        let counters = Counters::default();
        Ok(Self {
            backend,
            tail: Mutex::new(tail),
            counters,
            in_place,
            format: AtomicU64::new(format),
            flushed,
            cache_bytes,
        })
    }

    /// Opens the disk again and takes over what is there.
    pub(crate) fn reload(&self) -> Result<(), OpenError> {
        self.backend.reopen()?;
        let loaded = load(&*self.backend).map_err(|e| open_error("(reopened)".into(), e))?;
        let flushed = {
            let mut tail = self.tail.lock();
            *tail = Tail::new(loaded, self.cache_bytes);
            tail.written_last()
        };
        self.publish_flushed(flushed);
        Ok(())
    }

    pub(crate) fn flushed(&self) -> watch::Receiver<Option<u64>> {
        self.flushed.subscribe()
    }

    pub(crate) fn publish_flushed(&self, index: Option<u64>) {
        self.flushed
            .send_if_modified(|current| std::mem::replace(current, index) != index);
    }

    /// Stops the store after a failed write.
    pub(crate) fn fail(&self, error: &io::Error) {
        self.tail
            .lock()
            .failed
            .get_or_insert_with(|| error.to_string());
    }

    /// Reads what exists of `range`, at least one entry if there is one, up to about `bytes_max` bytes. Blocks on the disk
    /// for entries that are not in memory.
    pub(crate) fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
        loop {
            let plan = self.tail.lock().plan(range.clone(), bytes_max);
            if let Some(entries) = self.follow(plan, bytes_max)? {
                return Ok(entries);
            }
        }
    }

    /// Carries a plan out; `None` if a truncation came between, so that the plan has to be made anew.
    fn follow(&self, plan: ReadPlan, bytes_max: usize) -> Result<Option<Vec<Entry>>, LogError> {
        if plan.cold.is_empty() {
            return Ok(Some(plan.hot));
        }
        let (mut entries, cut) = self.read_cold(plan.cold.clone(), bytes_max)?;
        let (truncations, first) = {
            let tail = self.tail.lock();
            (tail.truncations(), tail.range().start)
        };
        if truncations != plan.truncations {
            return Ok(None);
        }
        // A purge may have taken entries at the start meanwhile; nothing else may be missing.
        entries.retain(|entry| entry.log_id.index >= first);
        let mut expected = plan.cold.start.max(first);
        for entry in &entries {
            if entry.log_id.index != expected {
                return Err(LogError::Hole { index: expected });
            }
            expected += 1;
        }
        if !cut {
            if expected < plan.cold.end {
                return Err(LogError::Hole { index: expected });
            }
            let used: usize = entries.iter().map(stored_bytes).sum();
            if entries.is_empty() || used < bytes_max {
                let hot = plan
                    .hot
                    .into_iter()
                    .filter(|entry| entry.log_id.index >= first)
                    .collect();
                entries.extend(limit(hot, bytes_max.saturating_sub(used)));
            }
        }
        Ok(Some(entries))
    }

    /// Entries of `range` from disk; also tells whether the byte limit cut it.
    fn read_cold(
        &self,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<(Vec<Entry>, bool), LogError> {
        let mut entries = Vec::new();
        let (mut bytes, mut cut) = (0, false);
        scan_entries(&*self.backend, range, &mut |entry| {
            let own = stored_bytes(&entry);
            if !entries.is_empty() && bytes + own > bytes_max {
                cut = true;
                return ControlFlow::Break(());
            }
            bytes += own;
            entries.push(entry);
            ControlFlow::Continue(())
        })?;
        Ok((entries, cut))
    }

    pub(crate) fn meta_get(&self, key: &str) -> Result<Option<Bytes>, LogError> {
        value(&*self.backend, Family::Meta, key)
    }

    /// Pairs whose key starts with `prefix`, in order.
    pub(crate) fn meta_scan(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, LogError> {
        let mut found = Vec::new();
        // Keys are text: 0xff is behind all of them.
        let to = [prefix.as_bytes(), &[0xff]].concat();
        self.backend
            .scan(Family::Meta, prefix.as_bytes(), &to, &mut |key, sealed| {
                found.push((key.to_vec(), Bytes::copy_from_slice(sealed)));
                true
            })
            .map_err(LogError::Io)?;
        found
            .into_iter()
            .map(|(key, sealed)| {
                let key = String::from_utf8(key).map_err(|e| LogError::Corrupt {
                    family: Family::Meta.name(),
                    key: format!("{:?}", e.as_bytes()),
                    reason: "key is not text".to_owned(),
                })?;
                let value = unseal(Family::Meta.name(), &key, sealed)?;
                Ok((key, value))
            })
            .collect()
    }
}

/// The first entries that fit, at least one.
fn limit(mut entries: Vec<Entry>, bytes_max: usize) -> Vec<Entry> {
    let mut bytes = 0_usize;
    let fits = entries
        .iter()
        .take_while(|entry| {
            bytes = bytes.saturating_add(stored_bytes(entry));
            bytes <= bytes_max
        })
        .count();
    entries.truncate(fits.max(1));
    entries
}

/// A failure to read the log at open, as a failure to open it.
pub(crate) fn open_error(dir: std::path::PathBuf, error: LogError) -> OpenError {
    match error {
        LogError::Io(source) => OpenError::Io { dir, source },
        other => OpenError::Corrupt {
            dir,
            detail: other.to_string(),
        },
    }
}

/// Writes the oldest format number into an empty log, and checks the one in any other; the number.
pub(crate) fn check_format(
    backend: &dyn Backend,
    dir: &std::path::Path,
    formats: &RangeInclusive<u64>,
) -> Result<u64, OpenError> {
    let failed = |e| open_error(dir.to_owned(), e);
    match value(backend, Family::Meta, KEY_FORMAT).map_err(failed)? {
        Some(stored) => {
            let format = <[u8; 8]>::try_from(&stored[..]).map_or(u64::MAX, u64::from_le_bytes);
            if formats.contains(&format) {
                Ok(format)
            } else {
                Err(OpenError::UnknownFormat {
                    dir: dir.to_owned(),
                    format,
                })
            }
        }
        None => {
            let head = seal(KEY_FORMAT, &formats.start().to_le_bytes());
            let key = KEY_FORMAT.as_bytes().to_vec();
            let change = Change::Put {
                family: Family::Meta,
                key,
                head,
                body: Bytes::new(),
            };
            backend
                .write(&[change], Durability::Now)
                .map_err(|e| failed(LogError::Io(e)))?;
            Ok(*formats.start())
        }
    }
}

fn load(backend: &dyn Backend) -> Result<Loaded, LogError> {
    let vote = match value(backend, Family::Vote, KEY_VOTE)? {
        Some(stored) => {
            Some(decode_vote(&stored).ok_or_else(|| malformed(Family::Vote, KEY_VOTE))?)
        }
        None => None,
    };
    let purged = stored_log_id(backend, KEY_PURGED)?;
    let committed = stored_log_id(backend, KEY_COMMITTED)?;
    let first = match purged {
        Some(id) => id.index + 1,
        None => first_index(backend)?,
    };
    let last_index = match backend.last_key(Family::Log).map_err(LogError::Io)? {
        Some(stored) => index_of(&stored)
            .ok_or_else(|| malformed(Family::Log, "(last)"))?
            .checked_sub(first),
        None => None,
    };
    let last = match last_index {
        Some(offset) => Some(entry_at(backend, first + offset)?.log_id),
        // Everything that is left lies below the purge pointer.
        None => purged,
    };
    if last_index.is_some() {
        entry_at(backend, first)?;
    }
    let log_bytes = if last_index.is_some() {
        backend.log_bytes().map_err(LogError::Io)?
    } else {
        0
    };
    Ok(Loaded {
        purged,
        last,
        first,
        vote,
        committed,
        log_bytes,
    })
}

fn first_index(backend: &dyn Backend) -> Result<u64, LogError> {
    let mut first = 0;
    scan_entries(backend, 0..u64::MAX, &mut |entry| {
        first = entry.log_id.index;
        ControlFlow::Break(())
    })?;
    Ok(first)
}

fn entry_at(backend: &dyn Backend, index: u64) -> Result<Entry, LogError> {
    match backend
        .get(Family::Log, &key(index))
        .map_err(LogError::Io)?
    {
        Some(record) => decode(index, record),
        None => Err(LogError::Hole { index }),
    }
}

fn scan_entries(
    backend: &dyn Backend,
    range: Range<u64>,
    visit: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> Result<(), LogError> {
    let mut failed = None;
    backend
        .scan(
            Family::Log,
            &key(range.start),
            &key(range.end),
            &mut |stored, record| {
                let entry = match index_of(stored) {
                    Some(index) => decode(index, Bytes::copy_from_slice(record)),
                    None => Err(corrupt(
                        range.start,
                        format!("key has the wrong length, bytes={}", stored.len()),
                    )),
                };
                match entry {
                    Ok(entry) => visit(entry).is_continue(),
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                }
            },
        )
        .map_err(LogError::Io)?;
    failed.map_or(Ok(()), Err)
}

fn value(backend: &dyn Backend, family: Family, key: &str) -> Result<Option<Bytes>, LogError> {
    match backend.get(family, key.as_bytes()).map_err(LogError::Io)? {
        Some(sealed) => Ok(Some(unseal(family.name(), key, sealed)?)),
        None => Ok(None),
    }
}

fn stored_log_id(backend: &dyn Backend, key: &str) -> Result<Option<LogId>, LogError> {
    match value(backend, Family::Meta, key)? {
        Some(stored) => Ok(Some(
            decode_log_id(&stored).ok_or_else(|| malformed(Family::Meta, key))?,
        )),
        None => Ok(None),
    }
}

fn malformed(family: Family, key: &str) -> LogError {
    LogError::Corrupt {
        family: family.name(),
        key: key.to_owned(),
        reason: "value has the wrong shape".to_owned(),
    }
}
