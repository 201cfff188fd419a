//! The scrubber: finds pages whose bytes are no longer those that were committed. Reads only; repairs nothing.

use std::sync::Arc;

use halite_ltx::PageNo;

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
