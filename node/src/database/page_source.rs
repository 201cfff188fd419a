//! [`PageSource`]: the pages that a page diff brings, wherever they lie. Read by the lane while it puts them in.

use std::io::{self, BufReader, Read};

use halite_ltx::{DecodeError, Decoder, PageNo, PageSize};

/// Pages of one database, ascending, each at most once.
pub trait PageSource: Send {
    /// Reads the next page into `page`, which then holds exactly one page; `None` after the last one, when all are proven as far as their
    /// files can prove them. What they lead to together is proven by the checksum of the database.
    ///
    /// # Errors
    /// [`PageSourceError`]: no page of this source may be used.
    fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<PageNo>, PageSourceError>;
}

/// Why pages cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageSourceError {
    /// A file is damaged, or its disk fails.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A file cannot be opened.
    #[error("pages cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The pages are not what was announced.
    #[error("{0}")]
    Mismatch(String),
}

/// The pages of one LTX.
pub(super) struct LtxPages<R> {
    /// Taken when the first page is asked for.
    reader: Option<R>,
    decoder: Option<Decoder<BufReader<R>>>,
    page_size: PageSize,
    page_count: u32,
}

impl<R: Read> LtxPages<R> {
    /// An LTX for a database of this page size, which has so many pages afterwards.
    pub(super) fn new(reader: R, page_size: PageSize, page_count: u32) -> Self {
        LtxPages {
            reader: Some(reader),
            decoder: None,
            page_size,
            page_count,
        }
    }

    fn open(&mut self, reader: R) -> Result<(), PageSourceError> {
        let decoder = Decoder::new(BufReader::new(reader))?;
        let header = decoder.header();
        if header.page_size != self.page_size || header.commit != self.page_count {
            return Err(PageSourceError::Mismatch(format!(
                "LTX is not what was announced page_size={} pages={} announced_page_size={} announced_pages={}",
                header.page_size, header.commit, self.page_size, self.page_count
            )));
        }
        self.decoder = Some(decoder);
        Ok(())
    }
}

impl<R: Read + Send> PageSource for LtxPages<R> {
    fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<PageNo>, PageSourceError> {
        if let Some(reader) = self.reader.take() {
            self.open(reader)?;
        }
        let Some(decoder) = &mut self.decoder else {
            return Ok(None);
        };
        if let Some(pgno) = decoder.next_page(page)? {
            return Ok(Some(pgno));
        }
        if let Some(decoder) = self.decoder.take() {
            decoder.finish()?;
        }
        Ok(None)
    }
}
