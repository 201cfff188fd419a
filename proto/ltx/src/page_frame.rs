//! One page on disk: its header and its compressed content, current and legacy.
//!
//! Owns the frame layout, the bounds on compressed sizes and the decompression. Called by the decoder (streams) and the page
//! index (single frames); writes nothing.

use std::io::Read;

use crate::source::Source;
use crate::{DecodeError, DecodeFault, PageNo, PageSize};

/// Bytes of a page header: page number and flags.
pub(crate) const PAGE_HEADER_LEN: usize = 6;
/// Bytes of the size field that follows in current frames.
pub(crate) const SIZE_LEN: usize = 4;
/// Page flag: a size field follows and the content is an LZ4 block. Without it the content is an LZ4 frame.
pub(crate) const FLAG_SIZED_BLOCK: u16 = 1;

/// Smallest number of bytes that a legacy LZ4 frame starts with (magic, two descriptor bytes, header checksum).
const LZ4_FRAME_START: usize = 7;
const LZ4_FRAME_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Block size code "64 KiB", the only one ever written.
const LZ4_FRAME_BLOCK_64K: u8 = 0x40;

/// Header of a page frame as read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHead {
    pub(crate) pgno: PageNo,
    /// Length of the LZ4 block; `None` for the legacy LZ4 frame.
    block_len: Option<u32>,
    bytes: [u8; PAGE_HEADER_LEN + SIZE_LEN],
}

impl FrameHead {
    /// The bytes as they stand in the file: what the file checksum covers.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        let len = if self.block_len.is_some() {
            PAGE_HEADER_LEN + SIZE_LEN
        } else {
            PAGE_HEADER_LEN
        };
        &self.bytes[..len]
    }
}

/// Most bytes an LZ4 block can need for a page: all literals, with a length byte for each 255 of them.
pub(crate) fn block_len_max(page_size: PageSize) -> u32 {
    page_size.get() + page_size.get() / 255 + 16
}

/// Reads page frames into memory; keeps the buffer for compressed content.
#[derive(Debug)]
pub(crate) struct FrameReader {
    page_size: PageSize,
    block: Vec<u8>,
    /// Length of the block of the page read last; the buffer may be longer.
    current: Option<usize>,
}

impl FrameReader {
    pub(crate) fn new(page_size: PageSize) -> Self {
        FrameReader {
            page_size,
            block: Vec::new(),
            current: None,
        }
    }

    /// Reads the header of a frame; `None` at the end marker (six zero bytes).
    pub(crate) fn read_head<R: Read>(
        &self,
        source: &mut Source<R>,
    ) -> Result<Option<FrameHead>, DecodeError> {
        let start = source.offset();
        let mut bytes = [0; PAGE_HEADER_LEN + SIZE_LEN];
        source.fill(&mut bytes[..PAGE_HEADER_LEN])?;
        let [p0, p1, p2, p3, f0, f1, ..] = bytes;
        let pgno = PageNo::new(u32::from_be_bytes([p0, p1, p2, p3]));
        let flags = u16::from_be_bytes([f0, f1]);
        if flags & !FLAG_SIZED_BLOCK != 0 || (pgno.get() == 0 && flags != 0) {
            return Err(DecodeError::new(
                start,
                DecodeFault::PageFlags { pgno, flags },
            ));
        }
        if pgno.get() == 0 {
            return Ok(None);
        }
        let mut block_len = None;
        if flags & FLAG_SIZED_BLOCK != 0 {
            let field = source.offset();
            source.fill(&mut bytes[PAGE_HEADER_LEN..])?;
            let [.., s0, s1, s2, s3] = bytes;
            let size = u32::from_be_bytes([s0, s1, s2, s3]);
            let size_max = block_len_max(self.page_size);
            if size == 0 || size > size_max {
                return Err(DecodeError::new(
                    field,
                    DecodeFault::BlockSize {
                        pgno,
                        size,
                        size_max,
                    },
                ));
            }
            block_len = Some(size);
        }
        Ok(Some(FrameHead {
            pgno,
            block_len,
            bytes,
        }))
    }

    /// Reads the content that belongs to `head` and leaves exactly one page in `page`.
    pub(crate) fn read_page<R: Read>(
        &mut self,
        source: &mut Source<R>,
        head: &FrameHead,
        page: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        self.current = None;
        page.resize(self.page_size.as_usize(), 0);
        match head.block_len {
            Some(len) => self.read_block(source, head.pgno, len, page),
            None => read_lz4_frame(source, head.pgno, page),
        }
    }

    /// The LZ4 block of the page read last; `None` after a legacy frame or an error.
    pub(crate) fn current_block(&self) -> Option<&[u8]> {
        self.current.map(|len| &self.block[..len])
    }

    fn read_block<R: Read>(
        &mut self,
        source: &mut Source<R>,
        pgno: PageNo,
        len: u32,
        page: &mut [u8],
    ) -> Result<(), DecodeError> {
        let start = source.offset();
        // Grows to the bound once; shorter blocks use the front, so nothing is zeroed again and again.
        let len = len as usize;
        if self.block.len() < len {
            self.block.resize(len, 0);
        }
        let block = &mut self.block[..len];
        source.fill(block)?;
        let found = lz4_flex::block::decompress_into(block, page).map_err(|error| {
            DecodeError::new(
                start,
                DecodeFault::Compression {
                    pgno,
                    reason: error.to_string(),
                },
            )
        })?;
        if found != page.len() {
            let fault = DecodeFault::PageLength {
                pgno,
                expected: page.len() as u32,
                found: found as u64,
            };
            return Err(DecodeError::new(start, fault));
        }
        self.current = Some(len);
        Ok(())
    }
}

/// Reads one legacy LZ4 frame, no byte more. The frame ends itself: an end mark and a checksum of the content.
fn read_lz4_frame<R: Read>(
    source: &mut Source<R>,
    pgno: PageNo,
    page: &mut [u8],
) -> Result<(), DecodeError> {
    let start = source.offset();
    let mut head = [0; LZ4_FRAME_START];
    source.fill(&mut head)?;
    // Anything else would let the frame ask for megabytes of buffers, or be a frame without content.
    if head[..4] != LZ4_FRAME_MAGIC || head[5] != LZ4_FRAME_BLOCK_64K {
        let reason = format!(
            "not an LZ4 frame of 64 KiB blocks found={:02x?}",
            &head[..6]
        );
        return Err(DecodeError::new(
            start,
            DecodeFault::Compression { pgno, reason },
        ));
    }
    let mut frame = lz4_flex::frame::FrameDecoder::new(head.chain(source));
    let fail = |error: std::io::Error| match error.get_ref() {
        Some(inner) if inner.is::<lz4_flex::frame::Error>() => DecodeError::new(
            start,
            DecodeFault::Compression {
                pgno,
                reason: error.to_string(),
            },
        ),
        _ => DecodeError::new(start, error),
    };
    frame.read_exact(page).map_err(fail)?;
    // The next read finds the end mark and checks the content checksum.
    let mut beyond = [0; 1];
    if frame.read(&mut beyond).map_err(fail)? != 0 {
        let fault = DecodeFault::PageLength {
            pgno,
            expected: page.len() as u32,
            found: page.len() as u64 + 1,
        };
        return Err(DecodeError::new(start, fault));
    }
    Ok(())
}

/// Decodes one whole current or legacy page frame, for example one fetched by a ranged read of an object store.
///
/// `frame` is exactly the bytes that a [`PageIndexEntry`](crate::PageIndexEntry) names; `page` receives one page. The file checksum
/// cannot be checked this way.
///
/// # Errors
/// [`DecodeError`] with offsets counted from the start of `frame`.
pub fn decode_page_frame(
    page_size: PageSize,
    frame: &[u8],
    page: &mut Vec<u8>,
) -> Result<PageNo, DecodeError> {
    let mut source = Source::new(frame, 0);
    let mut reader = FrameReader::new(page_size);
    let head = reader
        .read_head(&mut source)?
        .ok_or_else(|| DecodeError::new(0, crate::PageOrderError::Zero))?;
    reader.read_page(&mut source, &head, page)?;
    source.expect_end()?;
    Ok(head.pgno)
}
