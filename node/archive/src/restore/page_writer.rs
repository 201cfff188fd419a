//! [`PageWriter`]: writes pages of a database file in large pieces.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use halite_ltx::{PageNo, PageSize};

const BUFFER_BYTES: usize = 1024 * 1024;

/// Gathers neighbouring pages and writes them with one call. Nothing is certain to be written before [`finish`](Self::finish).
pub(crate) struct PageWriter<'a> {
    file: &'a File,
    page_size: PageSize,
    buffer: Vec<u8>,
    buffer_offset: u64,
    pages: u64,
}

impl<'a> PageWriter<'a> {
    pub(crate) fn new(file: &'a File, page_size: PageSize) -> Self {
        PageWriter {
            file,
            page_size,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            buffer_offset: 0,
            pages: 0,
        }
    }

    /// Takes a page; returns true if that led to a write.
    pub(crate) fn write(&mut self, pgno: PageNo, page: &[u8]) -> io::Result<bool> {
        let offset = pgno.offset(self.page_size);
        let fits = self.buffer.len() + page.len() <= BUFFER_BYTES;
        let adjoins = offset == self.buffer_offset + self.buffer.len() as u64;
        let flush = !fits || !adjoins;
        if flush {
            self.flush()?;
            self.buffer_offset = offset;
        }
        self.buffer.extend_from_slice(page);
        self.pages += 1;
        Ok(flush)
    }

    /// Pages taken.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// Writes what is left and makes the file exactly `commit` pages long. Pages never written (the lock page) read as zeros.
    pub(crate) fn finish(mut self, commit: u32) -> io::Result<()> {
        self.flush()?;
        self.file
            .set_len(u64::from(commit) * u64::from(self.page_size.get()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.buffer_offset)?;
        self.buffer.clear();
        Ok(())
    }
}
