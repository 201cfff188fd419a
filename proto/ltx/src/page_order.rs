//! [`PageOrder`]: which page may come next in a file. The same rules guard the encoder, the decoder and the page index.

use crate::{Header, PageNo};

/// A page that may not stand where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageOrderError {
    /// Pages are counted from 1.
    #[error("page number must not be zero")]
    Zero,
    /// The page lies beyond the end of the database.
    #[error("page beyond the end of the database pgno={pgno} commit={commit}")]
    BeyondCommit {
        /// The page.
        pgno: PageNo,
        /// Size of the database in pages.
        commit: u32,
    },
    /// The page of the lock bytes is never stored.
    #[error("lock page must not be stored pgno={0}")]
    LockPage(PageNo),
    /// Pages ascend, each at most once.
    #[error("pages must ascend pgno={pgno} previous={previous}")]
    NotAscending {
        /// The page.
        pgno: PageNo,
        /// The page before it.
        previous: PageNo,
    },
    /// A snapshot holds every page.
    #[error("snapshot leaves out a page pgno={pgno} expected={expected}")]
    SnapshotGap {
        /// The page that came.
        pgno: PageNo,
        /// The page that should have come.
        expected: PageNo,
    },
    /// A snapshot ends before the last page of the database.
    #[error("snapshot ends early expected={expected} commit={commit}")]
    SnapshotIncomplete {
        /// The page that should have come next.
        expected: PageNo,
        /// Size of the database in pages.
        commit: u32,
    },
}

/// The rules for the pages of one file and the place reached.
#[derive(Clone, Debug)]
pub(crate) struct PageOrder {
    commit: u32,
    lock_page: PageNo,
    snapshot: bool,
    previous: u32,
}

impl PageOrder {
    pub(crate) fn new(header: &Header) -> Self {
        PageOrder {
            commit: header.commit,
            lock_page: header.page_size.lock_page(),
            snapshot: header.is_snapshot(),
            previous: 0,
        }
    }

    /// Takes the next page of the file.
    pub(crate) fn accept(&mut self, pgno: PageNo) -> Result<(), PageOrderError> {
        if pgno.get() == 0 {
            return Err(PageOrderError::Zero);
        }
        if pgno.get() > self.commit {
            return Err(PageOrderError::BeyondCommit {
                pgno,
                commit: self.commit,
            });
        }
        if pgno == self.lock_page {
            return Err(PageOrderError::LockPage(pgno));
        }
        if pgno.get() <= self.previous {
            return Err(PageOrderError::NotAscending {
                pgno,
                previous: PageNo::new(self.previous),
            });
        }
        if self.snapshot && self.expected() != Some(pgno) {
            let expected = self.expected().unwrap_or(pgno);
            return Err(PageOrderError::SnapshotGap { pgno, expected });
        }
        self.previous = pgno.get();
        Ok(())
    }

    /// Checks that nothing is missing at the end of the pages.
    pub(crate) fn finish(&self) -> Result<(), PageOrderError> {
        match self.expected() {
            Some(expected) if self.snapshot => Err(PageOrderError::SnapshotIncomplete {
                expected,
                commit: self.commit,
            }),
            _ => Ok(()),
        }
    }

    /// The page after the last one, the lock page skipped; `None` at the end of the database.
    fn expected(&self) -> Option<PageNo> {
        let mut next = self.previous.checked_add(1)?;
        if next == self.lock_page.get() {
            next = next.checked_add(1)?;
        }
        (next <= self.commit).then_some(PageNo::new(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PageSize, Txid};

    fn order(commit: u32, previous: u32) -> PageOrder {
        let header = Header::new(PageSize::DEFAULT, commit, Txid::new(1), Txid::new(1), 0);
        PageOrder {
            previous,
            ..PageOrder::new(&header)
        }
    }

    #[test]
    fn snapshot_goes_on_after_the_lock_page() {
        let lock = PageSize::DEFAULT.lock_page().get();
        assert_eq!(lock, 262_145);
        let mut around = order(lock + 1, lock - 1);
        assert_eq!(
            around.accept(PageNo::new(lock)),
            Err(PageOrderError::LockPage(PageNo::new(lock)))
        );
        assert!(around.finish().is_err());
        around.accept(PageNo::new(lock + 1)).unwrap();
        around.finish().unwrap();
    }

    #[test]
    fn snapshot_may_end_before_the_lock_page() {
        let lock = PageSize::DEFAULT.lock_page().get();
        order(lock, lock - 1).finish().unwrap();
        order(lock - 1, lock - 1).finish().unwrap();
        assert!(order(lock - 1, lock - 2).finish().is_err());
    }

    #[test]
    fn the_largest_page_number_does_not_overflow() {
        let mut end = order(u32::MAX, u32::MAX - 1);
        end.accept(PageNo::new(u32::MAX)).unwrap();
        end.finish().unwrap();
        assert!(end.accept(PageNo::new(u32::MAX)).is_err());
    }
}
