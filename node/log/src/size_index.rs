//! How many bytes the entries between two indexes take, near enough for limits and metrics.

use std::collections::VecDeque;

/// Entries per segment: the grain of the estimate.
const SEGMENT_ENTRIES: u64 = 1024;

struct Segment {
    first: u64,
    entries: u64,
    bytes: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        self.first + self.entries
    }

    /// Bytes of the last `entries` of this segment, prorated.
    fn tail_bytes(&self, entries: u64) -> u64 {
        let share = u128::from(self.bytes) * u128::from(entries) / u128::from(self.entries.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

/// Sizes of consecutive entries, kept per segment of 1024.
#[derive(Default)]
pub(crate) struct SizeIndex {
    segments: VecDeque<Segment>,
}

impl SizeIndex {
    /// An index over entries whose sizes are known only in sum, as after opening.
    pub(crate) fn of_estimate(first: u64, end: u64, bytes: u64) -> Self {
        let mut index = Self::default();
        if end > first {
            index.segments.push_back(Segment {
                first,
                entries: end - first,
                bytes,
            });
        }
        index
    }

    pub(crate) fn push(&mut self, index: u64, bytes: u64) {
        if let Some(segment) = self.segments.back_mut()
            && segment.end() == index
            && segment.entries < SEGMENT_ENTRIES
        {
            segment.entries += 1;
            segment.bytes += bytes;
            return;
        }
        self.segments.push_back(Segment {
            first: index,
            entries: 1,
            bytes,
        });
    }

    /// Forgets the entries at and behind `end`.
    pub(crate) fn truncate(&mut self, end: u64) {
        while let Some(segment) = self.segments.back_mut() {
            if segment.first >= end {
                self.segments.pop_back();
                continue;
            }
            if segment.end() > end {
                let gone = segment.end() - end;
                segment.bytes -= segment.tail_bytes(gone);
                segment.entries -= gone;
            }
            break;
        }
    }

    /// Forgets the entries before `first`.
    pub(crate) fn purge(&mut self, first: u64) {
        while let Some(segment) = self.segments.front_mut() {
            if segment.end() <= first {
                self.segments.pop_front();
                continue;
            }
            if segment.first < first {
                let kept = segment.end() - first;
                segment.bytes = segment.tail_bytes(kept);
                segment.entries = kept;
                segment.first = first;
            }
            break;
        }
    }

    /// Bytes of the entries at and behind `from`.
    pub(crate) fn bytes_from(&self, from: u64) -> u64 {
        let mut bytes = 0;
        for segment in self.segments.iter().rev() {
            if segment.end() <= from {
                break;
            }
            bytes += if segment.first >= from {
                segment.bytes
            } else {
                segment.tail_bytes(segment.end() - from)
            };
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_push_truncate_and_purge() {
        let mut index = SizeIndex::of_estimate(0, 100, 1000);
        for i in 100..5000 {
            index.push(i, 10);
        }
        assert_eq!(50_000, index.bytes_from(0));
        assert_eq!(10_000, index.bytes_from(4000));
        index.truncate(4500);
        assert_eq!(45_000, index.bytes_from(0));
        index.purge(50);
        assert_eq!(44_500, index.bytes_from(0));
        index.push(4500, 10);
        assert_eq!(44_510, index.bytes_from(0));
        index.truncate(0);
        assert_eq!(0, index.bytes_from(0));
    }
}
