//! Every row that anybody sees was written by somebody, as it is, and not before it was asked for.

use crate::history::{Insert, Operation, Row};
use crate::tables::{Source, sightings, tables, writes};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "nothing_invented";

/// Rows that nobody wrote.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let tables = tables(history, end);
    let writes = writes(history);
    let mut violations = Vec::new();
    // A row's first table is the first to return that has it: if that one is not too early, none is.
    for (row, table) in sightings(&tables) {
        let insert = writes.get(&row.write).copied();
        let returned = match table.source {
            Source::Read(read) => read.returned.map(|moment| moment.order),
            Source::Node(_) => None,
        };
        let why = match insert {
            None => "nobody wrote it",
            Some(insert) if !is_part_of(&row, insert) => "it was not written like this",
            Some(insert) if returned.is_some_and(|order| order < insert.invoked.order) => {
                "it was written only later"
            }
            Some(_) => continue,
        };
        let what = format!("{row} is at {}: {why}", table.source);
        let violation = table.accuse(NAME, what);
        violations.push(match insert {
            Some(insert) => violation.with(insert),
            None => violation,
        });
    }
    violations
}

fn is_part_of(row: &Row, insert: &Operation<Insert>) -> bool {
    row.parts == insert.asked.parts && (0..row.parts).contains(&row.part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Level, WriteId};
    use crate::script::Script;

    #[test]
    fn row_must_have_a_writer() {
        let mut script = Script::default();
        script.insert(1, 1, 1);
        script.end();
        assert_eq!(script.check(check), []);
        script.node(1)[0].write = WriteId { writer: 9, seq: 9 };
        assert!(script.check(check)[0].what.contains("nobody wrote it"));
    }

    #[test]
    fn row_must_be_as_it_was_written() {
        for (part, parts) in [(2, 2), (-1, 2), (0, 3)] {
            let mut script = Script::default();
            script.insert(1, 1, 2);
            script.end();
            let row = &mut script.node(1)[0];
            (row.part, row.parts) = (part, parts);
            assert!(script.check(check)[0].what.contains("not written like"));
        }
    }

    #[test]
    fn row_may_not_be_seen_before_it_is_written() {
        let mut script = Script::default();
        let row = Row {
            id: 1,
            write: WriteId { writer: 1, seq: 1 },
            part: 0,
            parts: 1,
        };
        let read = script.read(2, Level::Local, 0, &[row]);
        let insert = script.insert(1, 1, 1);
        let violations = script.check(check);
        assert_eq!(violations[0].operation_ids(), [read, insert]);
    }
}
