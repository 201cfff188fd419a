//! [`PageIndex`]: finds single pages in a file without reading the rest.
//!
//! Owns the parsing of the index from the end of a file. Cannot check the file checksum: whoever needs proof reads the file with a
//! [`Decoder`](crate::Decoder). Called by readers of single pages, from a local file or by ranged reads of an object store.

use std::io::{Read, Seek, SeekFrom};

use crate::page_frame::{FrameReader, PAGE_HEADER_LEN};
use crate::page_order::PageOrder;
use crate::source::Source;
use crate::{DecodeError, DecodeFault, HEADER_LEN, Header, PageNo, PageSize, TRAILER_LEN, varint};

/// Bytes of the length field at the end of the index.
const INDEX_LEN_LEN: usize = 8;
/// Bytes from the index length to the end of the file.
const TAIL_LEN: u64 = (INDEX_LEN_LEN + TRAILER_LEN) as u64;
/// Shortest file: header, end marker, an index of nothing, trailer.
const FILE_LEN_MIN: u64 = (HEADER_LEN + PAGE_HEADER_LEN + 1) as u64 + TAIL_LEN;

/// Where one page stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageIndexEntry {
    /// The page.
    pub pgno: PageNo,
    /// Length of its frame in bytes, header included.
    pub frame_len: u32,
    /// Offset of its frame in the file, in bytes.
    pub frame_offset: u64,
}

/// Header and page index of a file: sixteen bytes of memory per page.
#[derive(Clone, Debug)]
pub struct PageIndex {
    header: Header,
    entries: Vec<PageIndexEntry>,
}

impl PageIndex {
    /// Reads header and index of a whole file.
    ///
    /// # Errors
    /// [`DecodeError`] if either is malformed, an entry points outside the pages, or reading fails.
    pub fn read<R: Read + Seek>(reader: &mut R) -> Result<Self, DecodeError> {
        let io = |offset: u64| move |error: std::io::Error| DecodeError::new(offset, error);
        let file_len = reader.seek(SeekFrom::End(0)).map_err(io(0))?;
        reader.seek(SeekFrom::Start(0)).map_err(io(0))?;
        let mut bytes = [0; HEADER_LEN];
        Source::new(&mut *reader, 0).fill(&mut bytes)?;
        let header =
            Header::decode(&bytes).map_err(|error| DecodeError::new(error.offset(), error))?;

        let len_offset = file_len.saturating_sub(TAIL_LEN);
        if file_len < FILE_LEN_MIN {
            return Err(DecodeError::new(file_len, DecodeFault::Truncated));
        }
        reader
            .seek(SeekFrom::Start(len_offset))
            .map_err(io(len_offset))?;
        let mut len = [0; INDEX_LEN_LEN];
        Source::new(&mut *reader, len_offset).fill(&mut len)?;
        let start = index_start(file_len, u64::from_be_bytes(len))?;
        reader.seek(SeekFrom::Start(start)).map_err(io(start))?;
        let mut index = Vec::new();
        let index_len = len_offset - start;
        // Grows with what is really there.
        reader
            .by_ref()
            .take(index_len)
            .read_to_end(&mut index)
            .map_err(io(start))?;
        if index.len() as u64 != index_len {
            return Err(DecodeError::new(start, DecodeFault::Truncated));
        }
        Self::parse(header, &index, start)
    }

    /// Takes header and index from bytes at the end of a file, as a ranged read gives them.
    ///
    /// `tail` are the last bytes of a file of `file_len` bytes. If they are too few, the answer is `Err(needed)` inside `Ok`: call again
    /// with that many of the last bytes (never more than the file has).
    ///
    /// # Errors
    /// [`DecodeError`] if the index is malformed or an entry points outside the pages.
    pub fn from_tail(
        header: Header,
        tail: &[u8],
        file_len: u64,
    ) -> Result<Result<Self, u64>, DecodeError> {
        let tail = &tail[tail
            .len()
            .saturating_sub(usize::try_from(file_len).unwrap_or(usize::MAX))..];
        if file_len < FILE_LEN_MIN {
            return Err(DecodeError::new(file_len, DecodeFault::Truncated));
        }
        let Some((index, len)) = tail
            .len()
            .checked_sub(TRAILER_LEN)
            .and_then(|end| tail[..end].split_last_chunk::<INDEX_LEN_LEN>())
        else {
            return Ok(Err(TAIL_LEN));
        };
        let index_len = u64::from_be_bytes(*len);
        let start = index_start(file_len, index_len)?;
        if (index.len() as u64) < index_len {
            return Ok(Err(index_len + TAIL_LEN));
        }
        let index = &index[index.len() - index_len as usize..];
        Self::parse(header, index, start).map(Ok)
    }

    fn parse(header: Header, index: &[u8], start: u64) -> Result<Self, DecodeError> {
        let mut order = PageOrder::new(&header);
        let mut entries = Vec::new();
        let mut rest = index;
        let mut free_from = HEADER_LEN as u64;
        let pages_end = start - PAGE_HEADER_LEN as u64;
        loop {
            let at = start + (index.len() - rest.len()) as u64;
            let malformed = || DecodeError::new(at, DecodeFault::IndexMalformed);
            let pgno = varint::take(&mut rest).ok_or_else(malformed)?;
            if pgno == 0 {
                break;
            }
            let pgno = PageNo::new(u32::try_from(pgno).map_err(|_| malformed())?);
            order
                .accept(pgno)
                .map_err(|error| DecodeError::new(at, error))?;
            let frame_offset = varint::take(&mut rest).ok_or_else(malformed)?;
            let frame_len = varint::take(&mut rest).ok_or_else(malformed)?;
            let range_fault = DecodeFault::IndexRange {
                pgno,
                frame_offset,
                frame_len,
            };
            let end = frame_offset
                .checked_add(frame_len)
                .filter(|end| *end <= pages_end);
            match (end, u32::try_from(frame_len)) {
                (Some(end), Ok(frame_len))
                    if frame_offset >= free_from && frame_len as usize > PAGE_HEADER_LEN =>
                {
                    free_from = end;
                    entries.push(PageIndexEntry {
                        pgno,
                        frame_len,
                        frame_offset,
                    });
                }
                _ => return Err(DecodeError::new(at, range_fault)),
            }
        }
        let at = start + (index.len() - rest.len()) as u64;
        if !rest.is_empty() {
            return Err(DecodeError::new(at, DecodeFault::IndexMalformed));
        }
        order
            .finish()
            .map_err(|error| DecodeError::new(at, error))?;
        Ok(PageIndex { header, entries })
    }

    /// The header of the file.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Number of pages in the file.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if the file holds no pages.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, ascending by page.
    pub fn entries(&self) -> &[PageIndexEntry] {
        &self.entries
    }

    /// Where `pgno` stands; `None` if the file does not hold it.
    pub fn get(&self, pgno: PageNo) -> Option<PageIndexEntry> {
        let at = self
            .entries
            .binary_search_by_key(&pgno, |entry| entry.pgno)
            .ok()?;
        Some(self.entries[at])
    }

    /// Reads one page into `page`; false if the file does not hold it.
    ///
    /// # Errors
    /// [`DecodeError`] if the frame is malformed or not the one the index names, or reading fails.
    pub fn read_page<R: Read + Seek>(
        &self,
        reader: &mut R,
        pgno: PageNo,
        page: &mut Vec<u8>,
    ) -> Result<bool, DecodeError> {
        let Some(entry) = self.get(pgno) else {
            return Ok(false);
        };
        let start = entry.frame_offset;
        reader
            .seek(SeekFrom::Start(start))
            .map_err(|error| DecodeError::new(start, error))?;
        let mut source = Source::new(reader.by_ref().take(u64::from(entry.frame_len)), start);
        read_entry(self.header.page_size, &mut source, entry, page)?;
        Ok(true)
    }
}

fn read_entry<R: Read>(
    page_size: PageSize,
    source: &mut Source<R>,
    entry: PageIndexEntry,
    page: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let mut frames = FrameReader::new(page_size);
    let found = frames.read_head(source)?;
    let mismatch = |found| {
        DecodeError::new(
            entry.frame_offset,
            DecodeFault::IndexFrame {
                pgno: entry.pgno,
                found,
            },
        )
    };
    let head = found.ok_or_else(|| mismatch(PageNo::new(0)))?;
    if head.pgno != entry.pgno {
        return Err(mismatch(head.pgno));
    }
    frames.read_page(source, &head, page)?;
    if source.offset() - entry.frame_offset != u64::from(entry.frame_len) {
        return Err(mismatch(head.pgno));
    }
    Ok(())
}

/// Where the index of `index_len` bytes begins, if the file has room for it and a header and an end marker before it.
fn index_start(file_len: u64, index_len: u64) -> Result<u64, DecodeError> {
    let len_offset = file_len - TAIL_LEN;
    len_offset
        .checked_sub(index_len)
        .filter(|start| *start >= (HEADER_LEN + PAGE_HEADER_LEN) as u64)
        .ok_or_else(|| DecodeError::new(len_offset, DecodeFault::IndexMalformed))
}
