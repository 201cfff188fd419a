//! [`LtxReader`]: a file of the archive on its way into a decoder.
//!
//! Owns the check that a file holds what its name says, and counts bytes. All reads may block.

use std::io::{BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use halite_ltx::{DecodeError, DecodeFault, HEADER_LEN, Header, Txid};

use crate::{FileKey, FileReader};

const BUFFER_BYTES: usize = 128 * 1024;

/// Why a file cannot be what its name says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LtxReaderError {
    /// The header cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The header names other transactions.
    #[error("file holds other transactions than its name says min_txid={min} max_txid={max}")]
    Name { min: Txid, max: Txid },
}

/// Reads an LTX file from its beginning; the header has been read and compared with the name.
pub(crate) struct LtxReader {
    inner: std::io::Chain<Cursor<[u8; HEADER_LEN]>, BufReader<FileReader>>,
    header: Header,
    bytes_read: Arc<AtomicU64>,
}

impl LtxReader {
    /// Reads the header of the file named `key`; adds what is read to `bytes_read`.
    pub(crate) fn open(
        key: FileKey,
        reader: FileReader,
        bytes_read: Arc<AtomicU64>,
    ) -> Result<Self, LtxReaderError> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        let mut bytes = [0; HEADER_LEN];
        reader.read_exact(&mut bytes).map_err(|error| DecodeError {
            offset: 0,
            fault: DecodeFault::from(error),
        })?;
        let header = Header::decode(&bytes).map_err(|error| DecodeError {
            offset: error.offset(),
            fault: error.into(),
        })?;
        if (header.min_txid, header.max_txid) != (key.min, key.max) {
            let (min, max) = (header.min_txid, header.max_txid);
            return Err(LtxReaderError::Name { min, max });
        }
        Ok(LtxReader {
            inner: Cursor::new(bytes).chain(reader),
            header,
            bytes_read,
        })
    }

    /// The header of the file.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }
}

impl Read for LtxReader {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
