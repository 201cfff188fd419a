//! [`ChecksumTable`]: one checksum per page and their fold. Pure; owned by the database's shared state, changed only when a
//! transaction has been published.

use halite_ltx::{Checksum, DatabaseChecksum, PageNo, PageSize};

/// The page checksums of one committed state. Eight bytes per page; an update costs as much as it touches pages.
#[derive(Clone, Debug)]
pub(crate) struct ChecksumTable {
    page_size: PageSize,
    pages: Vec<u64>,
    fold: DatabaseChecksum,
}

impl ChecksumTable {
    pub(crate) fn new(page_size: PageSize) -> Self {
        ChecksumTable {
            page_size,
            pages: Vec::new(),
            fold: DatabaseChecksum::new(page_size),
        }
    }

    /// Appends the next page. The lock page has no checksum of its own: its place holds the bare flag.
    pub(crate) fn push(&mut self, checksum: Checksum) {
        let pgno = PageNo::new(self.page_count() + 1);
        let checksum = self.counted(pgno, checksum);
        self.fold.add(pgno, checksum);
        self.pages.push(checksum.get());
    }

    pub(crate) fn page_count(&self) -> u32 {
        u32::try_from(self.pages.len()).expect("SQLite has at most 2^32 - 2 pages")
    }

    pub(crate) fn checksum(&self) -> Checksum {
        self.fold.value()
    }

    pub(crate) fn pages(&self) -> &[u64] {
        &self.pages
    }

    pub(crate) fn get(&self, pgno: PageNo) -> Option<Checksum> {
        let index = (pgno.get() as usize).checked_sub(1)?;
        self.pages.get(index).map(|&value| Checksum::new(value))
    }

    /// The database checksum that [`update`](Self::update) would give.
    ///
    /// Every page past the present size and up to `page_count`, the lock page excepted, must be in `changed`.
    pub(crate) fn checksum_after(
        &self,
        page_count: u32,
        changed: &[(PageNo, Checksum)],
    ) -> Checksum {
        let mut fold = self.fold;
        for pgno in page_count..self.page_count() {
            let pgno = PageNo::new(pgno + 1);
            if let Some(old) = self.get(pgno) {
                fold.remove(pgno, old);
            }
        }
        for &(pgno, new) in changed {
            if let Some(old) = self.get(pgno) {
                fold.remove(pgno, old);
            }
            fold.add(pgno, new);
        }
        fold.value()
    }

    /// Takes over a published transaction: the new size, then the changed pages.
    pub(crate) fn update(&mut self, page_count: u32, changed: &[(PageNo, Checksum)]) {
        let post = self.checksum_after(page_count, changed);
        self.pages
            .resize(page_count as usize, Checksum::EMPTY.get());
        for &(pgno, new) in changed {
            self.pages[pgno.get() as usize - 1] = self.counted(pgno, new).get();
        }
        self.fold = DatabaseChecksum::resume(self.page_size, post);
    }

    fn counted(&self, pgno: PageNo, checksum: Checksum) -> Checksum {
        if pgno == self.page_size.lock_page() {
            Checksum::EMPTY
        } else {
            checksum
        }
    }
}
