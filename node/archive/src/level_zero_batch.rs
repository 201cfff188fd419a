//! [`LevelZeroBatch`]: makes one level-0 file of the transactions since the last one.
//!
//! Owns the rules for what fits into a file; pure, no I/O. Called by the archiver once per sync interval. Merging compresses and
//! checks all pages: [`finish`](LevelZeroBatch::finish) belongs where it may block.

use bytes::Bytes;
use halite_ltx::{
    CompactError, Compactor, DecodeError, DecodeFault, HEADER_LEN, Header, PageSize, Txid,
};

use crate::{Level, Upload};

/// Why a transaction does not fit, or why the batch cannot be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The batch is full; finish it and push the transaction to the next one.
    #[error("batch is full bytes={bytes} bytes_max={bytes_max}")]
    Full {
        /// Bytes in the batch.
        bytes: usize,
        /// Its limit.
        bytes_max: usize,
    },
    /// The header cannot be read.
    #[error("transaction is not readable: {0}")]
    Header(#[source] DecodeError),
    /// Transactions come one by one, none left out.
    #[error(
        "transaction does not follow the last one expected_txid={expected} min_txid={min} max_txid={max}"
    )]
    NotNext {
        /// The TXID that comes next.
        expected: Txid,
        /// First TXID of what came.
        min: Txid,
        /// Last TXID of what came.
        max: Txid,
    },
    /// A database keeps its page size.
    #[error("page size changed txid={txid} expected={expected} found={found}")]
    PageSize {
        /// The transaction.
        txid: Txid,
        /// Page size so far.
        expected: PageSize,
        /// Page size of the transaction.
        found: PageSize,
    },
    /// The transactions cannot be merged: one is damaged, or the first of all leaves out pages.
    #[error("transactions cannot be merged: {0}")]
    Merge(#[from] CompactError),
}

/// Committed transactions that become one level-0 file `min-max.ltx` with the timestamp of the last one.
#[derive(Debug)]
pub struct LevelZeroBatch {
    after: Txid,
    bytes_max: usize,
    bytes: usize,
    page_size: Option<PageSize>,
    transactions: Vec<Bytes>,
}

impl LevelZeroBatch {
    /// An empty batch for what follows `after`, the last archived transaction ([`Txid::ZERO`]: none yet).
    ///
    /// `bytes_max` bounds the LTX bytes held; a single transaction larger than that is accepted by an empty batch.
    pub fn new(after: Txid, bytes_max: usize) -> Self {
        LevelZeroBatch {
            after,
            bytes_max,
            bytes: 0,
            page_size: None,
            transactions: Vec::new(),
        }
    }

    /// Appends a transaction: the bytes of an LTX file with `min == max`, database checksums or not.
    ///
    /// Only the header is looked at here.
    ///
    /// # Errors
    /// [`BatchError`]; the batch is as before.
    pub fn push(&mut self, ltx: Bytes) -> Result<(), BatchError> {
        let header = read_header(&ltx).map_err(BatchError::Header)?;
        let expected = self.max().next();
        if header.min_txid != expected || header.max_txid != expected {
            let (min, max) = (header.min_txid, header.max_txid);
            return Err(BatchError::NotNext { expected, min, max });
        }
        let page_size = *self.page_size.get_or_insert(header.page_size);
        if page_size != header.page_size {
            let (txid, found) = (expected, header.page_size);
            return Err(BatchError::PageSize {
                txid,
                expected: page_size,
                found,
            });
        }
        if !self.is_empty() && self.bytes.saturating_add(ltx.len()) > self.bytes_max {
            return Err(BatchError::Full {
                bytes: self.bytes,
                bytes_max: self.bytes_max,
            });
        }
        self.bytes += ltx.len();
        self.transactions.push(ltx);
        Ok(())
    }

    /// True if nothing has been pushed.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Number of transactions.
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// LTX bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last transaction in the batch; the one before it, if it is empty.
    pub fn max(&self) -> Txid {
        Txid::new(
            self.after
                .get()
                .saturating_add(self.transactions.len() as u64),
        )
    }

    /// Merges the transactions; `None` if there are none. Verifies their checksums; the file itself carries no database checksums.
    ///
    /// The same transactions give the same bytes, so a repeated upload meets its own file.
    ///
    /// # Errors
    /// [`BatchError::Merge`].
    pub fn finish(self) -> Result<Option<Upload>, BatchError> {
        if self.is_empty() {
            return Ok(None);
        }
        let merged = Compactor::new(self.transactions.iter().map(|ltx| &ltx[..]))?;
        let (bytes, _) = merged.write_to(Vec::with_capacity(self.bytes))?;
        let upload = Upload::from_bytes(Level::ZERO, bytes.into()).map_err(BatchError::Header)?;
        Ok(Some(upload))
    }
}

fn read_header(ltx: &[u8]) -> Result<Header, DecodeError> {
    let bytes: &[u8; HEADER_LEN] = ltx.first_chunk().ok_or(DecodeError {
        offset: 0,
        fault: DecodeFault::Truncated,
    })?;
    Header::decode(bytes).map_err(|error| DecodeError {
        offset: error.offset(),
        fault: error.into(),
    })
}
