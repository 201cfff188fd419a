//! [`Source`]: a reader that knows its byte offset. Owns the mapping of read errors to [`DecodeError`].

use std::io::{self, Read};

use crate::{DecodeError, DecodeFault};

/// Counts what is read, so that every error can say where the trouble is.
#[derive(Debug)]
pub(crate) struct Source<R> {
    reader: R,
    offset: u64,
}

impl<R: Read> Source<R> {
    pub(crate) fn new(reader: R, offset: u64) -> Self {
        Source { reader, offset }
    }

    /// Offset of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills `buf`; a cut-off file is reported at the offset where the missing item began.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) -> Result<(), DecodeError> {
        let start = self.offset;
        self.read_exact(buf)
            .map_err(|error| DecodeError::new(start, DecodeFault::from(error)))
    }

    /// Checks that nothing follows.
    pub(crate) fn expect_end(&mut self) -> Result<(), DecodeError> {
        let start = self.offset;
        loop {
            match self.read(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(DecodeError::new(start, DecodeFault::TrailingBytes)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DecodeError::new(start, DecodeFault::from(error))),
            }
        }
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buf)?;
        self.offset += count as u64;
        Ok(count)
    }
}
