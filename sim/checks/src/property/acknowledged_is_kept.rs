//! Acknowledged means kept: every insert that was answered with yes is there in the end, on every node, under the id it was told.

use std::collections::BTreeMap;

use crate::history::{Row, WriteId};
use crate::tables::{Table, final_tables};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "acknowledged_is_kept";

/// Acknowledged inserts that are missing, or are elsewhere.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    final_tables(end)
        .flat_map(|table| missing(history, &table))
        .collect()
}

fn missing(history: &History, table: &Table<'_>) -> Vec<Violation> {
    let last_rows: BTreeMap<WriteId, Row> =
        table.rows.iter().map(|row| (row.write, *row)).collect();
    let mut violations = Vec::new();
    for insert in &history.set.inserts {
        let Some((_, inserted)) = insert.answered() else {
            continue;
        };
        let write = insert.asked.write;
        let what = match (last_rows.get(&write), inserted.newest) {
            (None, _) => format!("{write} was acknowledged and is not at {}", table.source),
            (Some(row), Some(newest)) if row.id != newest => {
                format!(
                    "{write} was acknowledged as row {newest} and is {row} at {}",
                    table.source
                )
            }
            _ => continue,
        };
        violations.push(Violation::new(NAME, what).with(insert));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[test]
    fn acknowledged_write_may_not_be_missing_on_any_node() {
        let mut script = Script::default();
        script.insert(1, 1, 1);
        let lost = script.insert(1, 2, 2);
        script.end();
        assert_eq!(script.check(check), []);
        script.node(2).truncate(1);
        let violations = script.check(check);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].operation_ids(), [lost]);
        assert!(violations[0].what.contains("not at node 2"));
    }

    #[test]
    fn acknowledged_row_may_not_have_another_id() {
        let mut script = Script::default();
        let moved = script.insert(1, 1, 1);
        script.insert(1, 2, 1);
        script.end();
        let rows = script.node(1);
        (rows[0].id, rows[1].id) = (2, 1);
        rows.swap(0, 1);
        let violations = script.check(check);
        assert_eq!(violations.len(), 2);
        assert_eq!(violations[0].operation_ids(), [moved]);
    }

    #[test]
    fn unknown_and_failed_writes_may_be_missing() {
        let mut script = Script::default();
        script.unknown_insert(1, 1, 1);
        script.failed_insert(1, 2);
        script.end();
        script.node(1).clear();
        assert_eq!(script.check(check), []);
    }
}
