//! Writes are atomic: whoever sees one row of a write sees all of them, next to each other.

use crate::history::Row;
use crate::tables::{Table, tables};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "nothing_torn";

/// Tables that have a write in part.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    tables(history, end).iter().filter_map(torn).collect()
}

/// The first tear in a table. Rows up to the `after` of a read were not asked for, so its first row may be any part.
pub(crate) fn torn(table: &Table<'_>) -> Option<Violation> {
    let first = table.rows.first()?;
    if first.id == 1 && first.part != 0 {
        return Some(accuse(table, first, "the part before it is missing"));
    }
    for pair in table.rows.windows(2) {
        let [row, next] = pair else { continue };
        if row.part + 1 < row.parts {
            let follows = next.write == row.write && next.part == row.part + 1;
            if !follows {
                return Some(accuse(table, row, "the next part does not follow it"));
            }
        } else if next.part != 0 {
            return Some(accuse(table, next, "the part before it is missing"));
        }
    }
    let last = table.rows.last()?;
    let whole = last.part + 1 >= last.parts;
    (!whole).then(|| accuse(table, last, "the parts after it are missing"))
}

fn accuse(table: &Table<'_>, row: &Row, what: &str) -> Violation {
    table.accuse(NAME, format!("{row} at {}: {what}", table.source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Level;
    use crate::script::Script;

    fn three_writes() -> Script {
        let mut script = Script::default();
        script.insert(1, 1, 1);
        script.insert(1, 2, 3);
        script.insert(2, 1, 1);
        script.end();
        script
    }

    #[test]
    fn whole_writes_pass_wherever_a_read_begins() {
        let mut script = three_writes();
        for after in 0..=5 {
            let rows = script.rows[after..].to_vec();
            script.read(1, Level::Local, after as i64, &rows);
        }
        assert_eq!(script.check(check), []);
    }

    #[test]
    fn write_may_not_miss_its_end_its_middle_or_its_beginning() {
        for missing in 1..=3 {
            let mut script = three_writes();
            script.node(1).remove(missing);
            assert_eq!(script.check(check).len(), 1, "without row {missing}");
        }
        let mut script = three_writes();
        script.node(1).truncate(3);
        assert_eq!(script.check(check).len(), 1);
    }

    #[test]
    fn read_may_not_see_half_a_write() {
        let mut script = three_writes();
        let rows = script.rows[1..3].to_vec();
        let read = script.read(1, Level::Local, 1, &rows);
        let violations = script.check(check);
        assert_eq!(violations[0].operation_ids(), [read]);
        assert!(violations[0].what.contains("parts after it"));
    }

    #[test]
    fn first_row_of_a_table_is_the_first_part_of_its_write() {
        let mut script = Script::default();
        script.insert(1, 1, 2);
        script.end();
        for row in script.node(1) {
            row.part += 1;
            row.parts += 1;
        }
        assert_eq!(script.check(check).len(), 1);
    }
}
