//! [`CapturedTransaction`]: what a gate sees of a transaction. Owns the rule which pages belong to it; reads them from memory,
//! from the WAL or from the database file. Made by the write transaction when its commit frame is reached.
//!
//! Besides the pages of the frames it holds every page by which the database grows and that no frame has: SQLite does not write
//! a new page that is freed again in the same transaction. Their content is what a reader will see there, so that all nodes
//! hold the same bytes: the last frame not yet checkpointed, or else the database file, zeros past its end. No checkpoint can
//! change that meanwhile, since checkpoints keep writers out.

use std::ffi::c_int;

use halite_ltx::{Checksum, PageNo, PageSize};

use crate::capture::Capture;
use crate::error::CaptureError;
use crate::os::{FRAME_HEADER_BYTES, LowerFile, WalIndex, frame_offset};

/// Where the content of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A frame of this transaction: its place in the capture.
    Frame(u32),
    /// A frame of an earlier transaction: its number in the WAL.
    EarlierFrame(u32),
    /// The database file.
    MainFile,
}

/// The files a transaction can be read back from.
#[derive(Clone, Copy)]
pub(crate) struct Files {
    pub(crate) wal: LowerFile,
    pub(crate) main: LowerFile,
}

/// One transaction, about to be published. Pages can be visited any number of times.
pub struct CapturedTransaction<'a> {
    capture: &'a Capture,
    files: Files,
    page_size: PageSize,
    page_count: u32,
    previous_page_count: u32,
    pub(crate) pre_checksum: Checksum,
    pub(crate) post_checksum: Checksum,
    pages: Vec<(PageNo, Source)>,
}

impl<'a> CapturedTransaction<'a> {
    /// Sorts out which pages belong to the transaction. The checksums are still to be filled in.
    pub(crate) fn new(
        capture: &'a Capture,
        files: Files,
        index: &WalIndex,
        page_size: PageSize,
        previous_page_count: u32,
        page_count: u32,
    ) -> Result<Self, c_int> {
        let lock_page = page_size.lock_page();
        let mut pages: Vec<(PageNo, Source)> = Vec::with_capacity(capture.page_numbers().len());
        for (place, &pgno) in (0u32..).zip(capture.page_numbers()) {
            let pgno = PageNo::new(pgno);
            if pgno.get() <= page_count && pgno != lock_page {
                pages.push((pgno, Source::Frame(place)));
            }
        }
        // Stable, so among frames of one page the last stays last; it wins.
        pages.sort_by_key(|&(pgno, _)| pgno);
        pages.reverse();
        pages.dedup_by_key(|&mut (pgno, _)| pgno);
        pages.reverse();
        let mut transaction = CapturedTransaction {
            capture,
            files,
            page_size,
            page_count,
            previous_page_count,
            pre_checksum: Checksum::EMPTY,
            post_checksum: Checksum::EMPTY,
            pages,
        };
        transaction.add_unwritten(index)?;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::CaptureSkipsPage) && transaction.pages.len() > 3
        {
            transaction.pages.truncate(transaction.pages.len() - 1);
        }
        Ok(transaction)
    }

    /// Adds the pages by which the database grows and that no frame holds.
    fn add_unwritten(&mut self, index: &WalIndex) -> Result<(), c_int> {
        let grown = self.previous_page_count + 1..=self.page_count;
        let mut written = self
            .pages
            .iter()
            .map(|&(pgno, _)| pgno.get())
            .skip_while(|pgno| !grown.contains(pgno))
            .peekable();
        let mut missing: Vec<(PageNo, Source)> = Vec::new();
        for pgno in grown.clone() {
            if written.next_if_eq(&pgno).is_none() && pgno != self.page_size.lock_page().get() {
                missing.push((PageNo::new(pgno), Source::MainFile));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let last_committed = self.capture.first_frame().saturating_sub(1);
        if last_committed > 0 {
            index.for_each_frame(index.backfilled()? + 1, last_committed, |frame, pgno| {
                if let Ok(at) = missing.binary_search_by_key(&pgno, |&(pgno, _)| pgno.get()) {
                    missing[at].1 = Source::EarlierFrame(frame);
                }
            })?;
        }
        self.pages.extend(missing);
        self.pages.sort_by_key(|&(pgno, _)| pgno);
        Ok(())
    }

    /// Page size of the database.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Size of the database after the transaction, in pages.
    pub fn page_count(&self) -> u32 {
        self.page_count
    }

    /// Size of the database before the transaction, in pages; 0 if it was blank.
    pub fn previous_page_count(&self) -> u32 {
        self.previous_page_count
    }

    /// Database checksum before the transaction.
    pub fn pre_checksum(&self) -> Checksum {
        self.pre_checksum
    }

    /// Database checksum after the transaction.
    pub fn post_checksum(&self) -> Checksum {
        self.post_checksum
    }

    /// How many pages the transaction holds.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// True if the transaction holds no page, which a gate never gets to see.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The numbers of the pages, ascending.
    pub fn page_numbers(&self) -> impl Iterator<Item = PageNo> + '_ {
        self.pages.iter().map(|&(pgno, _)| pgno)
    }

    /// Calls `visit` for each page, ascending, with its content; stops at the first error.
    pub fn for_each_page<E: From<CaptureError>>(
        &self,
        mut visit: impl FnMut(PageNo, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = Vec::new();
        for &(pgno, source) in &self.pages {
            let page = self
                .page(source, pgno, &mut buffer)
                .map_err(|code| CaptureError { pgno, code })?;
            visit(pgno, page)?;
        }
        Ok(())
    }

    fn page<'b>(
        &'b self,
        source: Source,
        pgno: PageNo,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], c_int> {
        let frame = match source {
            Source::Frame(place) => match self.capture.page(place as usize) {
                Some(page) => return Ok(page),
                None => Some(self.capture.first_frame() + place),
            },
            Source::EarlierFrame(frame) => Some(frame),
            Source::MainFile => None,
        };
        buffer.resize(self.page_size.as_usize(), 0);
        match frame {
            Some(frame) => {
                let offset = frame_offset(frame, FRAME_HEADER_BYTES + self.page_size.as_usize());
                self.files
                    .wal
                    .read(buffer, offset + FRAME_HEADER_BYTES as i64)?;
            }
            None => self
                .files
                .main
                .read(buffer, pgno.offset(self.page_size).cast_signed())?,
        }
        Ok(buffer)
    }
}

impl std::fmt::Debug for CapturedTransaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CapturedTransaction")
            .field("page_size", &self.page_size)
            .field("page_count", &self.page_count)
            .field("previous_page_count", &self.previous_page_count)
            .field("pre_checksum", &self.pre_checksum)
            .field("post_checksum", &self.post_checksum)
            .field("pages", &self.pages.len())
            .finish_non_exhaustive()
    }
}
