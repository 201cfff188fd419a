//! What the store knows without asking the disk: the log's bounds, the vote, and the newest entries.
//!
//! Pure: no I/O, no waiting. The store keeps it behind one lock that is held for moments only. `append` adds to it, and a purge within the
//! log takes from it, when they are queued; every other change is made by the writer, after the change is on disk.

use std::collections::VecDeque;
use std::ops::Range;

use crate::entry_record::stored_bytes;
use crate::error::LogError;
use crate::raft_types::{Entry, LogId, Vote};
use crate::size_index::SizeIndex;

/// The in-memory image of the log. `first..end` are the entries that exist; the last `cached.len()` of them are in memory.
pub(crate) struct Tail {
    purged: Option<LogId>,
    last: Option<LogId>,
    first: u64,
    end: u64,
    /// Entries before this index are in the backend; those behind it exist only here and must not be evicted.
    written: u64,
    cached: VecDeque<Entry>,
    cached_bytes: usize,
    cached_bytes_max: usize,
    sizes: SizeIndex,
    /// Counts truncations, so that a read from disk that raced with one is done again.
    truncations: u64,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    /// The first failed write; set until recovery.
    pub(crate) failed: Option<String>,
}

/// What was on disk when the store was opened.
pub(crate) struct Loaded {
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    pub(crate) first: u64,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) log_bytes: u64,
}

/// How to answer a read: from disk first, then from memory.
pub(crate) struct ReadPlan {
    /// Indexes that only the disk has.
    pub(crate) cold: Range<u64>,
    /// The entries behind them.
    pub(crate) hot: Vec<Entry>,
    pub(crate) truncations: u64,
}

impl Tail {
    pub(crate) fn new(loaded: Loaded, cached_bytes_max: usize) -> Self {
        let end = loaded.last.map_or(loaded.first, |last| last.index + 1);
        Self {
            purged: loaded.purged,
            last: loaded.last,
            first: loaded.first,
            end,
            written: end,
            cached: VecDeque::new(),
            cached_bytes: 0,
            cached_bytes_max,
            sizes: SizeIndex::of_estimate(loaded.first, end, loaded.log_bytes),
            truncations: 0,
            vote: loaded.vote,
            committed: loaded.committed,
            failed: None,
        }
    }

    /// Last purged log id.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// Log id of the last entry, or the last purged one if there is none.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.last
    }

    /// Indexes of the entries that exist.
    pub(crate) fn range(&self) -> Range<u64> {
        self.first..self.end
    }

    /// Index of the last entry that is in the backend or purged.
    pub(crate) fn written_last(&self) -> Option<u64> {
        self.written.checked_sub(1)
    }

    /// Bytes of the entries at and behind `from`.
    pub(crate) fn bytes_from(&self, from: u64) -> u64 {
        self.sizes.bytes_from(from)
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    pub(crate) fn truncations(&self) -> u64 {
        self.truncations
    }

    /// Adds entries that are still to be written. All or nothing.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        if let Some(cause) = &self.failed {
            return Err(LogError::Failed {
                cause: cause.clone(),
            });
        }
        let Some(head) = entries.first() else {
            return Ok(());
        };
        // A log that never held anything may start anywhere: behind a snapshot, for example.
        let fresh = self.last.is_none() && self.first == self.end;
        let mut expected = if fresh { head.log_id.index } else { self.end };
        for entry in entries {
            if entry.log_id.index != expected {
                return Err(LogError::NotConsecutive {
                    index: entry.log_id.index,
                    expected,
                });
            }
            expected += 1;
        }
        if fresh {
            self.first = head.log_id.index;
            self.written = self.first;
        }
        for entry in entries {
            let bytes = stored_bytes(entry);
            self.cached_bytes += bytes;
            self.sizes.push(entry.log_id.index, bytes as u64);
            self.cached.push_back(entry.clone());
            self.last = Some(entry.log_id);
        }
        self.end = expected;
        self.evict();
        Ok(())
    }

    /// Entries up to `end` are in the backend now.
    pub(crate) fn mark_written(&mut self, end: u64) {
        self.written = self.written.max(end.min(self.end));
        self.evict();
    }

    /// Drops the entries behind `after`.
    pub(crate) fn truncate(&mut self, after: Option<LogId>) {
        let end = after
            .map_or(0, |id| id.index + 1)
            .max(self.purged.map_or(0, |id| id.index + 1));
        if end >= self.end {
            return;
        }
        self.truncations += 1;
        while let Some(entry) = self.cached.back()
            && entry.log_id.index >= end
        {
            self.cached_bytes -= stored_bytes(entry);
            self.cached.pop_back();
        }
        self.sizes.truncate(end);
        self.first = self.first.min(end);
        self.end = end;
        self.written = self.written.min(end);
        self.last = match after {
            Some(id) if id.index + 1 == end => after,
            _ => self.purged,
        };
    }

    /// Drops the entries up to and including `upto`.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        let first = upto.index + 1;
        while let Some(entry) = self.cached.front()
            && entry.log_id.index < first
        {
            self.cached_bytes -= stored_bytes(entry);
            self.cached.pop_front();
        }
        self.sizes.purge(first);
        self.purged = Some(upto);
        self.first = first;
        if self.end <= first {
            self.end = first;
            self.last = Some(upto);
        }
        self.written = self.written.max(first);
    }

    /// Plans a read of what exists of `range`; takes at least one entry from memory if it can, up to about `bytes_max` bytes.
    pub(crate) fn plan(&self, range: Range<u64>, bytes_max: usize) -> ReadPlan {
        let from = range.start.clamp(self.first, self.end);
        let to = range.end.clamp(from, self.end);
        let cached_from = self.end - self.cached.len() as u64;
        let split = cached_from.clamp(from, to);
        let at =
            |index: u64| usize::try_from(index.saturating_sub(cached_from)).unwrap_or(usize::MAX);
        let mut hot = Vec::new();
        if split < to {
            let mut bytes = 0_usize;
            for entry in self.cached.range(at(split)..at(to)) {
                bytes = bytes.saturating_add(stored_bytes(entry));
                if bytes > bytes_max && !hot.is_empty() {
                    break;
                }
                hot.push(entry.clone());
            }
        }
        ReadPlan {
            cold: from..split,
            hot,
            truncations: self.truncations,
        }
    }

    /// Whether what exists of `range` is all in memory.
    pub(crate) fn plan_is_hot(&self, range: &Range<u64>) -> bool {
        let cached_from = self.end - self.cached.len() as u64;
        range.start.max(self.first) >= cached_from.min(range.end)
    }

    fn evict(&mut self) {
        while self.cached_bytes > self.cached_bytes_max
            && let Some(entry) = self.cached.front()
            && entry.log_id.index < self.written
        {
            self.cached_bytes -= stored_bytes(entry);
            self.cached.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry_record::log_id;
    use crate::raft_types::{EntryPayload, Payload};

    fn entries(term: u64, range: Range<u64>) -> Vec<Entry> {
        range
            .map(|index| Entry {
                log_id: log_id(term, index),
                payload: EntryPayload::Normal(Payload(Bytes::from(vec![0; 1000]))),
            })
            .collect()
    }

    fn tail(cached_bytes_max: usize) -> Tail {
        let loaded = Loaded {
            purged: None,
            last: None,
            first: 0,
            vote: None,
            committed: None,
            log_bytes: 0,
        };
        Tail::new(loaded, cached_bytes_max)
    }

    #[test]
    fn unwritten_entries_are_never_evicted() {
        let mut tail = tail(3000);
        tail.append(&entries(1, 0..10)).unwrap();
        assert_eq!(10, tail.plan(0..10, usize::MAX).hot.len());
        tail.mark_written(6);
        let plan = tail.plan(0..10, usize::MAX);
        assert_eq!((0..6, 4), (plan.cold, plan.hot.len()));
        tail.mark_written(10);
        let plan = tail.plan(0..10, usize::MAX);
        assert_eq!((0..8, 2), (plan.cold, plan.hot.len()));
    }

    #[test]
    fn append_refuses_gap_and_overlap() {
        let mut tail = tail(1 << 20);
        tail.append(&entries(1, 0..3)).unwrap();
        assert!(matches!(
            tail.append(&entries(1, 4..5)),
            Err(LogError::NotConsecutive {
                index: 4,
                expected: 3
            })
        ));
        assert!(matches!(
            tail.append(&entries(1, 2..5)),
            Err(LogError::NotConsecutive {
                index: 2,
                expected: 3
            })
        ));
        assert_eq!(0..3, tail.range());
    }

    #[test]
    fn bounds_follow_truncate_and_purge() {
        let mut tail = tail(1 << 20);
        tail.append(&entries(1, 0..10)).unwrap();
        tail.purge(log_id(1, 3));
        assert_eq!((4..10, Some(log_id(1, 9))), (tail.range(), tail.last()));
        tail.truncate(Some(log_id(1, 6)));
        assert_eq!((4..7, Some(log_id(1, 6))), (tail.range(), tail.last()));
        tail.truncate(Some(log_id(1, 3)));
        assert_eq!((4..4, Some(log_id(1, 3))), (tail.range(), tail.last()));
        tail.purge(log_id(2, 20));
        assert_eq!((21..21, Some(log_id(2, 20))), (tail.range(), tail.last()));
        assert!(tail.append(&entries(2, 5..6)).is_err());
        tail.append(&entries(2, 21..22)).unwrap();
        assert_eq!(21, tail.plan(0..100, usize::MAX).hot[0].log_id.index);
        assert_eq!(0, tail.plan(30..40, usize::MAX).hot.len());
        assert_eq!(1, tail.plan(0..100, 1).hot.len());
    }
}
