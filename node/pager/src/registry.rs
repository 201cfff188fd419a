//! The databases open in this process, by absolute path. Owned here, filled by `Database::open`, read by the shim when SQLite
//! opens a file. A file that is not registered cannot be opened through the shim.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::os::Disk;
use crate::shared::Shared;

static OPEN: Mutex<Option<HashMap<PathBuf, Arc<Shared>>>> = Mutex::new(None);

/// Enters a database; `None` if its path is taken.
pub(crate) fn enter(path: &Path, disk: Option<Arc<dyn Disk>>) -> Option<Arc<Shared>> {
    let mut open = OPEN.lock();
    let open = open.get_or_insert_default();
    if open.contains_key(path) || open.keys().any(|other| same_file(other, path)) {
        return None;
    }
    let shared = Arc::new(Shared::new(path.to_owned(), disk));
    open.insert(path.to_owned(), Arc::clone(&shared));
    Some(shared)
}

/// Removes a database.
pub(crate) fn leave(path: &Path) {
    if let Some(open) = OPEN.lock().as_mut() {
        open.remove(path);
    }
}

/// The database with this path.
pub(crate) fn find(path: &Path) -> Option<Arc<Shared>> {
    OPEN.lock().as_ref()?.get(path).map(Arc::clone)
}

/// True if a path names a registered database, be it through a link.
pub(crate) fn contains(path: &Path) -> bool {
    OPEN.lock().as_ref().is_some_and(|open| {
        open.keys()
            .any(|other| other == path || same_file(other, path))
    })
}

/// True if both exist and are one file under two names (hard links, bind mounts).
fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}
