//! [`DatabaseChecksum`] and [`page_checksum`]: checksums over database content.
//!
//! Owns the fold rule (xor, bit 63, lock page left out). Called by whoever tracks a position; keeps no pages.

use crate::crc64::Crc64;
use crate::{Checksum, PageNo, PageSize};

/// Checksum of one page: CRC-64/GO-ISO over the page number (big-endian) and the content, bit 63 set.
pub fn page_checksum(pgno: PageNo, data: &[u8]) -> Checksum {
    let mut crc = Crc64::new();
    crc.update(&pgno.get().to_be_bytes());
    crc.update(data);
    crc.checksum()
}

/// Checksum of a whole database, kept up to date page by page: the xor of the page checksums with bit 63 set.
///
/// Since xor undoes itself, a changed page costs one [`remove`](Self::remove) of its old and one [`add`](Self::add) of its new
/// checksum. The lock page counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseChecksum {
    lock_page: PageNo,
    value: Checksum,
}

impl DatabaseChecksum {
    /// Checksum of a database without pages.
    pub const fn new(page_size: PageSize) -> Self {
        Self::resume(page_size, Checksum::EMPTY)
    }

    /// Goes on from a value that [`value`](Self::value) gave earlier.
    pub const fn resume(page_size: PageSize, value: Checksum) -> Self {
        DatabaseChecksum {
            lock_page: page_size.lock_page(),
            value,
        }
    }

    /// Adds a page that was not there before.
    pub fn add(&mut self, pgno: PageNo, checksum: Checksum) {
        if pgno != self.lock_page {
            self.value = Checksum::new(self.value.get() ^ checksum.get());
        }
    }

    /// Takes out a page: `checksum` is what was added for it.
    pub fn remove(&mut self, pgno: PageNo, checksum: Checksum) {
        self.add(pgno, checksum);
    }

    /// Computes a page's checksum, adds it and returns it.
    pub fn add_page(&mut self, pgno: PageNo, data: &[u8]) -> Checksum {
        let checksum = page_checksum(pgno, data);
        self.add(pgno, checksum);
        checksum
    }

    /// The checksum of the pages added and not removed.
    pub const fn value(&self) -> Checksum {
        self.value
    }
}
