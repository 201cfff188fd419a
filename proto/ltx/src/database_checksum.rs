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

#[cfg(test)]
mod tests {
    use super::*;

    /// The algorithm bit by bit, as a second opinion.
    fn slow_crc64(data: &[u8]) -> u64 {
        let mut crc = u64::MAX;
        for byte in data {
            crc ^= u64::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ 0xd800_0000_0000_0000
                } else {
                    crc >> 1
                };
            }
        }
        !crc
    }

    #[test]
    fn check_value_of_the_algorithm() {
        assert_eq!(slow_crc64(b"123456789"), 0xb909_56c7_75a4_1001);
        let mut crc = Crc64::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.checksum().get(), 0xb909_56c7_75a4_1001);
    }

    #[test]
    fn page_checksum_covers_number_and_content() {
        for len in [
            0, 1, 15, 16, 17, 127, 128, 129, 255, 256, 257, 511, 512, 4096, 65536,
        ] {
            let data: Vec<u8> = (0..len).map(|at: u32| (at * 7 + at / 251) as u8).collect();
            let mut input = 0x0102_0304u32.to_be_bytes().to_vec();
            input.extend_from_slice(&data);
            let expected = Checksum::new(slow_crc64(&input));
            assert_eq!(
                page_checksum(PageNo::new(0x0102_0304), &data),
                expected,
                "len={len}"
            );
        }
    }

    #[test]
    fn fold_forgets_removed_pages_and_skips_the_lock_page() {
        let size = PageSize::DEFAULT;
        let mut fold = DatabaseChecksum::new(size);
        assert_eq!(fold.value(), Checksum::EMPTY);
        let one = fold.add_page(PageNo::new(1), &[1; 4096]);
        assert_eq!(fold.value(), one);
        let two = fold.add_page(PageNo::new(2), &[2; 4096]);
        assert_eq!(fold.value(), Checksum::new(one.get() ^ two.get()));
        fold.add_page(size.lock_page(), &[3; 4096]);
        fold.remove(PageNo::new(1), one);
        assert_eq!(fold.value(), two);
        fold.remove(PageNo::new(2), two);
        assert_eq!(fold.value(), Checksum::EMPTY);
    }
}
