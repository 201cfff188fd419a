//! The committed LTX of one database, read back from the Raft log in order: for redo, the archiver and LTX streams.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use halite_log::{Entry, EntryPayload, LogError, LogStore};
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use parking_lot::Mutex;

use super::catalog::Point;
use super::command::{self, Content};
use super::feature_level::Levels;
use crate::database::{ChunkSource, CommittedLtx};

/// So few entries are read rather than searched.
const SEARCH_ENTRIES: u64 = 256;

/// Where the chunks of transactions that are not closed yet lie in the log.
///
/// A database has at most one: its lane proposes one transaction after the other. What a lane has left open is never closed, and forgotten
/// when the log shows it: by the next transaction of the database, or the blank entry that comes before lanes open.
#[derive(Debug, Default)]
pub(crate) struct OpenChunks {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_database: HashMap<u64, Chunks>,
    /// Where the log was applied to before the first of them.
    before: Point,
}

#[derive(Debug)]
struct Chunks {
    proposal_id: u64,
    indexes: Vec<u64>,
}

impl OpenChunks {
    /// Goes along with the log: every entry passes here, in order. `before` is the point that the entry before leads to.
    ///
    /// For the entry that closes a transaction: the indexes of its chunks. For all others: none.
    pub(crate) fn follow(
        &self,
        index: u64,
        content: &Content,
        before: impl FnOnce() -> Point,
    ) -> Vec<u64> {
        match content {
            Content::Blank => self.clear(),
            Content::Command(Kind::Chunk(chunk)) => self.add(chunk, index, before),
            Content::Command(Kind::Ltx(ltx)) => {
                return self.close(ltx.database_id, ltx.proposal_id);
            }
            Content::Command(Kind::DropDatabase(drop)) => self.forget(drop.database_id),
            Content::Command(_) | Content::Membership(_) => {}
        }
        Vec::new()
    }

    /// The entry at `index` holds the next chunk of a proposal; the log is applied up to the entry before, `before`.
    fn add(&self, chunk: &v1::LtxChunk, index: u64, before: impl FnOnce() -> Point) {
        let mut open = self.open.lock();
        if open.by_database.is_empty() {
            open.before = before();
        }
        let chunks = open
            .by_database
            .entry(chunk.database_id)
            .or_insert_with(|| Chunks {
                proposal_id: chunk.proposal_id,
                indexes: Vec::new(),
            });
        if chunk.number == 0 || chunks.proposal_id != chunk.proposal_id {
            chunks.proposal_id = chunk.proposal_id;
            chunks.indexes.clear();
        }
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::ChunkLeftOut) && chunk.number == 1 {
            return;
        }
        // Read twice (redo and then apply) it is still one chunk.
        if !chunks.indexes.contains(&index) {
            chunks.indexes.push(index);
        }
    }

    /// The transaction is closed, and whatever else its database had left open: the indexes of its chunks.
    fn close(&self, database_id: u64, proposal_id: u64) -> Vec<u64> {
        let chunks = self.open.lock().by_database.remove(&database_id);
        chunks
            .filter(|chunks| chunks.proposal_id == proposal_id)
            .map_or_else(Vec::new, |chunks| chunks.indexes)
    }

    /// The database is gone.
    fn forget(&self, database_id: u64) {
        self.open.lock().by_database.remove(&database_id);
    }

    /// First index that an unclosed transaction still needs.
    pub(crate) fn first_index(&self) -> Option<u64> {
        let open = self.open.lock();
        let indexes = open.by_database.values().flat_map(|chunks| &chunks.indexes);
        indexes.copied().min()
    }

    /// The newest point that no unclosed transaction crosses; `None` if there is none.
    pub(crate) fn before(&self) -> Option<Point> {
        let open = self.open.lock();
        (!open.by_database.is_empty()).then(|| open.before.clone())
    }

    /// Forgets all: new lanes are about to open, what those before have left open will never be closed.
    pub(crate) fn clear(&self) {
        self.open.lock().by_database.clear();
    }
}

/// The chunks of one large transaction, fetched from the log one at a time.
pub(crate) struct LogChunks {
    log: LogStore,
    indexes: Vec<u64>,
}

impl LogChunks {
    pub(crate) fn new(log: LogStore, indexes: Vec<u64>) -> Arc<Self> {
        Arc::new(Self { log, indexes })
    }
}

impl ChunkSource for LogChunks {
    fn chunk(&self, number: u32) -> io::Result<Bytes> {
        let index = *self
            .indexes
            .get(number as usize)
            .ok_or_else(|| io::Error::other(format!("no chunk of that number: number={number}")))?;
        let entry = entries(&self.log, index, index)
            .next()
            .ok_or_else(|| io::Error::other(format!("chunk is not in the log: index={index}")))??;
        match entry.payload {
            EntryPayload::Normal(payload) => {
                match command::decode(payload, Levels::of(&self.log)).map_err(io::Error::other)? {
                    Kind::Chunk(chunk) if chunk.number == number => Ok(chunk.data),
                    _ => Err(io::Error::other(format!(
                        "log entry is not the chunk expected: index={index}"
                    ))),
                }
            }
            _ => Err(io::Error::other(format!(
                "log entry is not a chunk: index={index}"
            ))),
        }
    }
}

/// The entries `from..=to`, in order. Blocks on the disk. Those that are purged are [`io::ErrorKind::NotFound`].
pub(crate) fn entries(
    log: &LogStore,
    from: u64,
    to: u64,
) -> impl Iterator<Item = io::Result<Entry>> + Send + use<> {
    let mut reader = (from <= to).then(|| log.read_range(from..=to));
    let mut piece = Vec::new().into_iter();
    std::iter::from_fn(move || {
        loop {
            if let Some(entry) = piece.next() {
                return Some(Ok(entry));
            }
            match reader.as_mut()?.next_piece_blocking() {
                Ok(Some(next)) => piece = next.into_iter(),
                Ok(None) => reader = None,
                Err(error) => {
                    reader = None;
                    let kind = match error {
                        LogError::Purged { .. } => io::ErrorKind::NotFound,
                        _ => io::ErrorKind::Other,
                    };
                    return Some(Err(io::Error::new(kind, error)));
                }
            }
        }
    })
}

/// Reads the entries `from..=to` and yields the transactions of one database among them.
pub(crate) fn transactions(
    log: &LogStore,
    database_id: u64,
    from: u64,
    to: u64,
) -> impl Iterator<Item = io::Result<CommittedLtx>> + Send + use<> {
    transactions_after(log, database_id, Arc::default(), from, to)
}

/// The same, going on where an earlier reading of the log stopped: `open` knows the chunks before `from`.
pub(crate) fn transactions_after(
    log: &LogStore,
    database_id: u64,
    open: Arc<OpenChunks>,
    from: u64,
    to: u64,
) -> impl Iterator<Item = io::Result<CommittedLtx>> + Send + use<> {
    let (reader, ours) = (log.clone(), Levels::of(log));
    let mut before: Option<(u64, u64)> = None;
    entries(log, from, to).filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let (index, term) = (
            entry.log_id.index(),
            entry.log_id.committed_leader_id().term,
        );
        let content = match Content::of(entry.payload, ours) {
            Ok(content) => content,
            Err(error) => return Some(Err(io::Error::other(error))),
        };
        let chunks = open.follow(index, &content, Point::default);
        match content {
            Content::Command(Kind::Ltx(ltx)) if ltx.database_id == database_id => {
                let (txid, checksums) = (ltx.txid, (ltx.pre_checksum, ltx.post_checksum));
                let ltx = committed(ltx, index, term, chunks, &reader)?;
                // What does not follow was passed over by every node.
                if before.is_some_and(|(last, post)| {
                    txid <= last || txid == last + 1 && checksums.0 != post
                }) {
                    return None;
                }
                before = Some((txid, checksums.1));
                Some(Ok(ltx))
            }
            _ => None,
        }
    })
}

/// An index from which on every transaction from `wanted` on is met, chunks included, found without reading all that comes before:
/// nothing of a transaction lies before the closing entry of the one before it. Blocks on the disk.
pub(crate) fn start_of(log: &LogStore, database_id: u64, wanted: u64, to: u64) -> io::Result<u64> {
    let (mut low, mut high) = (log.indexes().start, to);
    while high.saturating_sub(low) > SEARCH_ENTRIES {
        let middle = low + (high - low) / 2;
        match transactions(log, database_id, middle, high).next() {
            Some(Err(error)) => return Err(error),
            Some(Ok(ltx)) if ltx.command.txid < wanted => low = ltx.index + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The term of the entry at `index`, if the log holds it and it can be read. Blocks on the disk.
pub(crate) fn term_at(log: &LogStore, index: u64) -> Option<u64> {
    if !log.indexes().contains(&index) {
        return None;
    }
    let entry = entries(log, index, index).next()?.ok()?;
    Some(entry.log_id.committed_leader_id().term)
}

/// All chunks of the transaction are there.
pub(crate) fn is_whole(command: &v1::LtxCommand, chunks: &[u64]) -> bool {
    command.chunks == 0 || chunks.len() == command.chunks as usize
}

/// A closing entry together with the chunks it closes, which lie at `chunks`.
///
/// `None` for a transaction with a hole: a chunk was refused while its closing entry was not, since leadership moved in between.
/// Every node sees the same log, so every node drops it.
pub(crate) fn committed(
    command: v1::LtxCommand,
    index: u64,
    term: u64,
    chunks: Vec<u64>,
    log: &LogStore,
) -> Option<CommittedLtx> {
    if !is_whole(&command, &chunks) {
        return None;
    }
    let chunks = if command.chunks == 0 {
        None
    } else {
        Some(LogChunks::new(log.clone(), chunks) as Arc<dyn ChunkSource>)
    };
    Some(CommittedLtx {
        index,
        term,
        command,
        chunks,
    })
}

#[cfg(test)]
mod tests {
    use halite_log::LogId;

    use super::*;

    fn chunk(database_id: u64, proposal_id: u64, number: u32) -> v1::LtxChunk {
        v1::LtxChunk {
            database_id,
            proposal_id,
            number,
            ..v1::LtxChunk::default()
        }
    }

    fn point(index: u64) -> Point {
        Point {
            applied: Some(LogId::new_term_index(1, index)),
            ..Point::default()
        }
    }

    #[test]
    fn chunks_are_kept_until_they_are_closed() {
        let open = OpenChunks::default();
        assert_eq!(open.before(), None);
        open.add(&chunk(1, 70, 0), 5, || point(4));
        open.add(&chunk(2, 80, 0), 6, || point(5));
        open.add(&chunk(1, 70, 1), 7, || point(6));
        // The redo has read it, and the apply reads it again.
        open.add(&chunk(1, 70, 1), 7, || point(6));
        assert_eq!(
            (open.first_index(), open.before()),
            (Some(5), Some(point(4)))
        );
        assert_eq!(open.close(1, 70), [5, 7]);
        assert_eq!(
            (open.first_index(), open.before()),
            (Some(6), Some(point(4)))
        );
        assert_eq!(open.close(2, 80), [6]);
        assert_eq!((open.first_index(), open.before()), (None, None));
    }

    #[test]
    fn chunks_that_nobody_closes_are_forgotten() {
        let open = OpenChunks::default();
        open.add(&chunk(1, 70, 0), 5, || point(4));
        open.add(&chunk(1, 71, 0), 6, || point(5));
        assert_eq!(open.close(1, 71), [6]);
        open.add(&chunk(1, 72, 0), 7, || point(6));
        // Another one of the database comes in one piece.
        assert_eq!(open.close(1, 73), [0_u64; 0]);
        assert_eq!(open.before(), None);
        open.add(&chunk(1, 74, 0), 8, || point(7));
        open.forget(1);
        assert_eq!(open.before(), None);
        open.add(&chunk(1, 75, 0), 9, || point(8));
        open.clear();
        assert_eq!((open.first_index(), open.before()), (None, None));
    }
}
