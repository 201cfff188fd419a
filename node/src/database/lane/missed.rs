//! [`Missed`]: the committed entries that came while the database needed repair.
//!
//! A page diff is pulled while the log goes on, so it is mostly older than what the node calls applied by then. What came meanwhile is
//! kept, bounded, and applied after the diff: without it a database under load would never be well again.
//!
//! Called by the lane's `apply` alone: whatever it is handed while the database needs repair goes in, the entry that made a repair necessary
//! first; once the pages are installed, what follows them comes out. It must never hand out an entry that does not follow the one before:
//! what comes after a gap is let go of. Nor may anything be let go of in silence. Everything pushed has been counted in `Lane::owed`
//! before, so a database that was not given all of it stays in need of repair, and newer pages are pulled.

use std::collections::VecDeque;

use halite_ltx::Txid;

use crate::database::CommittedLtx;

/// What is kept at most. With more, the oldest go; the pages that are pulled have to be newer than those.
const BYTES_MAX: usize = 32 << 20;
/// What an entry takes beside its data.
const ENTRY_BYTES: usize = 512;

/// See the module.
#[derive(Default)]
pub(super) struct Missed {
    entries: VecDeque<CommittedLtx>,
    bytes: usize,
}

impl Missed {
    pub(super) fn push(&mut self, entry: CommittedLtx) {
        self.bytes += size(&entry);
        self.entries.push_back(entry);
        while self.bytes > BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= size(&oldest);
        }
    }

    /// Takes out those that follow `txid` without a gap; forgets all.
    pub(super) fn take_after(&mut self, txid: Txid) -> Vec<CommittedLtx> {
        self.bytes = 0;
        let mut next = txid.next();
        std::mem::take(&mut self.entries)
            .into_iter()
            .filter(|entry| {
                let follows = entry.command.txid == next.get();
                if follows {
                    next = next.next();
                }
                follows
            })
            .collect()
    }
}

/// Chunks stay in the log.
fn size(entry: &CommittedLtx) -> usize {
    ENTRY_BYTES + entry.command.data.len()
}

#[cfg(test)]
mod tests {
    use halite_proto::v1;

    use super::*;

    fn entry(txid: u64, bytes: usize) -> CommittedLtx {
        CommittedLtx {
            index: txid + 100,
            term: 1,
            command: v1::LtxCommand {
                txid,
                data: vec![0; bytes].into(),
                ..v1::LtxCommand::default()
            },
            chunks: None,
        }
    }

    fn txids(entries: &[CommittedLtx]) -> Vec<u64> {
        entries.iter().map(|entry| entry.command.txid).collect()
    }

    #[test]
    fn what_follows_is_kept() {
        let mut missed = Missed::default();
        (4..9).for_each(|txid| missed.push(entry(txid, 10)));
        assert_eq!(txids(&missed.take_after(Txid::new(5))), [6, 7, 8]);
        assert!(missed.take_after(Txid::new(5)).is_empty());
        missed.push(entry(9, 10));
        assert!(missed.take_after(Txid::new(7)).is_empty());
    }

    #[test]
    fn the_oldest_go_first() {
        let mut missed = Missed::default();
        (1..=40).for_each(|txid| missed.push(entry(txid, 1 << 20)));
        assert!(missed.bytes <= BYTES_MAX);
        assert!(missed.take_after(Txid::new(0)).is_empty());
        (1..=40).for_each(|txid| missed.push(entry(txid, 1 << 20)));
        assert_eq!(missed.take_after(Txid::new(20)).len(), 20);
    }
}
