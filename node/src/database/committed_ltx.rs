//! [`CommittedLtx`]: a committed transaction as it comes out of the log, and [`LtxReader`], its bytes as one stream.
//!
//! Called by whoever applies; never keeps a large transaction in memory.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use halite_ltx::{Checksum, Position, Txid};
use halite_proto::v1;

use super::Mark;

/// What an entry takes in memory beside its data.
const ENTRY_BYTES: usize = 512;

/// The chunk entries of one large transaction, read back from the log piece by piece.
pub trait ChunkSource: Send + Sync {
    /// Data of chunk `number`, from 0.
    ///
    /// # Errors
    /// The log's; the database then stays where it is and asks again, unless the chunk is gone ([`io::ErrorKind::NotFound`]).
    fn chunk(&self, number: u32) -> io::Result<Bytes>;
}

/// One committed entry of one database.
#[derive(Clone)]
pub struct CommittedLtx {
    /// Raft index of the (closing) entry.
    pub index: u64,
    /// Raft term of it.
    pub term: u64,
    /// The entry.
    pub command: v1::LtxCommand,
    /// Where the chunks are; `None` for an entry that carries its data.
    pub chunks: Option<Arc<dyn ChunkSource>>,
}

impl CommittedLtx {
    /// Where it leads to.
    pub fn mark(&self) -> Mark {
        let checksum = Checksum::new(self.command.post_checksum);
        Mark {
            position: Position::new(Txid::new(self.command.txid), checksum),
            term: self.term,
            index: self.index,
        }
    }

    /// What it takes in memory. Chunks stay in the log.
    pub(crate) fn bytes(&self) -> usize {
        ENTRY_BYTES + self.command.data.len()
    }

    /// The LTX bytes from the start, whether they came inline or in chunks.
    pub fn reader(&self) -> LtxReader {
        LtxReader {
            current: self.command.data.clone(),
            next_chunk: 0,
            chunks: if self.command.data.is_empty() {
                self.command.chunks
            } else {
                0
            },
            source: self.chunks.clone(),
        }
    }
}

impl fmt::Debug for CommittedLtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommittedLtx")
            .field("index", &self.index)
            .field("term", &self.term)
            .field("txid", &self.command.txid)
            .field("proposal_id", &self.command.proposal_id)
            .field("data_bytes", &self.command.data.len())
            .field("chunks", &self.command.chunks)
            .finish_non_exhaustive()
    }
}

/// The LTX bytes of one [`CommittedLtx`].
pub struct LtxReader {
    current: Bytes,
    next_chunk: u32,
    chunks: u32,
    source: Option<Arc<dyn ChunkSource>>,
}

impl Read for LtxReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && self.next_chunk < self.chunks {
            let source = self.source.as_ref().ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "entry came in chunks, but none were kept",
                )
            })?;
            self.current = source.chunk(self.next_chunk)?;
            self.next_chunk += 1;
        }
        let len = buf.len().min(self.current.len());
        buf[..len].copy_from_slice(&self.current.split_to(len));
        Ok(len)
    }
}
