//! [`OpenOptions`]: how [`Database::open`](crate::Database::open) treats a file. Plain values; nothing is checked here.

use std::sync::Arc;
use std::time::Duration;

use halite_ltx::PageSize;

use crate::os::Disk;

/// How a new database gives free pages back; see `PRAGMA auto_vacuum`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoVacuum {
    /// Free pages stay in the file.
    #[default]
    None,
    /// The file shrinks at each commit.
    Full,
    /// The file shrinks on `PRAGMA incremental_vacuum`.
    Incremental,
}

impl AutoVacuum {
    pub(crate) const ALL: [AutoVacuum; 3] =
        [AutoVacuum::None, AutoVacuum::Full, AutoVacuum::Incremental];
}

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Page size of a file that has to be created; an existing file keeps its own.
    pub page_size: PageSize,
    /// Auto-vacuum mode of a file that has to be created.
    pub auto_vacuum: AutoVacuum,
    /// How long to wait for other programs to let go of the locks that conversion and the fence need.
    pub lock_timeout: Duration,
    /// What the files are on, in a simulation; `None` in production.
    pub disk: Option<Arc<dyn Disk>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            page_size: PageSize::DEFAULT,
            auto_vacuum: AutoVacuum::None,
            lock_timeout: Duration::from_secs(5),
            disk: None,
        }
    }
}
