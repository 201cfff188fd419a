//! [`OrderedQueue`]: what the log decides and the lane has not taken yet, in its order, with a bound on the data of its entries.

use std::collections::VecDeque;

use crate::database::lane::message::{Ordered, Told};

/// Data of entries that wait for the lane. What comes beyond it is let go of and read from the log again.
const BYTES_MAX: usize = 32 << 20;

/// See the module.
#[derive(Default)]
pub(super) struct OrderedQueue {
    items: VecDeque<Ordered>,
    /// Data of the entries in it.
    bytes: usize,
}

impl OrderedQueue {
    /// An entry that there is no room for is let go of: that it is committed is all that is kept.
    pub(super) fn push(&mut self, item: Ordered) {
        let told = match item {
            Ordered::Apply(entry)
                if self.bytes + entry.ltx.bytes() > BYTES_MAX && !self.items.is_empty() =>
            {
                Told {
                    mark: entry.ltx.mark(),
                    replies: vec![entry.reply],
                }
            }
            other => {
                self.bytes += data_bytes(&other);
                return self.items.push_back(other);
            }
        };
        match self.items.back_mut() {
            Some(Ordered::Told(last)) => {
                last.mark = told.mark;
                last.replies.extend(told.replies);
            }
            _ => self.items.push_back(Ordered::Told(told)),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Ordered> {
        let item = self.items.pop_front()?;
        self.bytes -= data_bytes(&item);
        Some(item)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Something waits to be applied.
    pub(super) fn has_entries(&self) -> bool {
        let waits = |item: &Ordered| matches!(item, Ordered::Apply(_) | Ordered::Told(_));
        self.items.iter().any(waits)
    }

    /// Shows what there is to `decide`, which may take items off the front.
    pub(super) fn change<T>(&mut self, decide: impl FnOnce(&mut VecDeque<Ordered>) -> T) -> T {
        let decision = decide(&mut self.items);
        self.bytes = self.items.iter().map(data_bytes).sum();
        decision
    }
}

fn data_bytes(item: &Ordered) -> usize {
    match item {
        Ordered::Apply(entry) => entry.ltx.bytes(),
        _ => 0,
    }
}
