//! [`Trailer`]: the last 16 bytes of a file. Owns their layout and the rules for the database checksum.

use crate::{Checksum, Header};

/// Bytes of a trailer.
pub const TRAILER_LEN: usize = 16;

/// What an LTX file says at its end. On disk: post-apply checksum (0 for none), then file checksum, both big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Checksum of the database after this file; `None` for files without checksums.
    pub post_apply_checksum: Option<Checksum>,
    /// Checksum over header, pages (uncompressed), index and the post-apply checksum.
    pub file_checksum: Checksum,
}

/// A post-apply checksum that does not fit the header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrailerError {
    /// The header says that there are no checksums.
    #[error("post-apply checksum not allowed in a file without checksums checksum={0:016x}")]
    PostApplyForbidden(u64),
    /// The header promises checksums, but there is none, or one without bit 63.
    #[error("post-apply checksum missing or without bit 63 checksum={0:016x}")]
    PostApplyMissing(u64),
    /// A file that leaves no pages must say so with the checksum of an empty database.
    #[error("a file with commit=0 needs the checksum of an empty database")]
    PostApplyNotEmpty,
    /// The pages of a snapshot do not have the checksum that it claims.
    #[error("post-apply checksum differs from the pages stored={stored} computed={computed}")]
    PostApplyMismatch {
        /// Checksum in the trailer.
        stored: Checksum,
        /// Checksum of the pages.
        computed: Checksum,
    },
}

/// Checks a stored post-apply checksum (0 for none) against the header; `computed` is that of a snapshot's pages.
pub(crate) fn check_post_apply(
    header: &Header,
    stored: u64,
    computed: Option<Checksum>,
) -> Result<Option<Checksum>, TrailerError> {
    if header.commit == 0 && stored != Checksum::EMPTY.get() {
        return Err(TrailerError::PostApplyNotEmpty);
    }
    if header.no_checksum {
        return if stored == 0 {
            Ok(None)
        } else {
            Err(TrailerError::PostApplyForbidden(stored))
        };
    }
    let stored = Checksum::from_stored(stored).ok_or(TrailerError::PostApplyMissing(stored))?;
    match computed {
        Some(computed) if computed != stored => {
            Err(TrailerError::PostApplyMismatch { stored, computed })
        }
        _ => Ok(Some(stored)),
    }
}
