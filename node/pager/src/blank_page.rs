//! The one page of a database that holds nothing yet. Pure bytes; called at creation, at open and when an apply goes back to
//! the empty state.
//!
//! SQLite cannot keep an empty file in WAL mode, so a blank database has one physical page, the same bytes on every node. The
//! position of a blank database is the agreed empty state: zero pages. A file counts as blank if it has exactly this page.

use halite_ltx::PageSize;

use crate::AutoVacuum;
use crate::page_mask::mask;

/// Where the b-tree header of page 1 starts.
const BTREE_HEADER: usize = 100;

/// Page 1 of an empty database in WAL mode, as SQLite itself would write it, with fixed masked bytes.
pub(crate) fn blank_page(page_size: PageSize, auto_vacuum: AutoVacuum) -> Vec<u8> {
    let mut page = vec![0u8; page_size.as_usize()];
    page[..16].copy_from_slice(b"SQLite format 3\0");
    // 65536 does not fit the field and is stored as 1.
    let stored_size = u16::try_from(page_size.get()).unwrap_or(1);
    page[16..18].copy_from_slice(&stored_size.to_be_bytes());
    page[18] = 2; // write version: WAL
    page[19] = 2; // read version: WAL
    page[21..24].copy_from_slice(&[64, 32, 32]); // payload fractions, fixed by the format
    page[24..28].copy_from_slice(&1u32.to_be_bytes()); // change counter
    page[28..32].copy_from_slice(&1u32.to_be_bytes()); // size in pages
    page[92..96].copy_from_slice(&1u32.to_be_bytes()); // the change counter that the size is valid for
    let (largest_root, incremental) = match auto_vacuum {
        AutoVacuum::None => (0u32, 0u32),
        AutoVacuum::Full => (1, 0),
        AutoVacuum::Incremental => (1, 1),
    };
    page[52..56].copy_from_slice(&largest_root.to_be_bytes());
    page[64..68].copy_from_slice(&incremental.to_be_bytes());
    page[BTREE_HEADER] = 0x0d; // leaf of a table b-tree
    // Start of the cell content area: the end of the page; 65536 is stored as 0.
    let content = u16::try_from(page_size.get()).unwrap_or(0);
    page[BTREE_HEADER + 5..BTREE_HEADER + 7].copy_from_slice(&content.to_be_bytes());
    page
}

/// True if `page_one` is the page of a blank database, of whatever auto-vacuum mode.
pub(crate) fn is_blank(page_size: PageSize, page_one: &[u8]) -> bool {
    let mut found = page_one.to_vec();
    if found.len() != page_size.as_usize() {
        return false;
    }
    mask(&mut found);
    AutoVacuum::ALL.iter().any(|&mode| {
        let mut blank = blank_page(page_size, mode);
        mask(&mut blank);
        blank == found
    })
}
