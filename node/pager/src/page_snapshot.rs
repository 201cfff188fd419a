//! [`PageSnapshot`]: all pages of one committed state, with their checksums. Owns a read transaction; used for page diffs,
//! snapshots for the archive, and the scrubber.

use std::sync::Arc;

use halite_ltx::{Checksum, PageNo, PageSize};
use rusqlite::Connection;

use crate::checksum_table::ChecksumTable;
use crate::connection;
use crate::database::Database;
use crate::error::PagerError;

/// The database at one moment. It stays the same however much is written meanwhile.
pub struct PageSnapshot {
    // Closed before the database is let go.
    connection: Connection,
    checksums: Vec<u64>,
    checksum: Checksum,
    database: Arc<Database>,
}

impl Database {
    /// Takes a snapshot: the pages and their checksums at one moment between two transactions. While it lives, checkpoints are
    /// partial.
    pub fn snapshot(self: &Arc<Self>) -> Result<PageSnapshot, PagerError> {
        PageSnapshot::take(Arc::clone(self))
    }
}

impl PageSnapshot {
    fn take(database: Arc<Database>) -> Result<Self, PagerError> {
        let connection = connection::read_only(database.path())?;
        connection::tolerate_bad_schema(&connection)?;
        let (checksums, checksum) = begin(&database, &connection, |table| {
            let all = table.map(|table| table.pages().to_vec());
            let checksum = table.map_or(Checksum::EMPTY, ChecksumTable::checksum);
            (all.unwrap_or_default(), checksum)
        })?;
        Ok(PageSnapshot {
            connection,
            checksums,
            checksum,
            database,
        })
    }

    /// Page size of the database.
    pub fn page_size(&self) -> PageSize {
        self.database.page_size()
    }

    /// Size in pages; 0 for a blank database.
    pub fn page_count(&self) -> u32 {
        u32::try_from(self.checksums.len()).expect("SQLite has at most 2^32 - 2 pages")
    }

    /// Database checksum of this state.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The checksum of each page, page 1 first; the lock page has [`Checksum::EMPTY`].
    pub fn page_checksums(&self) -> impl ExactSizeIterator<Item = Checksum> + '_ {
        self.checksums.iter().map(|&value| Checksum::new(value))
    }

    /// The checksum of one page; `None` beyond the last one.
    pub fn page_checksum(&self, pgno: PageNo) -> Option<Checksum> {
        let at = pgno.get().checked_sub(1)?;
        let value = self.checksums.get(at as usize)?;
        Some(Checksum::new(*value))
    }

    /// Reads a page into `buffer`, which gets its length. The lock page reads as zeros.
    pub fn read_page(&self, pgno: PageNo, buffer: &mut Vec<u8>) -> Result<(), PagerError> {
        let page_count = self.page_count();
        if pgno.get() == 0 || pgno.get() > page_count {
            return Err(PagerError::NoSuchPage { pgno, page_count });
        }
        match read_page(&self.connection, pgno, buffer)? {
            true => Ok(()),
            false => Err(PagerError::NoSuchPage { pgno, page_count }),
        }
    }
}

/// Begins a read transaction; what `take` takes of the checksums of the same moment. It is given none for a blank database.
pub(crate) fn begin<T>(
    database: &Database,
    connection: &Connection,
    take: impl FnOnce(Option<&ChecksumTable>) -> T,
) -> Result<T, PagerError> {
    // Nothing becomes visible while this is held, so the read transaction sees what the table tells.
    let committed = database.shared.file.stable();
    connection.execute_batch("BEGIN")?;
    connection.query_row(
        "SELECT count(*) FROM sqlite_dbpage WHERE pgno = 1",
        [],
        |_| Ok(()),
    )?;
    Ok(take(committed.as_ref().map(|state| &state.table)))
}

/// Reads a page into `buffer`, which gets its length. False if there is none of this number.
pub(crate) fn read_page(
    connection: &Connection,
    pgno: PageNo,
    buffer: &mut Vec<u8>,
) -> Result<bool, PagerError> {
    let mut page = connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
    let mut rows = page.query([pgno.get()])?;
    let Some(row) = rows.next()? else {
        return Ok(false);
    };
    let data = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
    buffer.clear();
    buffer.extend_from_slice(data);
    Ok(true)
}

impl std::fmt::Debug for PageSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageSnapshot")
            .field("path", &self.database.path())
            .field("page_count", &self.checksums.len())
            .field("checksum", &self.checksum)
            .finish_non_exhaustive()
    }
}
