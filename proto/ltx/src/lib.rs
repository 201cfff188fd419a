//! The LTX file format: one file holds the pages that a range of SQLite transactions changed.
//!
//! This crate owns the bytes of such files and the values in them ([`Txid`], [`PageNo`], [`Checksum`], [`Position`]). It reads and
//! writes through [`std::io::Read`] and [`std::io::Write`] only: no files are opened, nothing is asynchronous, no clock is asked, and
//! where files live, which are kept and when they are merged is decided elsewhere. Everything that stores or ships transactions calls
//! it: capture and apply, the replicated log, the archive.
//!
//! - [`Encoder`] and [`Decoder`] stream a file in one pass; the size of the database does not matter.
//! - [`PageIndex`] finds single pages; [`decode_page_frame`] decodes one that was fetched alone.
//! - [`Compactor`] merges consecutive files into one, or hands out the merged pages for a restore.
//! - [`DatabaseChecksum`] and [`page_checksum`] compute the checksum of a [`Position`].
//!
//! ```
//! use halite_ltx::{Decoder, Encoder, Header, PageNo, PageSize, Txid};
//!
//! let page_size = PageSize::DEFAULT;
//! let header = Header::new(page_size, 2, Txid::new(7), Txid::new(7), 1_700_000_000_000);
//! let mut encoder = Encoder::new(Vec::new(), header)?;
//! encoder.encode_page(PageNo::new(2), &vec![0; page_size.as_usize()])?;
//! let (file, _trailer) = encoder.finish(None)?;
//!
//! let mut decoder = Decoder::new(&file[..])?;
//! let mut page = Vec::new();
//! while let Some(pgno) = decoder.next_page(&mut page)? {
//!     println!("page {pgno}: {} bytes", page.len());
//! }
//! decoder.finish()?; // only now the pages are proven
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The format
//!
//! What [superfly/ltx](https://github.com/superfly/ltx) 0.5.2 writes and Litestream 0.5.16 and later store. All integers of fixed width
//! are big-endian. A file has four sections:
//!
//! | section | bytes | content |
//! |---|---|---|
//! | header | 100 | see [`Header`] |
//! | pages | any | one frame per page, ascending; then six zero bytes |
//! | page index | any | per page three varints: page number, offset of its frame, length of its frame; a zero byte; the length of all this in 8 bytes |
//! | trailer | 16 | checksum of the database after the file (0 for none), checksum of the file |
//!
//! **Frame.** Page number (4 bytes), flags (2), and with flag 1 a size (4) and an LZ4 *block* of that size. Pages that do not compress
//! are LZ4 blocks all the same. Files of ltx 0.5.1 and earlier have flags 0 and an LZ4 *frame* (blocks of 64 KiB, content checksum)
//! without a size; both kinds are read, the first is written.
//!
//! **Snapshot.** A file whose first transaction is 1 holds the whole database: every page from 1 to the commit size, in order. Any other
//! file holds what changed, ascending. The lock page ([`PageSize::lock_page`]) is in no file, and no page lies beyond the commit size.
//! Applying a file means writing its pages and cutting the database to the commit size.
//!
//! **Varints** hold seven bits per byte, lowest first, bit 7 set on all but the last; only the shortest form is valid.
//!
//! **Checksums** are CRC-64/GO-ISO with bit 63 set, so that none is zero. The file checksum covers the header; of each page the page
//! header, the size field and the *uncompressed* content; the six zero bytes; the index with its length; and the post-apply checksum. The
//! checksum of a page covers its number (4 bytes) and content; that of a database is the xor of its pages' checksums.
//!
//! **Files without checksums.** Header flag 2 says that the two database checksums (before and after) are absent; the file checksum never
//! is. Everything meant for Litestream must be such a file, since its compaction refuses others.
//!
//! # Stricter than the reference reader
//!
//! Beyond its rules, the decoder refuses: a snapshot that ends before its last page; an index that differs in any byte from what the pages
//! call for; bytes after the trailer; a compressed size that no page can need (checked before memory is taken); legacy frames with
//! blocks other than 64 KiB; a file with commit size 0 and no checksum.
//!
//! # Trust
//!
//! Input is not trusted: whatever the bytes, reading ends in a value or a [`DecodeError`] that names the byte offset. Memory is bounded by
//! one page, one compressed page and about ten bytes per page really read.

pub use checksum::Checksum;
pub use compactor::{CompactError, Compactor};
pub use database_checksum::{DatabaseChecksum, page_checksum};
pub use decode_error::{DecodeError, DecodeFault};
pub use decoder::Decoder;
pub use encode_error::EncodeError;
pub use encoder::Encoder;
pub use file_name::{file_name, parse_file_name};
pub use header::{HEADER_LEN, Header, HeaderError};
pub use page_frame::decode_page_frame;
pub use page_index::{PageIndex, PageIndexEntry};
pub use page_no::PageNo;
pub use page_order::PageOrderError;
pub use page_size::{InvalidPageSize, PageSize};
pub use parse_error::ParseError;
pub use position::Position;
pub use trailer::{TRAILER_LEN, Trailer, TrailerError};
pub use txid::Txid;

mod checksum;
mod compactor;
mod crc64;
mod database_checksum;
mod decode_error;
mod decoder;
mod encode_error;
mod encoder;
mod file_name;
mod header;
mod hex;
mod page_frame;
mod page_index;
mod page_no;
mod page_order;
mod page_size;
mod parse_error;
mod position;
mod source;
mod trailer;
mod txid;
mod varint;
