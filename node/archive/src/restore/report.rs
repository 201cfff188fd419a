//! [`RestoreReport`]: what a restore did.

use std::time::Duration;

use halite_ltx::{PageSize, Txid};
use jiff::Timestamp;

/// What a restore did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The last transaction in the database.
    pub txid: Txid,
    /// The timestamp of that transaction's file.
    pub timestamp: Timestamp,
    /// Size of the database in pages.
    pub pages: u32,
    /// Size of a page.
    pub page_size: PageSize,
    /// Archive bytes read.
    pub read_bytes: u64,
    /// Archive files merged.
    pub files: usize,
    /// From the call to the durable file.
    pub duration: Duration,
}

impl RestoreReport {
    /// Size of the database in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_size.get())
    }
}
