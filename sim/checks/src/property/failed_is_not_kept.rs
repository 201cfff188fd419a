//! A write whose client was told that it failed is nowhere, at no time.

use std::collections::BTreeSet;

use crate::history::Outcome;
use crate::tables::{sightings, tables, writes};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "failed_is_not_kept";

/// Failed inserts that somebody saw; each once, by whoever saw it first.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let tables = tables(history, end);
    let writes = writes(history);
    let mut accused = BTreeSet::new();
    let mut violations = Vec::new();
    for (row, table) in sightings(&tables) {
        let Some(insert) = writes.get(&row.write) else {
            continue;
        };
        if let Outcome::Failed(why) = &insert.outcome
            && accused.insert(row.write)
        {
            let what = format!(
                "{row} is at {}, and its writer was told: {why}",
                table.source
            );
            violations.push(table.accuse(NAME, what).with(*insert));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Level, Row, WriteId};
    use crate::script::Script;

    #[test]
    fn failed_write_may_not_be_seen_even_for_a_while() {
        let mut script = Script::default();
        let insert = script.failed_insert(1, 1);
        script.insert(1, 2, 1);
        script.end();
        assert_eq!(script.check(check), []);
        let row = Row {
            id: 2,
            write: WriteId { writer: 1, seq: 1 },
            part: 0,
            parts: 1,
        };
        let read = script.read(2, Level::Local, 1, &[row]);
        let violations = script.check(check);
        assert_eq!(violations[0].operation_ids(), [read, insert]);
        script.node(1).push(row);
        assert_eq!(script.check(check).len(), 1, "the same write");
    }

    #[test]
    fn failed_write_may_not_be_there_in_the_end() {
        let mut script = Script::default();
        script.insert(1, 1, 1);
        script.end();
        script.history.set.inserts[0].outcome = Outcome::Failed("full".into());
        assert_eq!(script.check(check).len(), 1);
        script.history.set.inserts[0].outcome = Outcome::Unknown("gone".into());
        assert_eq!(script.check(check), []);
    }
}
