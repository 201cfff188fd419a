//! [`PageSink`]: takes the pages of one apply. Owns the rules which pages are let in; writes through `sqlite_dbpage`.

use std::collections::HashSet;

use halite_ltx::{PageNo, PageSize};
use rusqlite::Connection;

use super::statement::Statement;
use super::text_encoding::TextEncoding;
use crate::error::ApplyError;
use crate::os::{LowerFile, WalIndex};

/// Takes the pages of one apply.
pub struct PageSink<'a> {
    connection: &'a Connection,
    insert: &'a mut Statement,
    page_size: PageSize,
    page_count: u32,
    written: u64,
    encoding: Option<TextEncoding>,
    /// Pages given so far, if they have to be known.
    given: Option<HashSet<u32>>,
}

impl<'a> PageSink<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        insert: &'a mut Statement,
        page_size: PageSize,
        page_count: u32,
        remember: bool,
    ) -> Self {
        PageSink {
            connection,
            insert,
            page_size,
            page_count,
            written: 0,
            encoding: None,
            given: remember.then(HashSet::new),
        }
    }

    /// Writes a page. The lock page and pages past the target's size are passed over.
    pub fn page(&mut self, pgno: PageNo, data: &[u8]) -> Result<(), ApplyError> {
        if pgno.get() == 0 {
            return Err(ApplyError::PageZero);
        }
        if data.len() != self.page_size.as_usize() {
            return Err(ApplyError::PageSize {
                pgno,
                database: self.page_size,
                found: data.len(),
            });
        }
        if pgno.get() > self.page_count || pgno == self.page_size.lock_page() {
            return Ok(());
        }
        if pgno == PageNo::FIRST {
            self.check_header(data)?;
        }
        self.insert(pgno, Some(data))?;
        if let Some(given) = &mut self.given {
            given.insert(pgno.get());
        }
        Ok(())
    }

    /// Page 1 decides how every other connection reads the file.
    fn check_header(&self, page: &[u8]) -> Result<(), ApplyError> {
        if !page.starts_with(b"SQLite format 3\0") || page[18] != 2 || page[19] != 2 {
            return Err(ApplyError::NotWalHeader);
        }
        let found = match u16::from_be_bytes([page[16], page[17]]) {
            1 => 65536,
            other => usize::from(other),
        };
        if found != self.page_size.as_usize() {
            return Err(ApplyError::PageSize {
                pgno: PageNo::FIRST,
                database: self.page_size,
                found,
            });
        }
        Ok(())
    }

    /// Puts back, from the database file, what only the WAL holds: pages of its frames, and pages past the size it says, unless
    /// they were given.
    pub(super) fn put_back(
        &mut self,
        index: &WalIndex,
        main: LowerFile,
        present: u32,
    ) -> Result<(), ApplyError> {
        let file = |code| ApplyError::File { code };
        let given = self.given.take().unwrap_or_default();
        // Past its end the file has nothing to give; the check at commit finds what is missing then.
        let in_file = main.size().map_err(file)? / u64::from(self.page_size.get());
        let end = self
            .page_count
            .min(u32::try_from(in_file).unwrap_or(u32::MAX));
        let mut pages: Vec<u32> = (present + 1..=end).collect();
        index
            .for_each_frame(1, index.max_frame().map_err(file)?, |_, pgno| {
                pages.push(pgno)
            })
            .map_err(file)?;
        pages.sort_unstable();
        pages.dedup();
        let mut buffer = vec![0; self.page_size.as_usize()];
        for pgno in pages {
            let page = PageNo::new(pgno);
            if pgno == 0
                || pgno > self.page_count
                || page == self.page_size.lock_page()
                || given.contains(&pgno)
            {
                continue;
            }
            main.read(&mut buffer, page.offset(self.page_size).cast_signed())
                .map_err(file)?;
            self.insert(page, Some(&buffer))?;
        }
        Ok(())
    }

    /// Cuts the database to the target's size. Must come last: a page written later would undo it.
    pub(super) fn truncate(&mut self) -> Result<(), ApplyError> {
        self.insert(PageNo::new(self.page_count.max(1) + 1), None)
    }

    pub(super) fn insert(&mut self, pgno: PageNo, page: Option<&[u8]>) -> Result<(), ApplyError> {
        self.insert.run(self.connection, pgno.get(), page)?;
        self.written += 1;
        if let (PageNo::FIRST, Some(page)) = (pgno, page) {
            self.encoding = Some(TextEncoding::of_page_one(page));
        }
        Ok(())
    }

    /// What page 1 says of the text, if it was written.
    pub(super) fn encoding(&self) -> Option<TextEncoding> {
        self.encoding
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

impl std::fmt::Debug for PageSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageSink")
            .field("page_count", &self.page_count)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}
