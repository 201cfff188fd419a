//! Snapshots: a whole database as one level-9 file.
//!
//! Owns the way from a source of pages to an [`Upload`]; knows nothing of where pages come from. Called by the archiver when it
//! cannot start at TXID 1, and for bootstraps.

use std::io::{self, Write};

use halite_ltx::{Encoder, Header, HeaderError, PageNo, PageSize, Txid};

use crate::destination::header_timestamp;
use crate::{
    Content, ContentError, Destination, DestinationError, FileInfo, FileKey, Level, Upload,
};

/// What a snapshot is a picture of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// Size of the database's pages.
    pub page_size: PageSize,
    /// Size of the database in pages (the lock page counted, as SQLite does).
    pub commit: u32,
    /// The last transaction that is in it.
    pub txid: Txid,
    /// When that transaction was written, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Gives the pages of one state of a database.
pub trait PageSource: Send {
    /// Fills `page` (exactly one page long) with page `pgno`. Asked for every page but the lock page, ascending. May block.
    ///
    /// # Errors
    /// Whatever keeps it from reading: the snapshot is given up.
    fn read_page(&mut self, pgno: PageNo, page: &mut [u8]) -> io::Result<()>;
}

impl<F: FnMut(PageNo, &mut [u8]) -> io::Result<()> + Send> PageSource for F {
    fn read_page(&mut self, pgno: PageNo, page: &mut [u8]) -> io::Result<()> {
        self(pgno, page)
    }
}

/// The level-9 file `1-txid` with the pages of `source`, produced while it is stored. Memory: one page and the page index.
///
/// # Errors
/// [`HeaderError`] if the specification is not that of a database (TXID 0).
pub fn snapshot_upload(
    spec: SnapshotSpec,
    source: impl PageSource + 'static,
) -> Result<Upload, HeaderError> {
    let first = Txid::new(1);
    let header = Header::new(
        spec.page_size,
        spec.commit,
        first,
        spec.txid,
        spec.timestamp_ms,
    );
    header.validate()?;
    Ok(Upload {
        key: FileKey::new(Level::SNAPSHOT, first, spec.txid),
        timestamp: header_timestamp(&header),
        content: Content::Writer(Box::new(move |writer| {
            write_snapshot(header, source, writer)
        })),
    })
}

/// Stores the snapshot at `destination`.
///
/// # Errors
/// [`DestinationError::Content`] if the specification is wrong or a page cannot be read, and what [`Destination::put`] gives.
pub async fn put_snapshot(
    destination: &dyn Destination,
    spec: SnapshotSpec,
    source: impl PageSource + 'static,
) -> Result<FileInfo, DestinationError> {
    let upload = snapshot_upload(spec, source).map_err(|error| DestinationError::Content {
        key: FileKey::new(Level::SNAPSHOT, Txid::new(1), spec.txid),
        source: error.into(),
    })?;
    destination.put(upload).await
}

fn write_snapshot(
    header: Header,
    mut source: impl PageSource,
    writer: &mut dyn Write,
) -> Result<(), ContentError> {
    let mut encoder = Encoder::new(writer, header)?;
    let mut page = vec![0; header.page_size.as_usize()];
    let lock_page = header.page_size.lock_page();
    for pgno in (1..=header.commit)
        .map(PageNo::new)
        .filter(|pgno| *pgno != lock_page)
    {
        source.read_page(pgno, &mut page)?;
        encoder.encode_page(pgno, &page)?;
    }
    encoder.finish(None)?;
    Ok(())
}
