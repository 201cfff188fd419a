//! [`merged_upload`]: makes one file of several.
//!
//! Owns the way from a [`Merge`] to a stored file. All sources are open at once and read as they are needed: memory is one page and one
//! buffer each, and the page index of what is written. Nothing is stored unless the checksums of all sources are right.

use std::sync::Arc;

use halite_ltx::{CompactError, Compactor, DecodeError, Txid};

use crate::destination::header_timestamp;
use crate::ltx_reader::{LtxReader, LtxReaderError};
use crate::{
    Blocking, BlockingStopped, Content, Destination, DestinationError, FileKey, Merge, Upload,
    run_blocking,
};

/// Why files were not merged. Nothing has been stored then, but for a request to the destination that had its effect all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The destination failed, or has lost a source.
    #[error(transparent)]
    Destination(DestinationError),
    /// A source is damaged, cut off or not readable.
    #[error("archive file is not readable: {source} file={key}")]
    Source {
        /// The source.
        key: FileKey,
        /// What is wrong, and where.
        source: DecodeError,
    },
    /// A source holds other transactions than its name says.
    #[error(
        "archive file holds other transactions than its name says file={key} min_txid={min} max_txid={max}"
    )]
    SourceName {
        /// The name.
        key: FileKey,
        /// First transaction in the file.
        min: Txid,
        /// Last transaction in the file.
        max: Txid,
    },
    /// The sources do not fit together.
    #[error("archive files cannot be merged: {0}")]
    Merge(#[source] CompactError),
}

impl MergeError {
    /// The source that is not what it should be, if that is why: no other try will do better.
    pub fn damaged(&self) -> Option<FileKey> {
        match self {
            MergeError::Source { key, source } if !source.is_io() => Some(*key),
            MergeError::SourceName { key, .. } => Some(*key),
            _ => None,
        }
    }
}

impl From<DestinationError> for MergeError {
    /// What a merge says while its file is stored comes back through the destination.
    fn from(error: DestinationError) -> Self {
        match error {
            DestinationError::Content { key, source } => match source.downcast() {
                Ok(merge) => *merge,
                Err(source) => MergeError::Destination(DestinationError::Content { key, source }),
            },
            error => MergeError::Destination(error),
        }
    }
}

impl From<BlockingStopped> for MergeError {
    fn from(stopped: BlockingStopped) -> Self {
        DestinationError::from(stopped).into()
    }
}

/// Opens the files of a merge. The new file is produced while it is stored; if a source turns out to be damaged then, nothing is stored, and
/// [`MergeError::from`] the destination's error names the source. The same sources give the same bytes, so that it can be repeated.
///
/// # Errors
/// [`MergeError`].
pub async fn merged_upload(
    destination: &dyn Destination,
    merge: &Merge,
    blocking: &dyn Blocking,
) -> Result<Upload, MergeError> {
    let opened = merge.sources.iter().map(|file| async {
        let reader = destination.open(file.key, 0, None).await?;
        Ok::<_, DestinationError>((file.key, reader))
    });
    let opened = futures::future::try_join_all(opened).await?;
    let keys: Vec<FileKey> = merge.sources.iter().map(|file| file.key).collect();
    let keys_of_readers = keys.clone();
    let compactor = run_blocking(blocking, move || {
        let bytes_read = Arc::default();
        let readers = opened.into_iter().map(|(key, reader)| {
            LtxReader::open(key, reader, Arc::clone(&bytes_read))
                .map_err(|error| unreadable(key, error))
        });
        let readers = readers.collect::<Result<Vec<_>, _>>()?;
        Compactor::new(readers).map_err(|error| unmergeable(&keys_of_readers, error))
    });
    let compactor = compactor.await??;
    Ok(Upload {
        key: merge.key(),
        timestamp: header_timestamp(compactor.header()),
        content: Content::Writer(Box::new(move |writer| {
            let written = compactor.write_to(writer);
            written.map_err(|error| unmergeable(&keys, error))?;
            Ok(())
        })),
    })
}

fn unreadable(key: FileKey, error: LtxReaderError) -> MergeError {
    match error {
        LtxReaderError::Decode(source) => MergeError::Source { key, source },
        LtxReaderError::Name { min, max } => MergeError::SourceName { key, min, max },
    }
}

fn unmergeable(keys: &[FileKey], error: CompactError) -> MergeError {
    match error {
        CompactError::Decode { input, source } => MergeError::Source {
            key: keys[input],
            source,
        },
        error => MergeError::Merge(error),
    }
}
