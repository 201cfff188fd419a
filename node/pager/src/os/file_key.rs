//! [`FileKey`]: which of the files that SQLite keeps for a database. Plain values.

use std::path::{Path, PathBuf};

/// Which of the files of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// The database file itself.
    Database,
    /// The write-ahead log.
    Wal,
    /// The rollback journal; it exists only while a database of another journal mode is converted.
    Journal,
}

impl FileKind {
    /// All of them.
    pub const ALL: [FileKind; 3] = [FileKind::Database, FileKind::Wal, FileKind::Journal];

    /// What SQLite appends to the name of the database.
    pub fn suffix(self) -> &'static str {
        match self {
            FileKind::Database => "",
            FileKind::Wal => "-wal",
            FileKind::Journal => "-journal",
        }
    }
}

/// A file of a database. Ordered, so that whoever lists files lists them in an order that repeats.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileKey {
    /// Path of the database, absolute, whichever of its files is meant.
    pub database: PathBuf,
    /// The file.
    pub kind: FileKind,
}

impl FileKey {
    /// Where the file is.
    pub fn path(&self) -> PathBuf {
        beside(&self.database, self.kind.suffix())
    }
}

/// A path with something appended to the file name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
