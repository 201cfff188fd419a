//! [`RestoreOptions`]: what a caller may ask of a restore.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::{Blocking, ThreadPool};

/// How far a restore is. Counts start over if the plan has to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Archive bytes read.
    pub read_bytes: u64,
    /// Archive bytes to be read, by the listing.
    pub read_bytes_total: u64,
    /// Pages written. With more files than are merged at once, a page can be written more than once.
    pub pages: u64,
}

/// Told about the progress about once per mebibyte written and at the end, from the thread that does the work.
pub type ProgressHook = Arc<dyn Fn(Progress) + Send + Sync>;

/// Looks at the restored database before it gets its name; an error gives the restore up.
///
/// Gets the path of the temporary file. Files that SQLite leaves beside it are removed. It may block.
pub type CheckHook = Box<dyn FnOnce(&Path) -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

/// What a caller may ask of a restore.
pub struct RestoreOptions {
    /// Replace a database that is there, and remove its `-wal`, `-shm` and `-journal`.
    pub force: bool,
    /// An integrity check.
    pub check: Option<CheckHook>,
    /// Who is told about the progress.
    pub progress: Option<ProgressHook>,
    /// Where file calls and decoding run.
    pub blocking: Arc<dyn Blocking>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions {
            force: false,
            check: None,
            progress: None,
            blocking: Arc::new(ThreadPool),
        }
    }
}

impl fmt::Debug for RestoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreOptions")
            .field("force", &self.force)
            .field("check", &self.check.is_some())
            .field("progress", &self.progress.is_some())
            .field("blocking", &self.blocking)
            .finish()
    }
}
