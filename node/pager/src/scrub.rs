//! The scrubber: finds pages whose bytes are no longer those that were committed. Reads only; repairs nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use halite_ltx::{Checksum, PageNo};

use crate::database::Database;
use crate::error::PagerError;
use crate::page_mask::masked_page_checksum;
use crate::page_snapshot::PageSnapshot;

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
        let intact = match snapshot.read_page(pgno, &mut buffer) {
            Ok(()) => masked_page_checksum(pgno, &buffer) == expected,
            // A page that the disk or SQLite refuses to give is damage, not the end of the scrub.
            Err(PagerError::Sqlite(_)) => false,
            Err(error) => return Err(error),
        };
        report.pages += 1;
        if !intact {
            report.damaged.push(pgno);
        }
    }
    Ok(report)
}
