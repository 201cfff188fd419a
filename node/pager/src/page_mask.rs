//! The mask over page 1: which bytes differ between nodes at equal position, and the page checksum that leaves them out.
//! Pure; called wherever a page checksum is computed or page 1 is compared.

use std::ops::Range;

use halite_ltx::{Checksum, PageNo, page_checksum};

/// Bytes of page 1 that SQLite rewrites by itself at each commit: the change counter, and the version-valid-for and
/// library-version fields (<https://www.sqlite.org/fileformat2.html#the_database_header>).
pub(crate) const MASKED: [Range<usize>; 2] = [24..28, 92..100];

/// Sets the masked bytes of page 1 to zero.
pub(crate) fn mask(page_one: &mut [u8]) {
    for range in MASKED {
        page_one[range].fill(0);
    }
}

/// Checksum of a page as a database's position counts it: [`page_checksum`] of the content, the masked bytes of page 1
/// (24..28 and 92..100) taken as zero.
pub fn masked_page_checksum(pgno: PageNo, data: &[u8]) -> Checksum {
    if pgno != PageNo::FIRST || data.len() < MASKED[1].end {
        return page_checksum(pgno, data);
    }
    let mut masked = data.to_vec();
    mask(&mut masked);
    page_checksum(pgno, &masked)
}
