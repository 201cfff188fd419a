//! [`PageSize`]: a page size SQLite can have. Owns the validity rule and the place of the lock page.

use std::fmt;

use crate::PageNo;

/// Size of a database page in bytes: a power of two from 512 to 65536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

/// A number that is no page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid page size: must be a power of two from 512 to 65536 page_size={0}")]
pub struct InvalidPageSize(pub u32);

impl PageSize {
    /// The smallest page size, 512 bytes.
    pub const MIN: PageSize = PageSize(512);
    /// SQLite's default page size, 4096 bytes.
    pub const DEFAULT: PageSize = PageSize(4096);
    /// The largest page size, 65536 bytes.
    pub const MAX: PageSize = PageSize(65536);

    /// Bytes in a page.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Bytes in a page, for slices.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// The page that holds SQLite's lock bytes (at 1 GiB). It has no content and is in no LTX file and no checksum.
    pub const fn lock_page(self) -> PageNo {
        PageNo::new(0x4000_0000 / self.0 + 1)
    }
}

impl TryFrom<u32> for PageSize {
    type Error = InvalidPageSize;

    fn try_from(value: u32) -> Result<Self, InvalidPageSize> {
        if value.is_power_of_two() && (Self::MIN.0..=Self::MAX.0).contains(&value) {
            Ok(PageSize(value))
        } else {
            Err(InvalidPageSize(value))
        }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_page_of_each_size() {
        let expected = [
            (512, 2_097_153),
            (1024, 1_048_577),
            (4096, 262_145),
            (8192, 131_073),
            (65536, 16_385),
        ];
        for (size, lock) in expected {
            assert_eq!(
                PageSize::try_from(size).unwrap().lock_page(),
                PageNo::new(lock)
            );
        }
    }

    #[test]
    fn only_powers_of_two_in_range_are_sizes() {
        for size in [0, 1, 256, 511, 513, 1000, 4095, 65535, 131_072, u32::MAX] {
            assert_eq!(PageSize::try_from(size), Err(InvalidPageSize(size)));
        }
    }
}
