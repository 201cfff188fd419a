//! [`Ledger`]: what the writers were told about each write, and the judgement over what is there in the end. Pure.

use std::collections::BTreeMap;
use std::fmt;

use halite_client::{Error, ErrorKind};

/// What a writer was told about one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is kept.
    Acknowledged,
    /// It may or may not be kept.
    Unknown,
    /// Nothing was written.
    Refused,
}

impl Fate {
    pub(super) fn of_error(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::OutcomeUnknown | ErrorKind::Internal => Fate::Unknown,
            _ => Fate::Refused,
        }
    }
}

/// Names one write of the demo: no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WriteId {
    pub(super) writer: i64,
    /// From 0, in the order in which the writer made them.
    pub(super) seq: i64,
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writer={} seq={}", self.writer, self.seq)
    }
}

impl WriteId {
    /// The text that goes with this write: too long to be right by chance, different each time.
    pub(super) fn note(self) -> String {
        let mut state = (self.writer as u64) << 40 ^ self.seq as u64;
        let words = (0..6).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            format!("{:08x}", state >> 32)
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// The writes of all writers and what became of them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    fates: BTreeMap<WriteId, Fate>,
}

/// How what is there stands to what was said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) acknowledged: usize,
    pub(super) unknown: usize,
    pub(super) refused: usize,
    /// Rows found.
    pub(super) rows: usize,
    /// Acknowledged and not there.
    pub(super) lost: Vec<WriteId>,
    /// There more than once.
    pub(super) doubled: Vec<WriteId>,
    /// There although it was said that nothing was written, or never asked for.
    pub(super) uncalled: Vec<WriteId>,
}

impl Ledger {
    pub(super) fn record(&mut self, write: WriteId, fate: Fate) {
        let before = self.fates.insert(write, fate);
        assert_eq!(before, None, "every write has one fate: {write}");
    }

    pub(super) fn merge(&mut self, other: Ledger) {
        for (write, fate) in other.fates {
            self.record(write, fate);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fates.len()
    }

    pub(super) fn count(&self, fate: Fate) -> usize {
        self.fates.values().filter(|known| **known == fate).count()
    }

    pub(super) fn judge(&self, found: impl IntoIterator<Item = WriteId>) -> Verdict {
        let mut times: BTreeMap<WriteId, usize> = BTreeMap::new();
        let mut rows = 0;
        for write in found {
            *times.entry(write).or_default() += 1;
            rows += 1;
        }
        let uncalled =
            |write: &&WriteId| matches!(self.fates.get(write), None | Some(Fate::Refused));
        let lost = self
            .fates
            .iter()
            .filter(|(write, fate)| **fate == Fate::Acknowledged && !times.contains_key(write));
        Verdict {
            acknowledged: self.count(Fate::Acknowledged),
            unknown: self.count(Fate::Unknown),
            refused: self.count(Fate::Refused),
            rows,
            lost: lost.map(|(write, _)| *write).collect(),
            doubled: times
                .iter()
                .filter(|(_, times)| **times > 1)
                .map(|(write, _)| *write)
                .collect(),
            uncalled: times.keys().filter(uncalled).copied().collect(),
        }
    }
}

impl Verdict {
    /// One line for people: what holds, or everything that does not.
    pub(super) fn outcome(&self) -> Result<String, String> {
        if self.acknowledged == 0 {
            return Err("no write was acknowledged at all".to_owned());
        }
        let faults = [
            ("lost although acknowledged", &self.lost),
            ("there more than once", &self.doubled),
            ("there although never written", &self.uncalled),
        ];
        let faults: Vec<String> = faults
            .into_iter()
            .filter(|(_, writes)| !writes.is_empty())
            .map(|(what, writes)| format!("{} {what} ({})", writes.len(), some(writes)))
            .collect();
        if faults.is_empty() {
            Ok(format!(
                "all {} acknowledged writes are there, each exactly once",
                self.acknowledged
            ))
        } else {
            Err(format!(
                "of {} acknowledged writes: {}",
                self.acknowledged,
                faults.join("; ")
            ))
        }
    }
}

/// The first few, for people.
pub(super) fn some<T: fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 3;
    let mut text: Vec<String> = items.iter().take(SHOWN).map(T::to_string).collect();
    if items.len() > SHOWN {
        text.push("...".to_owned());
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(writer: i64, seq: i64) -> WriteId {
        WriteId { writer, seq }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.record(id(1, 0), Fate::Acknowledged);
        ledger.record(id(1, 1), Fate::Unknown);
        ledger.record(id(1, 2), Fate::Refused);
        let mut other = Ledger::default();
        other.record(id(2, 0), Fate::Acknowledged);
        ledger.merge(other);
        ledger
    }

    #[test]
    fn unknown_writes_may_be_there_or_not() {
        for found in [vec![id(2, 0), id(1, 0)], vec![id(1, 0), id(1, 1), id(2, 0)]] {
            let verdict = ledger().judge(found.clone());
            assert_eq!(
                (verdict.acknowledged, verdict.unknown, verdict.refused),
                (2, 1, 1)
            );
            assert_eq!(verdict.rows, found.len());
            assert!(verdict.outcome().unwrap().contains("all 2 acknowledged"));
        }
    }

    #[test]
    fn every_kind_of_broken_promise_is_found() {
        let all = [id(1, 0), id(2, 0)];
        let lost = ledger().judge([id(1, 0)]);
        assert_eq!(lost.lost, [id(2, 0)]);
        let doubled = ledger().judge([id(1, 0), id(2, 0), id(2, 0)]);
        assert_eq!(doubled.doubled, [id(2, 0)]);
        let unknown_twice = ledger().judge([id(1, 0), id(1, 1), id(1, 1), id(2, 0)]);
        assert_eq!(unknown_twice.doubled, [id(1, 1)]);
        let refused = ledger().judge(all.into_iter().chain([id(1, 2)]));
        assert_eq!(refused.uncalled, [id(1, 2)]);
        let stranger = ledger().judge(all.into_iter().chain([id(7, 7)]));
        assert_eq!(stranger.uncalled, [id(7, 7)]);
        for verdict in [lost, doubled, unknown_twice, refused, stranger] {
            assert!(verdict.outcome().is_err(), "{verdict:?}");
        }
    }

    #[test]
    fn a_run_without_writes_proves_nothing() {
        assert!(Ledger::default().judge([]).outcome().is_err());
    }

    #[test]
    fn notes_differ_and_can_be_told_again() {
        assert_eq!(id(1, 2).note(), id(1, 2).note());
        assert_ne!(id(1, 2).note(), id(2, 1).note());
        assert_ne!(id(1, 2).note(), id(1, 3).note());
    }
}
