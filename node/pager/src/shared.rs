//! [`Shared`]: what all connections to one database file have in common. Owned by the registry and by each open file of the
//! shim; holds no connection. Lock order: `transaction`, then what [`FileState`] says.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fence::Fence;
use crate::file_state::FileState;
use crate::os::Disk;
use crate::write_transaction::WriteTransaction;

/// See the module.
pub(crate) struct Shared {
    pub(crate) file: FileState,
    pub(crate) fence: Fence,
    pub(crate) transaction: Mutex<WriteTransaction>,
    /// What the files are on, if it is not the machine's own disk.
    pub(crate) disk: Option<Arc<dyn Disk>>,
}

impl Shared {
    pub(crate) fn new(path: PathBuf, disk: Option<Arc<dyn Disk>>) -> Self {
        Shared {
            file: FileState::new(path),
            fence: Fence::default(),
            transaction: Mutex::new(WriteTransaction::default()),
            disk,
        }
    }
}
