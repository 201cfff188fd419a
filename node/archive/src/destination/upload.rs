//! [`Upload`]: a file on its way to a destination.

use std::error::Error;
use std::fmt;
use std::io::Write;

use bytes::Bytes;
use halite_ltx::{DecodeError, DecodeFault, HEADER_LEN, Header};
use jiff::Timestamp;

use crate::{FileKey, Level};

/// Why content could not be produced.
pub type ContentError = Box<dyn Error + Send + Sync>;

/// Writes the content of a file; runs where it may block, once. A failure must come back as an error: nothing is stored then.
pub type ContentWriter = Box<dyn FnOnce(&mut dyn Write) -> Result<(), ContentError> + Send>;

/// The bytes of an upload.
pub enum Content {
    /// All of them, at hand.
    Bytes(Bytes),
    /// As many as the writer writes.
    Writer(ContentWriter),
}

/// A file to be stored: its name, its timestamp and its content.
pub struct Upload {
    /// The name it gets.
    pub key: FileKey,
    /// The timestamp of the LTX header.
    pub timestamp: Timestamp,
    /// The bytes.
    pub content: Content,
}

impl Upload {
    /// An upload of a finished LTX file; name and timestamp come from its header.
    ///
    /// # Errors
    /// [`DecodeError`] if the header cannot be read.
    pub fn from_bytes(level: Level, bytes: Bytes) -> Result<Self, DecodeError> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(DecodeError {
            offset: 0,
            fault: DecodeFault::Truncated,
        })?;
        let header = Header::decode(header).map_err(|error| DecodeError {
            offset: error.offset(),
            fault: error.into(),
        })?;
        Ok(Upload {
            key: FileKey::new(level, header.min_txid, header.max_txid),
            timestamp: header_timestamp(&header),
            content: Content::Bytes(bytes),
        })
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = match &self.content {
            Content::Bytes(bytes) => Some(bytes.len()),
            Content::Writer(_) => None,
        };
        f.debug_struct("Upload")
            .field("key", &self.key)
            .field("timestamp", &self.timestamp)
            .field("len", &len)
            .finish_non_exhaustive()
    }
}

/// The timestamp of a header; the nearest date if it is outside the years -9999 to 9999 (any i64 is legal in the format).
pub(crate) fn header_timestamp(header: &Header) -> Timestamp {
    let (min, max) = (Timestamp::MIN, Timestamp::MAX);
    let ms = header
        .timestamp_ms
        .clamp(min.as_millisecond(), max.as_millisecond());
    Timestamp::from_millisecond(ms).unwrap_or(max)
}
