//! [`Capture`]: the frames of the write transaction under way, as SQLite writes them. Pure bookkeeping over bytes; owned by the
//! write transaction, which tells it of each write to the WAL.
//!
//! Frames are keyed by their place in the WAL, counted from the first one after the last commit, and the last content written to
//! a place wins: SQLite rewrites the page of a spilled frame in place without a new header, and a rollback to a savepoint leaves
//! frames behind that later ones overwrite. The content of small transactions is kept; that of a transaction past
//! `KEPT_BYTES_MAX` is read back from the WAL when needed, so that memory stays bounded (four bytes per frame).

use crate::os::FRAME_HEADER_BYTES;

/// Frame bytes kept in memory before a transaction is read back from the WAL instead.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Memory that stays allocated between transactions: a process may hold many databases.
const IDLE_BYTES_MAX: usize = 256 << 10;

/// A write that cannot come from SQLite's WAL writer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnexpectedWrite;

#[derive(Debug, Default)]
pub(crate) struct Capture {
    /// Frame number of `page_numbers[0]`; 0 while there is none.
    first_frame: u32,
    page_numbers: Vec<u32>,
    /// All frames (header and page) if `complete`, else just the last one.
    frames: Vec<u8>,
    complete: bool,
}

impl Capture {
    /// Forgets all frames, because a transaction begins or SQLite starts the WAL anew.
    pub(crate) fn clear(&mut self) {
        self.first_frame = 0;
        self.page_numbers.clear();
        if self.frames.capacity() > IDLE_BYTES_MAX {
            self.frames = Vec::new();
        }
        self.frames.clear();
        self.complete = true;
    }

    /// Takes an appended frame and returns its bytes. What was behind it has been rolled back.
    pub(crate) fn append(
        &mut self,
        frame: u32,
        pgno: u32,
        header: &[u8; FRAME_HEADER_BYTES],
        page: &[u8],
    ) -> Result<&[u8], UnexpectedWrite> {
        if self.page_numbers.is_empty() {
            self.first_frame = frame;
        }
        let place = frame.checked_sub(self.first_frame).ok_or(UnexpectedWrite)? as usize;
        if place > self.page_numbers.len() {
            return Err(UnexpectedWrite);
        }
        let frame_bytes = FRAME_HEADER_BYTES + page.len();
        self.page_numbers.truncate(place);
        self.page_numbers.push(pgno);
        if self.complete && (place + 1) * frame_bytes > KEPT_BYTES_MAX {
            self.complete = false;
        }
        self.frames.truncate(if self.complete {
            place * frame_bytes
        } else {
            0
        });
        let start = self.frames.len();
        self.frames.extend_from_slice(header);
        self.frames.extend_from_slice(page);
        Ok(&self.frames[start..])
    }

    /// Takes a page written in place over that of an earlier frame.
    pub(crate) fn rewrite(&mut self, frame: u32, page: &[u8]) -> Result<(), UnexpectedWrite> {
        let place = frame.checked_sub(self.first_frame).ok_or(UnexpectedWrite)? as usize;
        if self.first_frame == 0 || place >= self.page_numbers.len() {
            return Err(UnexpectedWrite);
        }
        if self.complete {
            let at = place * (FRAME_HEADER_BYTES + page.len()) + FRAME_HEADER_BYTES;
            self.frames[at..at + page.len()].copy_from_slice(page);
        }
        Ok(())
    }

    pub(crate) fn first_frame(&self) -> u32 {
        self.first_frame
    }

    /// Page numbers of the frames, in the order of the frames.
    pub(crate) fn page_numbers(&self) -> &[u32] {
        &self.page_numbers
    }

    /// The last frame appended, header included. It has not reached the WAL if it is a commit frame.
    pub(crate) fn last_frame(&self) -> &[u8] {
        if self.complete {
            let frame_bytes = self.frames.len() / self.page_numbers.len().max(1);
            &self.frames[self.frames.len() - frame_bytes..]
        } else {
            &self.frames
        }
    }

    /// The page of the frame at `place` (counted from 0), or `None` if it has to be read from the WAL.
    pub(crate) fn page(&self, place: usize) -> Option<&[u8]> {
        let count = self.page_numbers.len();
        if place + 1 == count {
            return Some(&self.last_frame()[FRAME_HEADER_BYTES..]);
        }
        if !self.complete {
            return None;
        }
        let frame_bytes = self.frames.len() / count;
        self.frames
            .get(place * frame_bytes + FRAME_HEADER_BYTES..(place + 1) * frame_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(capture: &mut Capture, frame: u32, pgno: u32, fill: u8) {
        let bytes = capture
            .append(frame, pgno, &[fill; 24], &[fill; 512])
            .expect("append");
        assert_eq!(bytes, [fill; 536]);
    }

    #[test]
    fn last_content_of_a_place_wins() {
        let mut capture = Capture::default();
        capture.clear();
        append(&mut capture, 7, 2, 1);
        append(&mut capture, 8, 3, 2);
        append(&mut capture, 9, 4, 3);
        capture.rewrite(7, &[9; 512]).expect("rewrite");
        // A savepoint was rolled back: frame 8 is written again, frame 9 is void.
        append(&mut capture, 8, 5, 4);
        assert_eq!(capture.page_numbers(), [2, 5]);
        assert_eq!(capture.page(0), Some(&[9; 512][..]));
        assert_eq!(capture.page(1), Some(&[4; 512][..]));
        assert_eq!(capture.rewrite(9, &[0; 512]), Err(UnexpectedWrite));
        assert!(
            capture.append(10, 1, &[0; 24], &[0; 512]).is_err(),
            "a gap is refused"
        );
    }

    #[test]
    fn large_transactions_keep_only_the_last_frame() {
        let mut capture = Capture::default();
        capture.clear();
        let frames = (KEPT_BYTES_MAX / 536 + 10) as u32;
        for frame in 1..=frames {
            append(&mut capture, frame, frame, frame as u8);
        }
        assert_eq!(capture.page(0), None);
        assert_eq!(
            capture.page(frames as usize - 1),
            Some(&[frames as u8; 512][..])
        );
        assert_eq!(capture.last_frame().len(), 536);
        assert_eq!(capture.page_numbers().len(), frames as usize);
    }
}
