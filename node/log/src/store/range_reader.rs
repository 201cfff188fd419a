//! Reads a range of the log from front to back, a bounded piece at a time.

use std::ops::RangeInclusive;

use futures::Stream;
use futures::stream;

use super::LogReader;
use crate::error::LogError;
use crate::raft_types::Entry;

/// Bytes of entries held at once.
const PIECE_BYTES_MAX: usize = 4 << 20;

/// A walk over `from..=to`. Unlike openraft's reads it is strict: every entry of the range comes, in order, or an error.
pub struct RangeReader {
    reader: LogReader,
    next: u64,
    /// Exclusive.
    end: u64,
}

impl RangeReader {
    pub(super) fn new(reader: LogReader, range: RangeInclusive<u64>) -> Self {
        let end = if range.is_empty() {
            *range.start()
        } else {
            range.end().saturating_add(1)
        };
        Self {
            reader,
            next: *range.start(),
            end,
        }
    }

    /// The next entries of the range, one at least, up to about 4 MiB; `None` at its end.
    ///
    /// # Errors
    /// [`LogError::Purged`] if entries at the front are gone (also when that happens during the walk), [`LogError::PastEnd`] if the log
    /// ends before the range, [`LogError::Corrupt`] and [`LogError::Hole`] if the disk is damaged.
    pub async fn next_piece(&mut self) -> Result<Option<Vec<Entry>>, LogError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let entries = self
            .reader
            .read(self.next..self.end, PIECE_BYTES_MAX)
            .await?;
        self.accept(entries).map(Some)
    }

    /// The same for threads outside the runtime.
    pub fn next_piece_blocking(&mut self) -> Result<Option<Vec<Entry>>, LogError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let entries = self
            .reader
            .shared
            .read(self.next..self.end, PIECE_BYTES_MAX)?;
        self.accept(entries).map(Some)
    }

    /// The range entry by entry. Ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Entry, LogError>> + Send {
        stream::try_unfold(
            (self, Vec::new().into_iter()),
            |(mut reader, mut piece)| async move {
                if let Some(entry) = piece.next() {
                    return Ok(Some((entry, (reader, piece))));
                }
                let Some(entries) = reader.next_piece().await? else {
                    return Ok(None);
                };
                let mut piece = entries.into_iter();
                Ok(piece.next().map(|entry| (entry, (reader, piece))))
            },
        )
    }

    fn accept(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>, LogError> {
        let bounds = self.reader.shared.tail.lock().range();
        match (entries.first(), entries.last()) {
            (Some(first), Some(last)) if first.log_id.index == self.next => {
                self.next = last.log_id.index + 1;
                Ok(entries)
            }
            _ if self.next < bounds.start => Err(LogError::Purged {
                from: self.next,
                first: bounds.start,
            }),
            (None, _) if self.next >= bounds.end => Err(LogError::PastEnd {
                to: self.end - 1,
                end: bounds.end,
            }),
            _ => Err(LogError::Hole { index: self.next }),
        }
    }
}
