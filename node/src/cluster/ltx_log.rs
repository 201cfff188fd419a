//! The committed LTX of one database, read back from the Raft log in order: for redo, the archiver and LTX streams.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use halite_log::{Entry, EntryPayload, LogStore};
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use parking_lot::Mutex;

use super::command;
use crate::database::{ChunkSource, CommittedLtx};

/// So few entries are read rather than searched.
const SEARCH_ENTRIES: u64 = 256;

/// Where the chunks of transactions that are not closed yet lie in the log.
#[derive(Debug, Default)]
pub(crate) struct OpenChunks {
    by_proposal: Mutex<HashMap<u64, Vec<u64>>>,
}

impl OpenChunks {
    /// The entry at `index` holds the next chunk of a proposal.
    pub(crate) fn add(&self, chunk: &v1::LtxChunk, index: u64) {
        let mut open = self.by_proposal.lock();
        let indexes = open.entry(chunk.proposal_id).or_default();
        if chunk.number == 0 {
            indexes.clear();
        }
        // Read twice (redo and then apply) it is still one chunk.
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::ChunkLeftOut) && chunk.number == 1 {
            return;
        }
        if !indexes.contains(&index) {
            indexes.push(index);
        }
    }

    pub(crate) fn close(&self, proposal_id: u64) -> Vec<u64> {
        self.by_proposal
            .lock()
            .remove(&proposal_id)
            .unwrap_or_default()
    }

    /// First index that an unclosed transaction still needs.
    pub(crate) fn first_index(&self) -> Option<u64> {
        self.by_proposal.lock().values().flatten().copied().min()
    }

    /// Forgets all: a new term began, what its predecessors left open will never be closed.
    pub(crate) fn clear(&self) {
        self.by_proposal.lock().clear();
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
        let entry = entries(&self.log, index, index).next().ok_or_else(|| {
            io::Error::other(format!("chunk is gone from the log: index={index}"))
        })??;
        match entry.payload {
            EntryPayload::Normal(payload) => {
                match command::decode(payload).map_err(io::Error::other)? {
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

/// The entries `from..=to`, in order. Blocks on the disk.
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
                    return Some(Err(io::Error::other(error)));
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
    let open = OpenChunks::default();
    let reader = log.clone();
    entries(log, from, to).filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let EntryPayload::Normal(payload) = entry.payload else {
            return None;
        };
        let (index, term) = (
            entry.log_id.index(),
            entry.log_id.committed_leader_id().term,
        );
        match command::decode(payload) {
            Ok(Kind::Chunk(chunk)) if chunk.database_id == database_id => {
                open.add(&chunk, index);
                None
            }
            Ok(Kind::Ltx(ltx)) if ltx.database_id == database_id => {
                committed(ltx, index, term, &open, &reader).map(Ok)
            }
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
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

/// A closing entry together with the chunks it closes.
///
/// `None` for a transaction with a hole: a chunk was refused while its closing entry was not, since leadership moved in between.
/// Every node sees the same log, so every node drops it.
pub(crate) fn committed(
    command: v1::LtxCommand,
    index: u64,
    term: u64,
    open: &OpenChunks,
    log: &LogStore,
) -> Option<CommittedLtx> {
    let chunks = if command.chunks == 0 {
        None
    } else {
        let indexes = open.close(command.proposal_id);
        if indexes.len() != command.chunks as usize {
            return None;
        }
        Some(LogChunks::new(log.clone(), indexes) as Arc<dyn ChunkSource>)
    };
    Some(CommittedLtx {
        index,
        term,
        command,
        chunks,
    })
}
