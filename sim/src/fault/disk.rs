//! [`LogDiskFault`], [`FileDiskFault`] and [`StoreFault`]: what can be wrong with what holds data.

use std::num::NonZeroU64;
use std::time::Duration;

/// What is wrong with the disk under the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogDiskFault {
    /// Syncs take up to this.
    Slow(Duration),
    /// It writes so many bytes a second.
    Bandwidth(NonZeroU64),
    /// No sync ends, neither well nor with an error.
    Hangs,
    /// As many of a thousand writes fail, and nothing is written.
    WritesFail(u32),
    /// As many of a thousand syncs fail.
    SyncsFail(u32),
    /// No write finds room.
    Full,
}

impl LogDiskFault {
    /// The kind, for figures.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Slow(_) => "log disk slow",
            Self::Bandwidth(_) => "log disk narrow",
            Self::Hangs => "log disk hangs",
            Self::WritesFail(_) => "log disk fails writes",
            Self::SyncsFail(_) => "log disk fails syncs",
            Self::Full => "log disk full",
        }
    }
}

/// What is wrong with the disk under SQLite: as many of a thousand accesses of a kind fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileDiskFault {
    /// Opens of files.
    OpensFail(u32),
    /// Reads.
    ReadsFail(u32),
    /// Writes and truncations.
    WritesFail(u32),
    /// Syncs.
    SyncsFail(u32),
    /// Writes find room for a part of theirs at most.
    Full,
}

impl FileDiskFault {
    /// The kind, for figures.
    pub fn kind(self) -> &'static str {
        match self {
            Self::OpensFail(_) => "file disk fails opens",
            Self::ReadsFail(_) => "file disk fails reads",
            Self::WritesFail(_) => "file disk fails writes",
            Self::SyncsFail(_) => "file disk fails syncs",
            Self::Full => "file disk full",
        }
    }
}

/// What is wrong with the object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// Requests take up to this until they take effect, and as long again until they are answered.
    Slow(Duration),
    /// As many of a thousand requests are refused.
    Unavailable(u32),
    /// As many of a thousand take effect and look refused.
    UnavailableAfterEffect(u32),
    /// As many of a thousand time out after this.
    TimesOut(u32, Duration),
    /// As many of a thousand objects are gone, at once and for ever.
    Loses(u32),
}

impl StoreFault {
    /// The kind, for figures.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Slow(_) => "store slow",
            Self::Unavailable(_) => "store unavailable",
            Self::UnavailableAfterEffect(_) => "store unavailable after the effect",
            Self::TimesOut(..) => "store times out",
            Self::Loses(_) => "archive files lost",
        }
    }
}
