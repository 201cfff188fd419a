//! [`FileKey`]: which file is meant, independent of where it lies.

use std::fmt;

use halite_ltx::{Txid, file_name};

use crate::Level;

/// Names one archive file: its level and the transactions it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    /// The tier.
    pub level: Level,
    /// First transaction in the file.
    pub min: Txid,
    /// Last transaction in the file.
    pub max: Txid,
}

impl FileKey {
    /// A key from its parts; `min <= max` is the caller's word.
    pub const fn new(level: Level, min: Txid, max: Txid) -> Self {
        FileKey { level, min, max }
    }

    /// The last part of the file's path, `<min>-<max>.ltx`.
    pub fn file_name(&self) -> String {
        file_name(self.min, self.max)
    }
}

impl fmt::Display for FileKey {
    /// `<level>/<min>-<max>.ltx`, as in the layout of files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}.ltx", self.level, self.min, self.max)
    }
}
