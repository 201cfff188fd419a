//! [`Encoder`]: writes an LTX file in one pass.
//!
//! Owns the order of sections, compression and the file checksum. Memory: one page, one compressed page, an 8 or 16 KiB hash table
//! and about ten bytes per page for the index. Called once per commit (small files) and for snapshots and compactions (large ones).

use std::io::Write;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::crc64::Crc64;
use crate::page_frame::{FLAG_SIZED_BLOCK, PAGE_HEADER_LEN, SIZE_LEN};
use crate::page_order::PageOrder;
use crate::trailer::check_post_apply;
use crate::{Checksum, DatabaseChecksum, EncodeError, HEADER_LEN, Header, PageNo, Trailer, varint};

const FRAME_START: usize = PAGE_HEADER_LEN + SIZE_LEN;

/// Writes header, pages (ascending) and, with [`finish`](Self::finish), index and trailer.
///
/// Each page is written with one `write_all`; wrap a file in a `BufWriter` if its pages compress well.
#[must_use = "a file without its trailer is not valid"]
pub struct Encoder<W> {
    writer: W,
    header: Header,
    offset: u64,
    crc: Crc64,
    order: PageOrder,
    /// Fold of a snapshot's pages, to be compared with the checksum given at the end.
    database: Option<DatabaseChecksum>,
    /// The page index in its disk form: compact, and written as it is.
    index: Vec<u8>,
    frame: Vec<u8>,
    table: CompressTable,
    failed: bool,
}

impl<W: Write> Encoder<W> {
    /// Validates and writes the header.
    ///
    /// # Errors
    /// [`EncodeError::Header`] if a rule is broken (nothing is written then), [`EncodeError::Io`].
    pub fn new(mut writer: W, header: Header) -> Result<Self, EncodeError> {
        header.validate()?;
        let bytes = header.encode();
        writer.write_all(&bytes)?;
        let mut crc = Crc64::new();
        crc.update(&bytes);
        let page_len = header.page_size.as_usize();
        Ok(Encoder {
            writer,
            header,
            offset: HEADER_LEN as u64,
            crc,
            order: PageOrder::new(&header),
            database: (header.is_snapshot() && !header.no_checksum)
                .then(|| DatabaseChecksum::new(header.page_size)),
            index: Vec::new(),
            frame: vec![0; FRAME_START + get_maximum_output_size(page_len)],
            table: if page_len < usize::from(u16::MAX) {
                CompressTable::small()
            } else {
                CompressTable::large()
            },
            failed: false,
        })
    }

    /// The header that was written.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Appends a page; `data` is exactly one page.
    ///
    /// # Errors
    /// [`EncodeError::PageOrder`] and [`EncodeError::PageLength`] leave the encoder usable; after [`EncodeError::Io`] every
    /// further call fails.
    pub fn encode_page(&mut self, pgno: PageNo, data: &[u8]) -> Result<(), EncodeError> {
        self.admit(pgno, data)?;
        let block_len =
            compress_into_with_table(data, &mut self.frame[FRAME_START..], &mut self.table)
                .map_err(|error| EncodeError::Compression {
                    pgno,
                    reason: error.to_string(),
                })?;
        self.write_frame(pgno, data, block_len)
    }

    /// Like [`encode_page`](Self::encode_page) for a page whose LZ4 block is known: `block` decompresses to `data` (not checked here) and is no
    /// longer than any page needs.
    pub(crate) fn encode_compressed(
        &mut self,
        pgno: PageNo,
        data: &[u8],
        block: &[u8],
    ) -> Result<(), EncodeError> {
        self.admit(pgno, data)?;
        self.frame[FRAME_START..FRAME_START + block.len()].copy_from_slice(block);
        self.write_frame(pgno, data, block.len())
    }

    /// Checks that the page may come now. From here until its frame is out the encoder counts as failed, so that any error is final.
    fn admit(&mut self, pgno: PageNo, data: &[u8]) -> Result<(), EncodeError> {
        if self.failed {
            return Err(EncodeError::Failed);
        }
        let expected = self.header.page_size;
        if data.len() != expected.as_usize() {
            return Err(EncodeError::PageLength {
                pgno,
                expected: expected.get(),
                found: data.len(),
            });
        }
        self.order.accept(pgno)?;
        self.failed = true;
        Ok(())
    }

    /// Writes the frame whose block stands in the frame buffer.
    fn write_frame(
        &mut self,
        pgno: PageNo,
        data: &[u8],
        block_len: usize,
    ) -> Result<(), EncodeError> {
        self.frame[..4].copy_from_slice(&pgno.get().to_be_bytes());
        self.frame[4..6].copy_from_slice(&FLAG_SIZED_BLOCK.to_be_bytes());
        self.frame[6..FRAME_START].copy_from_slice(&(block_len as u32).to_be_bytes());
        self.crc.update(&self.frame[..FRAME_START]);
        self.crc.update(data);
        if let Some(database) = &mut self.database {
            database.add_page(pgno, data);
        }
        let frame_len = FRAME_START + block_len;
        self.writer.write_all(&self.frame[..frame_len])?;
        varint::put(&mut self.index, u64::from(pgno.get()));
        varint::put(&mut self.index, self.offset);
        varint::put(&mut self.index, frame_len as u64);
        self.offset += frame_len as u64;
        self.failed = false;
        Ok(())
    }

    /// Writes index and trailer, flushes, and gives the writer back.
    ///
    /// `post` is the checksum of the database after this file: `None` exactly if the header says "no checksum".
    ///
    /// # Errors
    /// [`EncodeError::PageOrder`] if a snapshot lacks pages, [`EncodeError::Trailer`] if `post` does not fit the header or a snapshot's
    /// pages, [`EncodeError::Io`], [`EncodeError::Failed`].
    pub fn finish(mut self, post: Option<Checksum>) -> Result<(W, Trailer), EncodeError> {
        if self.failed {
            return Err(EncodeError::Failed);
        }
        self.order.finish()?;
        let computed = self.database.map(|database| database.value());
        let post = check_post_apply(&self.header, post.map_or(0, Checksum::get), computed)?;

        let mut end = vec![0; PAGE_HEADER_LEN];
        end.append(&mut self.index);
        end.push(0);
        let index_len = (end.len() - PAGE_HEADER_LEN) as u64;
        end.extend_from_slice(&index_len.to_be_bytes());
        end.extend_from_slice(&post.map_or(0, Checksum::get).to_be_bytes());
        self.crc.update(&end);
        let file_checksum = self.crc.checksum();
        end.extend_from_slice(&file_checksum.get().to_be_bytes());
        self.writer.write_all(&end)?;
        self.writer.flush()?;
        Ok((
            self.writer,
            Trailer {
                post_apply_checksum: post,
                file_checksum,
            },
        ))
    }
}
