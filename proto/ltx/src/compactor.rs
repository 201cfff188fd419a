//! [`Compactor`]: merges consecutive files into one.
//!
//! Owns the merge rules (which neighbours fit, which page wins, what the new header says). All inputs are open at once; memory is one
//! page per input. Called by the archive for its levels and for restores, which read the merged pages instead of writing a file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{Read, Write};

use crate::{DecodeError, Decoder, EncodeError, Encoder, Header, PageNo, PageSize, Trailer, Txid};

/// Why files cannot be merged. `input` counts the inputs from 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// There is nothing to merge.
    #[error("no input files")]
    NoInputs,
    /// An input cannot be read.
    #[error("input is not readable: {source} input={input}")]
    Decode {
        /// The input.
        input: usize,
        /// Why.
        source: DecodeError,
    },
    /// The output cannot be written.
    #[error("output is not writable: {0}")]
    Encode(#[from] EncodeError),
    /// The inputs have different page sizes.
    #[error("page sizes differ input={input} expected={expected} found={found}")]
    PageSize {
        /// The input.
        input: usize,
        /// Page size of the first input.
        expected: PageSize,
        /// Page size of this input.
        found: PageSize,
    },
    /// An input leaves transactions out after its predecessor, or ends no later than it.
    #[error(
        "input does not follow its predecessor input={input} previous_max_txid={previous_max} min_txid={min} max_txid={max}"
    )]
    NotContiguous {
        /// The input.
        input: usize,
        /// Last transaction of the input before.
        previous_max: Txid,
        /// First transaction of this input.
        min: Txid,
        /// Last transaction of this input.
        max: Txid,
    },
    /// Pages have been taken one by one, so a whole file can no longer be written.
    #[error("pages have been taken already")]
    PagesTaken,
    /// An earlier call failed; nothing more can be read.
    #[error("compactor failed before")]
    Failed,
}

struct Input<R> {
    decoder: Decoder<R>,
    page: Vec<u8>,
}

/// Merges files in the order of their transactions: of each page the newest version, none beyond the end of the database.
pub struct Compactor<R> {
    inputs: Vec<Input<R>>,
    header: Header,
    /// The current page of each input that has one: smallest page first, of equal pages the newest input.
    heads: BinaryHeap<(Reverse<PageNo>, usize)>,
    /// Inputs whose current page has been dealt with; they read on when the next page is asked for.
    pending: Vec<usize>,
    taken: bool,
    failed: bool,
}

impl<R: Read> Compactor<R> {
    /// Reads the headers of all inputs (oldest first) and checks that they fit together.
    ///
    /// Each input must begin at most one transaction after the end of the one before (they may overlap) and end after it.
    ///
    /// # Errors
    /// [`CompactError`]: no inputs, an unreadable header, different page sizes, or a gap.
    pub fn new(inputs: impl IntoIterator<Item = R>) -> Result<Self, CompactError> {
        let mut opened: Vec<Input<R>> = Vec::new();
        let mut merged: Option<Header> = None;
        for (input, reader) in inputs.into_iter().enumerate() {
            let decoder =
                Decoder::new(reader).map_err(|source| CompactError::Decode { input, source })?;
            merged = Some(merge_headers(merged.as_ref(), decoder.header(), input)?);
            opened.push(Input {
                decoder,
                page: Vec::new(),
            });
        }
        let header = merged.ok_or(CompactError::NoInputs)?;
        Ok(Compactor {
            pending: (0..opened.len()).collect(),
            heads: BinaryHeap::with_capacity(opened.len()),
            inputs: opened,
            header,
            taken: false,
            failed: false,
        })
    }

    /// Header of the merged file: no checksums, no WAL position, no node id.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next page of the merged content, ascending; `None` after the last one.
    ///
    /// **Nothing is proven before `None` has come**: only then the checksums of all inputs have been verified.
    ///
    /// # Errors
    /// [`CompactError::Decode`]; every later call fails too.
    pub fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<PageNo>, CompactError> {
        self.taken = true;
        let Some((pgno, input)) = self.step()? else {
            return Ok(None);
        };
        // The input reads its next page into the caller's old buffer.
        std::mem::swap(page, &mut self.inputs[input].page);
        Ok(Some(pgno))
    }

    /// Goes to the next page; its content is the current page of the input returned with it.
    fn step(&mut self) -> Result<Option<(PageNo, usize)>, CompactError> {
        // Set while stepping, so that an error is final.
        if std::mem::replace(&mut self.failed, true) {
            return Err(CompactError::Failed);
        }
        let next = loop {
            while let Some(input) = self.pending.pop() {
                self.advance(input)?;
            }
            let Some((Reverse(pgno), newest)) = self.heads.pop() else {
                self.verify_inputs()?;
                break None;
            };
            self.pending.push(newest);
            while let Some(&(Reverse(other), older)) = self.heads.peek()
                && other == pgno
            {
                self.heads.pop();
                self.pending.push(older);
            }
            if pgno.get() <= self.header.commit {
                break Some((pgno, newest));
            }
        };
        self.failed = false;
        Ok(next)
    }

    fn advance(&mut self, input: usize) -> Result<(), CompactError> {
        let Input { decoder, page } = &mut self.inputs[input];
        let next = decoder
            .next_page(page)
            .map_err(|source| CompactError::Decode { input, source })?;
        if let Some(pgno) = next {
            self.heads.push((Reverse(pgno), input));
        }
        Ok(())
    }

    fn verify_inputs(&mut self) -> Result<(), CompactError> {
        for (input, Input { decoder, .. }) in self.inputs.drain(..).enumerate() {
            decoder
                .finish()
                .map_err(|source| CompactError::Decode { input, source })?;
        }
        Ok(())
    }

    /// Writes the merged file and gives the writer back.
    ///
    /// # Errors
    /// [`CompactError::PagesTaken`] after [`next_page`](Self::next_page) has been called (nothing is written then); after any
    /// other [`CompactError`] what was written must be thrown away.
    pub fn write_to<W: Write>(mut self, writer: W) -> Result<(W, Trailer), CompactError> {
        if self.taken {
            return Err(CompactError::PagesTaken);
        }
        let mut encoder = Encoder::new(writer, self.header)?;
        while let Some((pgno, input)) = self.step()? {
            let Input { decoder, page } = &self.inputs[input];
            match decoder.current_block() {
                // Compressing is what costs most; the decoder has proven that this block is this page.
                Some(block) => encoder.encode_compressed(pgno, page, block)?,
                None => encoder.encode_page(pgno, page)?,
            }
        }
        Ok(encoder.finish(None)?)
    }
}

/// The header of everything up to and with `next`, which is input number `input`.
fn merge_headers(
    merged: Option<&Header>,
    next: &Header,
    input: usize,
) -> Result<Header, CompactError> {
    let mut min = next.min_txid;
    if let Some(merged) = merged {
        if merged.page_size != next.page_size {
            let (expected, found) = (merged.page_size, next.page_size);
            return Err(CompactError::PageSize {
                input,
                expected,
                found,
            });
        }
        let is_gap = next.min_txid > merged.max_txid.next();
        #[cfg(feature = "planted-bugs")]
        let is_gap = is_gap && !halite_planted::on(halite_planted::Bug::CompactionOverGap);
        if is_gap || next.max_txid <= merged.max_txid {
            let (previous_max, min, max) = (merged.max_txid, next.min_txid, next.max_txid);
            return Err(CompactError::NotContiguous {
                input,
                previous_max,
                min,
                max,
            });
        }
        min = merged.min_txid;
    }
    Ok(Header::new(
        next.page_size,
        next.commit,
        min,
        next.max_txid,
        next.timestamp_ms,
    ))
}
