//! openraft's view of the store: `RaftLogStorage` and `RaftLogReader`. See the crate's header for how writes travel.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};

use futures::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::{LogReader, LogStore};
use crate::entry_record::stored_bytes;
use crate::raft_types::{Entry, LogId, TypeConfig, Vote};
use crate::writer::Op;

/// Payload bytes of one AppendEntries message, give or take: gRPC messages are bounded, and a lost one is sent again in whole.
const REPLICATION_BYTES_MAX: usize = 1 << 20;
/// Bytes of entries that the state machine's stream holds at once.
const APPLY_BYTES_MAX: usize = 4 << 20;

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    /// Waits for all that is queued, so that a new `Raft` on a store that an earlier one left never sees half of its writes.
    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.call(|done| Op::Barrier { done }).await?;
        let tail = self.inner.shared.tail.lock();
        Ok(LogState {
            last_purged_log_id: tail.purged(),
            last_log_id: tail.last(),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        Ok(self.call(|done| Op::Vote { vote, done }).await?)
    }

    /// Queues the value and returns; it is never synced on its own account. A power loss may bring back an older one. That is
    /// sound: the entries themselves are synced, a quorum has them, and the next leader commits them again. What a reader
    /// has already been shown must not disappear at a restart, though, and for that the checkpoint record K is there, which is
    /// synced: a start redoes to max(committed, K), and everything behind K lies in SQLite's WAL, which the start puts back.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let slot = self
            .inner
            .queue
            .reserve()
            .await
            .map_err(|_| crate::LogError::Closed)?;
        slot.send(Op::Committed { committed });
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.call(|done| Op::Barrier { done }).await?;
        Ok(self.inner.shared.tail.lock().committed)
    }

    /// Returns as soon as the entries are readable and queued: Raft's core, which also answers heartbeats and counts time, must not wait for a
    /// disk. What pushes back is before Raft: the window of the lanes, and the bytes that a follower takes in. A full queue (256 MiB) is
    /// the last resort.
    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let bytes = entries.iter().map(stored_bytes).sum();
        Ok(self.enqueue_append(entries, bytes, callback).await?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        Ok(self
            .call(|done| Op::Truncate {
                after: last_log_id,
                done,
            })
            .await?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        Ok(self.enqueue_purge(log_id).await?)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.read(half_open(&range), usize::MAX).await?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.tail.lock().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.read(start..end, REPLICATION_BYTES_MAX).await?)
    }

    /// Piece by piece, so that applying a long backlog after a start does not load all of it.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let reader = self.clone();
        let state = (reader, half_open(&range), Vec::new().into_iter());
        let pieces = stream::try_unfold(state, |(reader, mut left, mut piece)| async move {
            if let Some(entry) = piece.next() {
                return Ok::<_, io::Error>(Some((entry, (reader, left, piece))));
            }
            if left.is_empty() {
                return Ok(None);
            }
            let entries: Vec<Entry> = reader.read(left.clone(), APPLY_BYTES_MAX).await?;
            let Some(last) = entries.last() else {
                return Ok(None);
            };
            left.start = last.log_id.index + 1;
            piece = entries.into_iter();
            Ok(piece.next().map(|entry| (entry, (reader, left, piece))))
        });
        Box::pin(pieces)
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    start..end.max(start)
}
