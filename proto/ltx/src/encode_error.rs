//! [`EncodeError`]: why a file cannot be written.

use std::io;

use crate::{HeaderError, PageNo, PageOrderError, TrailerError};

/// Why the encoder refused or failed. After an error of the writer nothing more is accepted: the output is useless.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The writer failed.
    #[error("write failed: {0}")]
    Io(#[from] io::Error),
    /// The header breaks a rule.
    #[error("invalid header: {0}")]
    Header(#[from] HeaderError),
    /// A page may not stand here; it was not written.
    #[error("invalid page order: {0}")]
    PageOrder(#[from] PageOrderError),
    /// The data is not one page; it was not written.
    #[error("page has the wrong length pgno={pgno} expected={expected} found={found}")]
    PageLength {
        /// The page.
        pgno: PageNo,
        /// The page size.
        expected: u32,
        /// Bytes given.
        found: usize,
    },
    /// The compressor refused a page. (It is given room for the worst case, so this is not expected.)
    #[error("page cannot be compressed: {reason} pgno={pgno}")]
    Compression {
        /// The page.
        pgno: PageNo,
        /// What the compressor says.
        reason: String,
    },
    /// The post-apply checksum does not fit the header or the pages.
    #[error("invalid trailer: {0}")]
    Trailer(#[from] TrailerError),
    /// An earlier write failed; the output must be thrown away.
    #[error("encoder failed before")]
    Failed,
}
