//! [`FileInfo`]: what a listing says about a file.

use jiff::Timestamp;

use crate::FileKey;

/// A file at a destination, as listed: nothing of its content has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Which file.
    pub key: FileKey,
    /// Its length in bytes.
    pub bytes: u64,
    /// When its last transaction was written (the timestamp in the LTX header, which destinations keep beside the file).
    pub timestamp: Timestamp,
}
