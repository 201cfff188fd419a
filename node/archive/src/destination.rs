//! [`Destination`]: a place that archive files go to and come from.
//!
//! Owns the contract that every backend keeps; backends live below, one file each. A destination holds **one** database: whoever
//! opens it gives it a URL with the database's own path. It never decides what to write or delete, and never merges anything.

use std::fmt;
use std::io::Read;

use futures::future::BoxFuture;
use halite_ltx::Txid;

pub use destinations::{Backends, Destinations};
pub use error::DestinationError;
pub use file::FileDestination;
pub use mem_destination::MemDestination;
pub use mem_store::{MemStore, StoreAction, StoreCounts, StoreFate, StoreRequest};
pub use open::open_destination;
pub(crate) use upload::header_timestamp;
pub use upload::{Content, ContentError, ContentWriter, Upload};
pub use url::{DestinationUrl, UrlError};

use crate::{FileInfo, FileKey, Level, Target};

mod destinations;
mod error;
mod file;
mod mem_destination;
mod mem_store;
mod open;
mod upload;
mod url;

/// Content of a file. **Reads may block**: use it only inside [`run_blocking`](crate::run_blocking).
pub type FileReader = Box<dyn Read + Send>;

/// A place for archive files of one database.
pub trait Destination: Send + Sync + fmt::Debug {
    /// Where it is, for logs and errors; without secrets.
    fn url(&self) -> &str;

    /// The files of a level whose first transaction is `seek` or later, in the order of (min, max).
    ///
    /// Names that are no LTX file names are left out. A level that does not exist is empty.
    ///
    /// # Errors
    /// [`DestinationError::Io`], [`DestinationError::Stopped`].
    fn list(
        &self,
        level: Level,
        seek: Txid,
    ) -> BoxFuture<'_, Result<Vec<FileInfo>, DestinationError>>;

    /// The same files with the timestamps that are in them, where the destination's own may be wrong: a directory that was copied has new ones.
    ///
    /// A file whose header cannot be read keeps what it has.
    ///
    /// # Errors
    /// [`DestinationError::Io`], [`DestinationError::Stopped`].
    fn dated(
        &self,
        files: Vec<FileInfo>,
    ) -> BoxFuture<'_, Result<Vec<FileInfo>, DestinationError>> {
        Box::pin(std::future::ready(Ok(files)))
    }

    /// Opens a file at byte `offset`, for `len` bytes (`None`: to its end). A range past the end gives what there is.
    ///
    /// # Errors
    /// [`DestinationError::NotFound`] if it is not there (any more), [`DestinationError::Io`], [`DestinationError::Stopped`].
    fn open(
        &self,
        key: FileKey,
        offset: u64,
        len: Option<u64>,
    ) -> BoxFuture<'_, Result<FileReader, DestinationError>>;

    /// Stores a file under its name, whole or not at all, and keeps its timestamp beside it.
    ///
    /// A file that is already there with the same bytes is a success, so that an upload can be repeated; with other bytes it stays
    /// as it is. When this returns `Ok`, the file is durable.
    ///
    /// # Errors
    /// [`DestinationError::Conflict`] if the file is there with other bytes, [`DestinationError::Content`] if the content could
    /// not be produced, [`DestinationError::Busy`], [`DestinationError::Io`], [`DestinationError::Stopped`].
    fn put(&self, upload: Upload) -> BoxFuture<'_, Result<FileInfo, DestinationError>>;

    /// Removes files; those that are not there are no error.
    ///
    /// # Errors
    /// [`DestinationError::Io`] at the first file that cannot be removed, [`DestinationError::Stopped`].
    fn delete(&self, keys: Vec<FileKey>) -> BoxFuture<'_, Result<(), DestinationError>>;
}

/// The files of all levels.
///
/// Levels are listed from the lowest up: transactions only ever move upwards, and a merged file is stored before its parts are deleted,
/// so each transaction is seen at least once however the archive changes meanwhile.
///
/// # Errors
/// What [`Destination::list`] gives.
pub async fn list_all(destination: &dyn Destination) -> Result<Vec<FileInfo>, DestinationError> {
    let mut files = Vec::new();
    for level in Level::all() {
        files.append(&mut destination.list(level, Txid::ZERO).await?);
    }
    Ok(files)
}

/// The files from which a restore to `target` is planned: all, with exact times if it goes by time.
///
/// # Errors
/// What [`Destination::list`] gives.
pub async fn list_for(
    destination: &dyn Destination,
    target: Target,
) -> Result<Vec<FileInfo>, DestinationError> {
    let files = list_all(destination).await?;
    match target {
        Target::Timestamp(_) => destination.dated(files).await,
        Target::Latest | Target::Txid(_) => Ok(files),
    }
}
