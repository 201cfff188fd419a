//! The scrubber: finds pages whose bytes are no longer those that were committed. Reads only; repairs nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use halite_ltx::{Checksum, PageNo};
use libsqlite3_sys as ffi;
use rusqlite::Connection;

use crate::checksum_table::ChecksumTable;
use crate::database::Database;
use crate::error::PagerError;
use crate::page_mask::masked_page_checksum;
use crate::page_snapshot::{self, PageSnapshot};

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Pages read.
    pub pages: u32,
    /// Pages whose content does not have its checksum, or could not be read; ascending.
    pub damaged: Vec<PageNo>,
}

impl Database {
    /// Whether something was read that is not what was committed, or may be; it is forgotten by being asked.
    pub fn take_suspicion(&self) -> bool {
        self.shared.file.suspect.swap(false, Ordering::SeqCst)
    }

    /// SQLite has refused what it read. Somebody has to look into it.
    pub fn suspect(&self) {
        self.shared.file.suspect.store(true, Ordering::SeqCst);
    }

    /// Reads all pages, and counts those that are damaged as what they are: from then on the checksums say what is in the file, and whoever
    /// compares them with those of another node sees which pages to pull. Nobody may commit meanwhile.
    pub fn own_up_to_damage(self: &Arc<Self>) -> Result<ScrubReport, PagerError> {
        let snapshot = self.snapshot()?;
        let report = scrub(&snapshot)?;
        let mut buffer = Vec::new();
        let found = report.damaged.iter().map(|&pgno| {
            let read = snapshot.read_page(pgno, &mut buffer);
            // What cannot be read is none of the contents that a page can have.
            let checksum = read.map_or(Checksum::EMPTY, |()| masked_page_checksum(pgno, &buffer));
            (pgno, checksum)
        });
        let found: Vec<_> = found.collect();
        if let Some(state) = self.shared.file.stable().as_mut() {
            let page_count = state.table.page_count();
            state.table.update(page_count, &found);
        }
        Ok(report)
    }

    /// Reads up to `pages` pages from this one on, from the disk, and compares them to their checksums; what differs is suspected. Where to go
    /// on: behind the last page that is page 1.
    ///
    /// # Errors
    /// No page could be read at all.
    pub fn scrub_some(&self, from: PageNo, pages: u32) -> Result<PageNo, PagerError> {
        // A connection that was opened after somebody has removed the WAL would read another one.
        let keeper = self.keeper.lock();
        let keeper = keeper.as_ref().ok_or(PagerError::File {
            code: ffi::SQLITE_MISUSE,
        })?;
        let next = self.scrub_by(keeper, from, pages);
        if !keeper.is_autocommit() {
            keeper.execute_batch("ROLLBACK")?;
        }
        // What it remembers of them would be compared the next time, and not the disk.
        keeper.execute_batch("PRAGMA shrink_memory")?;
        next
    }

    fn scrub_by(
        &self,
        keeper: &Connection,
        from: PageNo,
        pages: u32,
    ) -> Result<PageNo, PagerError> {
        let expected = page_snapshot::begin(self, keeper, |table| {
            let all = table.map_or(&[][..], ChecksumTable::pages);
            let rest = all.get(from.get() as usize - 1..).unwrap_or_default();
            rest[..rest.len().min(pages as usize)].to_vec()
        })?;
        let mut buffer = Vec::new();
        for (number, &expected) in (from.get()..).zip(&expected) {
            let pgno = PageNo::new(number);
            if pgno == self.page_size().lock_page() {
                continue;
            }
            // A disk that does not answer now may do so the next time: what it refuses whoever needs it is told.
            let Ok(found) = page_snapshot::read_page(keeper, pgno, &mut buffer) else {
                continue;
            };
            if !is_intact(Ok(found), pgno, &buffer, Checksum::new(expected))? {
                self.suspect();
            }
        }
        let goes_on = expected.len() == pages as usize;
        Ok(PageNo::new(if goes_on { from.get() + pages } else { 1 }))
    }

    /// Reads all pages and compares them to their checksums.
    pub fn scrub(self: &Arc<Self>) -> Result<ScrubReport, PagerError> {
        scrub(&self.snapshot()?)
    }
}

/// Reads all pages of a snapshot and compares them to the table.
fn scrub(snapshot: &PageSnapshot) -> Result<ScrubReport, PagerError> {
    let lock_page = snapshot.page_size().lock_page();
    let mut report = ScrubReport::default();
    let mut buffer = Vec::new();
    for (number, expected) in (1u32..).zip(snapshot.page_checksums()) {
        let pgno = PageNo::new(number);
        if pgno == lock_page {
            continue;
        }
        let read = snapshot.read_page(pgno, &mut buffer).map(|()| true);
        report.pages += 1;
        if !is_intact(read, pgno, &buffer, expected)? {
            report.damaged.push(pgno);
        }
    }
    Ok(report)
}

/// Whether a page that was read, or was not there, is what it has to be.
fn is_intact(
    read: Result<bool, PagerError>,
    pgno: PageNo,
    page: &[u8],
    expected: Checksum,
) -> Result<bool, PagerError> {
    match read {
        Ok(found) => Ok(found && masked_page_checksum(pgno, page) == expected),
        // A page that the disk or SQLite refuses to give is damage, not the end of the scrub.
        Err(PagerError::Sqlite(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
