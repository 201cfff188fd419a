//! Nobody sees what may vanish: a row that anybody saw, at any level, stays where it is, for everybody, for ever.
//!
//! All states of the table are prefixes of one sequence, so two readers never find different rows under one id, no row is missing
//! below one that is there, and what was ever read is there in the end.

use std::collections::BTreeMap;

use crate::history::Row;
use crate::tables::{Source, Table, final_tables, sightings, tables};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "nothing_vanishes";

/// Contradictions between readers, holes, and rows that are gone in the end.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let tables = tables(history, end);
    let sightings = sightings(&tables);
    let mut violations: Vec<_> = tables.iter().filter_map(hole).collect();
    violations.extend(contradictions(&sightings));
    for table in final_tables(end) {
        violations.extend(gone(&sightings, &table));
    }
    violations
}

/// The first row that a table misses below one that it has.
pub(crate) fn hole(table: &Table<'_>) -> Option<Violation> {
    let ids = table.after + 1..;
    let (expected, row) = ids.zip(table.rows).find(|(id, row)| row.id != *id)?;
    let what = format!("{} has {row} and no row {expected} below it", table.source);
    Some(table.accuse(NAME, what))
}

fn contradictions(sightings: &[(Row, &Table<'_>)]) -> Vec<Violation> {
    let mut first = BTreeMap::new();
    let mut violations = Vec::new();
    for (row, table) in sightings {
        let (known, other) = *first.entry(row.id).or_insert((*row, *table));
        if known != *row {
            violations.push(contradiction(row, table, &known, other));
        }
    }
    violations
}

fn contradiction(row: &Row, table: &Table<'_>, known: &Row, other: &Table<'_>) -> Violation {
    let what = format!("{row} at {} was {known} at {}", table.source, other.source);
    table.accuse(NAME, what).with_some(other.operation())
}

fn gone(sightings: &[(Row, &Table<'_>)], end: &Table<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (row, table) in sightings {
        let was_read = matches!(table.source, Source::Read(_));
        if was_read && !has(end.rows, row.id) {
            let what = format!(
                "{row} was seen by {} and is not at {}",
                table.source, end.source
            );
            violations.push(table.accuse(NAME, what));
        }
    }
    violations
}

fn has(rows: &[Row], id: i64) -> bool {
    let index = usize::try_from(id - 1).unwrap_or(usize::MAX);
    rows.get(index).is_some_and(|row| row.id == id) || rows.iter().any(|row| row.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Level, WriteId};
    use crate::script::Script;

    fn two_writes() -> Script {
        let mut script = Script::default();
        script.insert(1, 1, 1);
        script.unknown_insert(1, 2, 2);
        script.end();
        script
    }

    #[test]
    fn any_prefix_may_be_read_at_any_time() {
        let mut script = two_writes();
        for newest in [0, 3, 1, 3] {
            let rows = script.rows[..newest].to_vec();
            script.read(2, Level::Local, 0, &rows);
        }
        assert_eq!(script.check(check), []);
    }

    #[test]
    fn row_that_was_read_may_not_be_gone_in_the_end() {
        let mut script = two_writes();
        let rows = script.rows.clone();
        let read = script.read(2, Level::Local, 0, &rows);
        script.node(3).truncate(1);
        let violations = script.check(check);
        assert_eq!(violations.len(), 2, "two rows");
        assert_eq!(violations[0].operation_ids(), [read]);
        assert!(violations[0].what.contains("not at node 3"));
    }

    #[test]
    fn readers_may_not_contradict_each_other_or_a_node() {
        let mut script = two_writes();
        let mut row = script.rows[0];
        let first = script.read(2, Level::Local, 0, &[row]);
        row.write = WriteId { writer: 1, seq: 2 };
        let second = script.read(3, Level::Local, 0, &[row]);
        let violations = script.check(check);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].operation_ids(), [second, first]);
        script.history.set.reads.remove(0);
        assert_eq!(script.check(check).len(), 1, "against the nodes");
    }

    #[test]
    fn row_may_not_be_absent_below_one_that_is_there() {
        for (after, absent) in [(0, 0), (0, 1), (1, 0)] {
            let mut script = two_writes();
            let mut rows = script.rows[after..].to_vec();
            rows.remove(absent);
            script.read(2, Level::Local, after as i64, &rows);
            let violations = script.check(check);
            assert_eq!(violations.len(), 1, "{violations:?}");
            assert!(violations[0].what.contains("below it"));
        }
        let mut script = two_writes();
        script.node(1).remove(1);
        assert_eq!(script.check(check).len(), 1);
    }
}
