//! [`PageNo`]: the number of a database page. Owns nothing but the number; bounds are checked where a header is at hand.

use std::fmt;

/// Number of a database page, counted from 1 as SQLite does.
///
/// Zero can be held (it is the end marker of a page block on disk) but the encoder refuses it and the decoder never
/// returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(u32);

impl PageNo {
    /// The first page of every database: it holds SQLite's file header.
    pub const FIRST: PageNo = PageNo(1);

    /// Wraps a number; see the type for the meaning of zero.
    pub const fn new(value: u32) -> Self {
        PageNo(value)
    }

    /// The bare number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Byte offset of this page in a database file; page 1 (and the invalid page 0) start at 0.
    pub const fn offset(self, page_size: crate::PageSize) -> u64 {
        (self.0 as u64).saturating_sub(1) * page_size.get() as u64
    }
}

impl fmt::Display for PageNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
