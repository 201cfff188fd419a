//! [`Decoder`]: reads and verifies an LTX file in one pass.
//!
//! Owns the order of sections and every check that a stream allows: header rules, page order, page lengths, the index byte for byte,
//! both checksums and the end of the file. Memory: one compressed page and about ten bytes per page for the index.

use std::io::Read;

use crate::crc64::Crc64;
use crate::page_frame::{FrameReader, PAGE_HEADER_LEN};
use crate::page_order::PageOrder;
use crate::source::Source;
use crate::trailer::{TRAILER_LEN, check_post_apply};
use crate::{
    DatabaseChecksum, DecodeError, DecodeFault, HEADER_LEN, Header, PageNo, Trailer, varint,
};

/// Reads header, pages and, with [`finish`](Self::finish), index and trailer.
///
/// **Pages are only proven once `finish` has returned `Ok`**: the file checksum stands at the end. Reads are small; wrap a file in a
/// `BufReader`. The reader must end where the file ends (`Read::take` cuts it off there if need be).
#[derive(Debug)]
#[must_use = "nothing is proven before finish"]
pub struct Decoder<R> {
    source: Source<R>,
    header: Header,
    frames: FrameReader,
    crc: Crc64,
    order: PageOrder,
    /// Fold of a snapshot's pages, to be compared with the trailer.
    database: Option<DatabaseChecksum>,
    /// The index that the pages read so far should have, in its disk form.
    index: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pages,
    EndOfPages,
    Failed,
}

impl<R: Read> Decoder<R> {
    /// Reads and validates the header.
    ///
    /// # Errors
    /// [`DecodeError`] at the offending field, or at 0 if the header is cut off.
    pub fn new(reader: R) -> Result<Self, DecodeError> {
        let mut source = Source::new(reader, 0);
        let mut bytes = [0; HEADER_LEN];
        source.fill(&mut bytes)?;
        let header =
            Header::decode(&bytes).map_err(|error| DecodeError::new(error.offset(), error))?;
        let mut crc = Crc64::new();
        crc.update(&bytes);
        Ok(Decoder {
            source,
            header,
            frames: FrameReader::new(header.page_size),
            crc,
            order: PageOrder::new(&header),
            database: (header.is_snapshot() && !header.no_checksum)
                .then(|| DatabaseChecksum::new(header.page_size)),
            index: Vec::new(),
            state: State::Pages,
        })
    }

    /// The header of the file.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// Reads the next page into `page` (which then holds exactly one page) and returns its number; `None` after the last one.
    ///
    /// # Errors
    /// [`DecodeError`]; every later call fails too, and `page` holds nothing of value.
    pub fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<PageNo>, DecodeError> {
        match self.state {
            State::Pages => {}
            State::EndOfPages => return Ok(None),
            State::Failed => {
                return Err(DecodeError::new(self.source.offset(), DecodeFault::Failed));
            }
        }
        let result = self.read_page(page);
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => self.state = State::EndOfPages,
            Err(_) => self.state = State::Failed,
        }
        result
    }

    /// The LZ4 block of the page read last; `None` if it was a legacy frame or no page has been read.
    pub(crate) fn current_block(&self) -> Option<&[u8]> {
        self.frames.current_block()
    }

    fn read_page(&mut self, page: &mut Vec<u8>) -> Result<Option<PageNo>, DecodeError> {
        let start = self.source.offset();
        let Some(head) = self.frames.read_head(&mut self.source)? else {
            self.order
                .finish()
                .map_err(|error| DecodeError::new(start, error))?;
            self.crc.update(&[0; PAGE_HEADER_LEN]);
            return Ok(None);
        };
        self.order
            .accept(head.pgno)
            .map_err(|error| DecodeError::new(start, error))?;
        self.frames.read_page(&mut self.source, &head, page)?;
        self.crc.update(head.as_bytes());
        self.crc.update(page);
        if let Some(database) = &mut self.database {
            database.add_page(head.pgno, page);
        }
        varint::put(&mut self.index, u64::from(head.pgno.get()));
        varint::put(&mut self.index, start);
        varint::put(&mut self.index, self.source.offset() - start);
        Ok(Some(head.pgno))
    }

    /// Reads what is left (pages too, if there are any) and verifies index, checksums and the end of the file.
    ///
    /// # Errors
    /// [`DecodeError`]: the pages handed out must not be used.
    pub fn finish(mut self) -> Result<Trailer, DecodeError> {
        let mut page = Vec::new();
        while self.next_page(&mut page)?.is_some() {}
        self.verify_index()?;
        self.verify_trailer()
    }

    /// Compares the index with what the pages call for. Since it is written in one canonical way, bytes are compared.
    fn verify_index(&mut self) -> Result<(), DecodeError> {
        let mut expected = std::mem::take(&mut self.index);
        expected.push(0);
        let len = expected.len() as u64;
        expected.extend_from_slice(&len.to_be_bytes());
        let mut buf = [0; 4096];
        for expected in expected.chunks(buf.len()) {
            let start = self.source.offset();
            let found = &mut buf[..expected.len()];
            self.source.fill(found)?;
            if let Some(at) = found
                .iter()
                .zip(expected)
                .position(|(found, expected)| found != expected)
            {
                return Err(DecodeError::new(
                    start + at as u64,
                    DecodeFault::IndexMismatch,
                ));
            }
            self.crc.update(found);
        }
        Ok(())
    }

    fn verify_trailer(&mut self) -> Result<Trailer, DecodeError> {
        let start = self.source.offset();
        let mut bytes = [0; TRAILER_LEN];
        self.source.fill(&mut bytes)?;
        let value = u128::from_be_bytes(bytes);
        let (post, stored) = ((value >> 64) as u64, value as u64);
        self.crc.update(&bytes[..8]);
        let computed = self.crc.checksum();
        if stored != computed.get() {
            return Err(DecodeError::new(
                start + 8,
                DecodeFault::FileChecksum { stored, computed },
            ));
        }
        let database = self.database.map(|database| database.value());
        let post_apply_checksum = check_post_apply(&self.header, post, database)
            .map_err(|error| DecodeError::new(start, error))?;
        self.source.expect_end()?;
        Ok(Trailer {
            post_apply_checksum,
            file_checksum: computed,
        })
    }
}
