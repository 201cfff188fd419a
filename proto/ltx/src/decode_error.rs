//! [`DecodeError`]: why a file cannot be read, and at which byte. Shared by the decoder and the page index.

use std::io;

use crate::{HeaderError, PageNo, PageOrderError, TrailerError};

/// A file that cannot be read: the fault and the byte offset at which it was found.
#[derive(Debug, thiserror::Error)]
#[error("{fault} offset={offset}")]
pub struct DecodeError {
    /// Offset in the file, in bytes: where the item begins that is wrong or missing.
    pub offset: u64,
    /// What is wrong. (Part of this error's message, hence not its source.)
    pub fault: DecodeFault,
}

impl DecodeError {
    pub(crate) fn new(offset: u64, fault: impl Into<DecodeFault>) -> Self {
        DecodeError {
            offset,
            fault: fault.into(),
        }
    }

    /// True if reading itself failed, so that another try may succeed; false if the bytes are wrong or cut off.
    pub fn is_io(&self) -> bool {
        matches!(self.fault, DecodeFault::Io(_))
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeFault {
    /// The reader failed.
    #[error("read failed: {0}")]
    Io(#[source] io::Error),
    /// The file ends in the middle of something.
    #[error("file is cut off")]
    Truncated,
    /// The header breaks a rule.
    #[error("invalid header: {0}")]
    Header(#[from] HeaderError),
    /// A page header has flags that nobody defined.
    #[error("unknown page flags pgno={pgno} flags={flags:#06x}")]
    PageFlags {
        /// The page.
        pgno: PageNo,
        /// Its flags.
        flags: u16,
    },
    /// A page stands where it may not.
    #[error("invalid page order: {0}")]
    PageOrder(#[from] PageOrderError),
    /// The size of a compressed page is zero or more than any page of this size can need.
    #[error("compressed size out of range pgno={pgno} size={size} size_max={size_max}")]
    BlockSize {
        /// The page.
        pgno: PageNo,
        /// The size claimed.
        size: u32,
        /// The largest size possible.
        size_max: u32,
    },
    /// A page cannot be decompressed.
    #[error("page cannot be decompressed: {reason} pgno={pgno}")]
    Compression {
        /// The page.
        pgno: PageNo,
        /// What the decompressor says.
        reason: String,
    },
    /// A page decompresses to more or less than a page.
    #[error("page has the wrong length pgno={pgno} expected={expected} found={found}")]
    PageLength {
        /// The page.
        pgno: PageNo,
        /// The page size.
        expected: u32,
        /// Bytes that came out (at least).
        found: u64,
    },
    /// The page index does not describe the pages before it.
    #[error("page index does not match the pages")]
    IndexMismatch,
    /// The page index cannot be parsed.
    #[error("page index is malformed")]
    IndexMalformed,
    /// An entry of the page index points outside the pages, or into another entry's page.
    #[error(
        "page index entry out of range pgno={pgno} frame_offset={frame_offset} frame_len={frame_len}"
    )]
    IndexRange {
        /// The page.
        pgno: PageNo,
        /// Where its frame should begin.
        frame_offset: u64,
        /// How long its frame should be, in bytes.
        frame_len: u64,
    },
    /// The frame at the place an index entry names holds another page, or has another length.
    #[error("page index entry leads to another frame pgno={pgno} found={found}")]
    IndexFrame {
        /// The page asked for.
        pgno: PageNo,
        /// The page found.
        found: PageNo,
    },
    /// The trailer does not fit the header or the pages.
    #[error("invalid trailer: {0}")]
    Trailer(#[from] TrailerError),
    /// The content does not have the checksum in the trailer.
    #[error("file checksum mismatch stored={stored:016x} computed={computed}")]
    FileChecksum {
        /// Checksum in the trailer.
        stored: u64,
        /// Checksum of the content.
        computed: crate::Checksum,
    },
    /// There is something after the trailer.
    #[error("bytes after the trailer")]
    TrailingBytes,
    /// An earlier call failed; nothing more can be read.
    #[error("decoder failed before")]
    Failed,
}

impl From<io::Error> for DecodeFault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            DecodeFault::Truncated
        } else {
            DecodeFault::Io(error)
        }
    }
}
