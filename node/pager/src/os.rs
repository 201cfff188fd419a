//! What lies below the shim: open files of SQLite's own VFS, the wal-index in their shared memory, and the seam where a simulation puts a
//! disk of its own. Called by everything above; it knows nothing of transactions, gates or databases.

mod disk;
mod file_key;
mod lower_file;
mod os_file;
mod wal_index;

pub use disk::{Disk, DiskFile};
pub use file_key::{FileKey, FileKind};
pub use os_file::OsFile;
pub use wal_index::WalState;

pub use file_key::beside;
pub(crate) use lower_file::{LOWER_VFS, LowerFile};
pub(crate) use wal_index::{FRAME_HEADER_BYTES, WAL_HEADER_BYTES, WalIndex, frame_offset};
