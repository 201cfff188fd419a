//! [`Witness`]: what the members acknowledged to this node while it led. A disk that holds less was put back to an old copy.
//!
//! Pure. A node that has forgotten what it acknowledged, or that it voted, could help to elect a primary that lacks acknowledged writes, just
//! as one that lost its disk.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What one data directory acknowledged to the leader of one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Acknowledged {
    /// It had voted for that leader, or followed it.
    pub(crate) term: u64,
    /// Entries up to here were on its disk.
    pub(crate) index: u64,
    /// Of those, these are committed: no log loses them again.
    pub(crate) committed: u64,
}

/// How far a disk reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Held {
    /// Of its vote.
    pub(crate) term: u64,
    /// Of its last entry, or of what it applied if that reaches further.
    pub(crate) index: u64,
}

impl Acknowledged {
    /// Whether a disk that holds this cannot have acknowledged that. A later term may have cut the log off, down to what was committed.
    pub(crate) fn is_denied_by(self, held: Held) -> bool {
        held.term < self.term
            || (held.term == self.term && held.index < self.index)
            || held.index < self.committed
    }
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.term, self.index, self.committed)
    }
}

impl FromStr for Acknowledged {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('.').map(|part| part.parse::<u64>().ok());
        let mut next = || numbers.next().flatten().ok_or(());
        Ok(Self {
            term: next()?,
            index: next()?,
            committed: next()?,
        })
    }
}

/// By node: its data directory, and what that acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    seen: BTreeMap<u64, (String, Acknowledged)>,
}

impl Witness {
    /// True if this is news.
    pub(crate) fn note(
        &mut self,
        node_id: u64,
        instance_id: &str,
        acknowledged: Acknowledged,
    ) -> bool {
        match self.seen.get_mut(&node_id) {
            Some((instance, before)) if instance == instance_id => {
                let mut next = *before;
                if (acknowledged.term, acknowledged.index) > (next.term, next.index) {
                    (next.term, next.index) = (acknowledged.term, acknowledged.index);
                }
                next.committed = next.committed.max(acknowledged.committed);
                std::mem::replace(before, next) != next
            }
            _ => {
                let seen = (instance_id.to_owned(), acknowledged);
                self.seen.insert(node_id, seen);
                true
            }
        }
    }

    /// `None` of a data directory that acknowledged nothing here.
    pub(crate) fn of(&self, node_id: u64, instance_id: &str) -> Option<Acknowledged> {
        let (instance, acknowledged) = self.seen.get(&node_id)?;
        (instance == instance_id).then_some(*acknowledged)
    }

    /// Everything, to be kept.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &str, Acknowledged)> {
        let seen = self.seen.iter();
        seen.map(|(id, (instance, acknowledged))| (*id, instance.as_str(), *acknowledged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(term: u64, index: u64, committed: u64) -> Acknowledged {
        Acknowledged {
            term,
            index,
            committed,
        }
    }

    #[test]
    fn a_disk_that_holds_less_than_it_acknowledged_was_put_back() {
        let said = acknowledged(5, 100, 90);
        for (term, index, denied) in [
            (5, 100, false),
            (5, 200, false),
            // Its vote is gone.
            (4, 100, true),
            // Entries are gone, and the leader of one term takes nothing back.
            (5, 99, true),
            // A later leader took back what was not committed, and nothing else.
            (6, 95, false),
            (6, 90, false),
            (6, 89, true),
        ] {
            let held = Held { term, index };
            assert_eq!(said.is_denied_by(held), denied, "{held:?}");
        }
    }

    #[test]
    fn what_was_acknowledged_never_grows_less_for_one_data_directory() {
        let mut witness = Witness::default();
        assert!(witness.note(2, "a", acknowledged(5, 100, 90)));
        assert!(!witness.note(2, "a", acknowledged(5, 80, 70)));
        assert!(witness.note(2, "a", acknowledged(6, 95, 95)));
        assert_eq!(witness.of(2, "a"), Some(acknowledged(6, 95, 95)));
        assert_eq!(witness.of(2, "b"), None);
        // The node was removed and added again.
        assert!(witness.note(2, "b", acknowledged(6, 10, 10)));
        assert_eq!(witness.of(2, "b"), Some(acknowledged(6, 10, 10)));
    }

    #[test]
    fn it_survives_the_wire() {
        let said = acknowledged(5, 100, 90);
        assert_eq!(said.to_string().parse(), Ok(said));
        assert_eq!("1.2".parse::<Acknowledged>(), Err(()));
        assert_eq!("1.2.x".parse::<Acknowledged>(), Err(()));
    }
}
