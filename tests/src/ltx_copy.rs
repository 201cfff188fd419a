//! A copy of a database made of streamed transactions, as an edge follower would keep it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use halite_client::LtxTransaction;
use halite_ltx::{DatabaseChecksum, Decoder, PageNo, PageSize};

use crate::pages::Pages;

/// Bytes of page 1 that a position's checksum leaves out.
const MASKED: [std::ops::Range<usize>; 2] = [24..28, 92..100];

/// The pages after the transactions applied so far.
#[derive(Debug, Default)]
pub struct LtxCopy {
    txid: u64,
    checksum: u64,
    page_size: Option<PageSize>,
    pages: Vec<Vec<u8>>,
}

impl LtxCopy {
    /// The last transaction applied.
    pub fn txid(&self) -> u64 {
        self.txid
    }

    /// Applies the next transaction.
    ///
    /// # Errors
    /// It is not the next one, or not what its LTX file says.
    pub fn apply(&mut self, transaction: &LtxTransaction) -> Result<()> {
        let txid = transaction.txid;
        ensure!(
            txid == self.txid + 1,
            "transaction {txid} came after {}",
            self.txid
        );
        let mut decoder = Decoder::new(&transaction.data[..])?;
        let header = *decoder.header();
        ensure!(
            (header.min_txid.get(), header.max_txid.get()) == (txid, txid),
            "transaction {txid} carries {header:?}"
        );
        self.page_size = Some(header.page_size);
        let empty = vec![0; header.page_size.as_usize()];
        self.pages.resize(header.commit as usize, empty);
        let mut page = Vec::new();
        while let Some(pgno) = decoder.next_page(&mut page)? {
            self.pages[pgno.get() as usize - 1].clone_from(&page);
        }
        decoder.finish()?;
        (self.txid, self.checksum) = (txid, transaction.post_checksum);
        Ok(())
    }

    /// The pages have the checksum that the last transaction was said to end in. The pages as stock SQLite sees them, through `file`.
    ///
    /// # Errors
    /// They have not, or SQLite does not read them.
    pub fn check(&self, file: &Path) -> Result<Pages> {
        let page_size = self.page_size.context("nothing was applied")?;
        let mut checksum = DatabaseChecksum::new(page_size);
        for (index, page) in self.pages.iter().enumerate() {
            let mut page = page.clone();
            if index == 0 {
                for range in MASKED {
                    page[range].fill(0);
                }
            }
            checksum.add_page(PageNo::new(u32::try_from(index + 1)?), &page);
        }
        ensure!(
            checksum.value().get() == self.checksum,
            "the pages after transaction {} have checksum {}, not {:016x}",
            self.txid,
            checksum.value(),
            self.checksum
        );
        std::fs::write(file, self.pages.concat())?;
        Pages::read(file)
    }
}
