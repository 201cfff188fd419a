//! Checks that are cheap enough to run along, so that a run can stop where something went wrong.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Insert, Level, Operation, ReadRows, Row, SessionId, WriteId};
use crate::property::{
    failed_is_not_kept, linearizable, nothing_torn, nothing_vanishes, session_guarantees,
};
use crate::tables::{Source, Table};
use crate::violation::{Shown, Violation, Witness};

/// Watches the rows of a run: contradictions between readers, holes, torn and failed writes that are seen, stale linearizable reads,
/// sessions that go back.
///
/// It is told of operations as they return, in that order. What it finds, [`check_all`](crate::check_all) finds too; that one also
/// finds what needs the end. An operation costs what it read, and a few steps that grow with the logarithm of the run.
#[derive(Debug, Default)]
pub struct Watch {
    /// By id: the row, and who saw it first.
    rows: BTreeMap<i64, (Row, Witness)>,
    failed: BTreeSet<WriteId>,
    newest: Floor,
    sessions: BTreeMap<SessionId, Floor>,
}

/// The newest row that was acknowledged or seen, at each moment since the beginning.
#[derive(Debug, Default)]
struct Floor {
    /// Moment, row, and whose row it was; both numbers rise.
    steps: Vec<(u64, i64, Witness)>,
}

impl Floor {
    fn raise(&mut self, order: u64, newest: i64, operation: &dyn Shown) {
        if self
            .steps
            .last()
            .is_none_or(|(_, known, _)| newest > *known)
        {
            self.steps.push((order, newest, operation.witness()));
        }
    }

    /// What was known before a moment.
    fn before(&self, order: u64) -> Option<(i64, &Witness)> {
        let earlier = self.steps.partition_point(|(known, _, _)| *known < order);
        let (_, newest, witness) = self.steps.get(earlier.checked_sub(1)?)?;
        Some((*newest, witness))
    }
}

impl Watch {
    /// An insert has returned.
    pub fn inserted(&mut self, insert: &Operation<Insert>) -> Vec<Violation> {
        if insert.outcome.is_failed() {
            self.failed.insert(insert.asked.write);
        }
        let mut violations = Vec::new();
        if let Some((returned, inserted)) = insert.answered()
            && let Some(newest) = inserted.newest
        {
            // It gets a new row, so one less than its own is what it may have seen.
            violations.extend(self.goes_back(insert, newest - 1));
            self.raise(insert, returned.order, newest);
        }
        violations
    }

    /// A read has returned.
    pub fn read(&mut self, read: &Operation<ReadRows>) -> Vec<Violation> {
        let Some((returned, rows)) = read.answered() else {
            return Vec::new();
        };
        let table = Table {
            source: Source::Read(read),
            after: read.asked.after,
            rows,
        };
        let mut violations: Vec<Violation> = nothing_vanishes::hole(&table).into_iter().collect();
        violations.extend(nothing_torn::torn(&table));
        violations.extend(self.contradictions(read, rows));
        violations.extend(self.failed(read, rows));
        let newest = rows.last().map(|row| row.id);
        violations.extend(self.goes_back(read, newest.unwrap_or(read.asked.after)));
        if let Some(newest) = newest {
            self.raise(read, returned.order, newest);
        }
        violations
    }

    fn raise<R: crate::Request>(&mut self, operation: &Operation<R>, order: u64, newest: i64) {
        self.newest.raise(order, newest, operation);
        let session = self.sessions.entry(operation.caller.session).or_default();
        session.raise(order, newest, operation);
    }

    fn contradictions(&mut self, read: &Operation<ReadRows>, rows: &[Row]) -> Option<Violation> {
        let mut found = None;
        for row in rows {
            let first = self.rows.entry(row.id);
            let (known, by) = first.or_insert_with(|| (*row, read.witness()));
            if known != row && found.is_none() {
                let what = format!("{row} by {} was {known} by {}", read.id, by.id);
                found = Some(
                    Violation::new(nothing_vanishes::NAME, what)
                        .with(read)
                        .with(by),
                );
            }
        }
        found
    }

    fn failed(&self, read: &Operation<ReadRows>, rows: &[Row]) -> Option<Violation> {
        let row = rows.iter().find(|row| self.failed.contains(&row.write))?;
        let what = format!(
            "{row} is at read {}, and its writer was told that it failed",
            read.id
        );
        Some(Violation::new(failed_is_not_kept::NAME, what).with(read))
    }

    /// `seen` is the newest row that the operation can have seen.
    fn goes_back<R: crate::Request>(
        &self,
        operation: &Operation<R>,
        seen: i64,
    ) -> Option<Violation> {
        let begun = operation.invoked.order;
        let session = self.sessions.get(&operation.caller.session);
        let promises = [
            (
                linearizable::NAME,
                Some(&self.newest),
                operation.caller.level == Level::Linearizable,
            ),
            (
                session_guarantees::NAME,
                session,
                operation.caller.level.keeps_session_order(),
            ),
        ];
        promises
            .into_iter()
            .find_map(|(property, floor, promised)| {
                let (newest, earlier) = floor?.before(begun)?;
                let what = format!(
                    "{} saw at most row {seen}, and row {newest} was there before it began",
                    operation.id
                );
                (promised && seen < newest)
                    .then(|| Violation::new(property, what).with(operation).with(earlier))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Inserted, Outcome};
    use crate::script::Script;

    /// Operations of a script return in the order in which they began.
    fn watch(script: &Script) -> Vec<&'static str> {
        let set = &script.history.set;
        let mut watch = Watch::default();
        let mut found: Vec<(u64, Violation)> = Vec::new();
        let mut inserts = set.inserts.iter().peekable();
        for read in set.reads.iter().map(Some).chain([None]) {
            let until = read.map_or(u64::MAX, |read| read.id.0);
            while let Some(insert) = inserts.next_if(|insert| insert.id.0 < until) {
                found.extend(
                    watch
                        .inserted(insert)
                        .into_iter()
                        .map(|violation| (insert.id.0, violation)),
                );
            }
            if let Some(read) = read {
                found.extend(
                    watch
                        .read(read)
                        .into_iter()
                        .map(|violation| (read.id.0, violation)),
                );
            }
        }
        // Whatever it finds, the checks over the whole find as well.
        let all = crate::check_all(&script.history, &script.end);
        for (id, violation) in &found {
            assert!(violation.operation_ids().contains(&crate::OperationId(*id)));
            assert!(
                all.iter().any(|other| other.property == violation.property),
                "{violation}"
            );
        }
        found
            .iter()
            .map(|(_, violation)| violation.property)
            .collect()
    }

    fn good() -> Script {
        let mut script = Script::default();
        script.insert(1, 1, 1);
        script.unknown_insert(2, 1, 2);
        script.insert(1, 2, 1);
        script.read_up_to(3, Level::Session, 3);
        script.read_up_to(4, Level::Linearizable, 4);
        script.read_up_to(3, Level::Session, 3);
        script.read_up_to(4, Level::Local, 1);
        script
    }

    #[test]
    fn good_run_passes() {
        assert_eq!(watch(&good()), [""; 0]);
    }

    #[test]
    fn each_kind_of_violation_is_found_when_it_happens() {
        let mut script = good();
        script.read_up_to(9, Level::Linearizable, 3);
        assert_eq!(watch(&script), ["linearizable"]);

        let mut script = good();
        script.read_up_to(3, Level::Session, 1);
        assert_eq!(watch(&script), ["session_guarantees"]);

        let mut script = good();
        script.read_up_to(5, Level::Local, 2);
        assert_eq!(watch(&script), ["nothing_torn"]);

        let mut script = good();
        let last = script.rows[3];
        script.read(5, Level::Local, 0, &[last]);
        assert_eq!(watch(&script), ["nothing_vanishes"]);

        let mut script = good();
        let row = Row {
            write: WriteId { writer: 1, seq: 2 },
            ..script.rows[0]
        };
        script.read(5, Level::Local, 0, &[row]);
        assert_eq!(watch(&script), ["nothing_vanishes"]);

        let mut script = good();
        script.failed_insert(6, 1);
        script.append(6, 1, 1);
        script.read_up_to(5, Level::Local, 5);
        assert_eq!(watch(&script), ["failed_is_not_kept"]);

        let mut script = good();
        script.insert(7, 1, 1);
        let last = script.history.set.inserts.last_mut().expect("inserts");
        last.outcome = Outcome::Ok(Inserted { newest: Some(4) });
        assert_eq!(watch(&script), ["linearizable"]);
    }
}
