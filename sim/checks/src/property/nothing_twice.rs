//! No row of a write is there twice, or first under one id and then under another, whoever looks.

use std::collections::BTreeMap;

use crate::tables::{sightings, tables, writes};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "nothing_twice";

/// Rows that have more than one id.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let tables = tables(history, end);
    let writes = writes(history);
    let mut first = BTreeMap::new();
    let mut violations = Vec::new();
    for (row, table) in sightings(&tables) {
        let (id, other) = *first
            .entry((row.write, row.part))
            .or_insert((row.id, table));
        if id == row.id {
            continue;
        }
        let what = format!(
            "{row} at {} is also row {id} at {}",
            table.source, other.source
        );
        let mut violation = table.accuse(NAME, what).with_some(other.operation());
        if let Some(insert) = writes.get(&row.write) {
            violation = violation.with(*insert);
        }
        violations.push(violation);
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Level, Row};
    use crate::script::Script;

    #[test]
    fn row_may_not_be_there_twice_in_the_end() {
        let mut script = Script::default();
        let insert = script.insert(1, 1, 1);
        script.end();
        assert_eq!(script.check(check), []);
        let again = Row {
            id: 2,
            ..script.node(1)[0]
        };
        script.node(1).push(again);
        let violations = script.check(check);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].operation_ids(), [insert]);
    }

    #[test]
    fn row_may_not_be_read_under_two_ids() {
        let mut script = Script::default();
        let insert = script.unknown_insert(1, 1, 1);
        let row = script.rows[0];
        let first = script.read(2, Level::Local, 0, &[row]);
        let second = script.read(2, Level::Local, 4, &[Row { id: 5, ..row }]);
        let violations = script.check(check);
        assert_eq!(violations[0].operation_ids(), [second, first, insert]);
    }
}
