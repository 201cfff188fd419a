//! Writes take effect in real-time order, and a linearizable read sees everything that was there before it began.
//!
//! The log orders all writes, and rows and values tell their place in it. So this is exact: operations can be put into one order
//! that respects real time if and only if nobody is behind another one that ended before he began. What anybody saw counts, at any
//! level: it was committed then, and a linearizable read sees all that is committed.

use crate::accesses::{Access, accesses, behind};
use crate::{FinalState, History, Level, Violation};

/// Name of this property.
pub const NAME: &str = "linearizable";

/// Stale linearizable reads, and writes that took effect before what had ended before them.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let accesses = accesses(history, end);
    let promised =
        |access: &Access<'_>| access.writes || access.caller.level == Level::Linearizable;
    behind(&accesses, |access| access.object, promised)
        .iter()
        .map(|found| {
            Violation::new(NAME, found.what())
                .with(found.access)
                .with(found.earlier)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use crate::{Increment, Insert, Inserted, Key, Outcome, ReadRows, RegisterValue, Tag, WriteId};

    #[test]
    fn linearizable_read_sees_what_was_acknowledged_before() {
        let mut script = Script::default();
        script.insert(1, 1, 1);
        let missed = script.insert(1, 2, 1);
        script.read_up_to(2, Level::Linearizable, 2);
        script.read_up_to(2, Level::Local, 1);
        script.read_up_to(2, Level::Session, 1);
        assert_eq!(script.check(check), []);
        let read = script.read_up_to(3, Level::Linearizable, 1);
        let violations = script.check(check);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].operation_ids(), [read, missed]);
    }

    #[test]
    fn linearizable_read_that_finds_no_rows_is_stale_only_below_where_it_looked() {
        let mut script = Script::default();
        script.insert(1, 1, 2);
        script.read(2, Level::Linearizable, 2, &[]);
        script.read(2, Level::Linearizable, 7, &[]);
        assert_eq!(script.check(check), []);
        script.read(2, Level::Linearizable, 1, &[]);
        assert_eq!(script.check(check).len(), 1);
    }

    #[test]
    fn linearizable_read_sees_what_anybody_saw_before() {
        let mut script = Script::default();
        script.unknown_insert(1, 1, 1);
        script.read(3, Level::Linearizable, 0, &[]);
        let seen = script.read_up_to(2, Level::Local, 1);
        assert_eq!(script.check(check), [], "an unknown write may come late");
        let read = script.read(3, Level::Linearizable, 0, &[]);
        assert_eq!(script.check(check)[0].operation_ids(), [read, seen]);
    }

    #[test]
    fn overlapping_operations_may_be_in_any_order() {
        let mut script = Script::default();
        let newest = Some(script.append(1, 1, 1));
        let write = WriteId { writer: 1, seq: 1 };
        let insert = script.begin(1, Level::Linearizable, Insert { write, parts: 1 });
        let read = script.begin(2, Level::Linearizable, ReadRows { after: 0 });
        script.finish(insert, Outcome::Ok(Inserted { newest }));
        script.finish(read, Outcome::Ok(Vec::new()));
        assert_eq!(script.check(check), []);
    }

    #[test]
    fn writes_take_effect_in_real_time_order() {
        for first_is_told in [true, false] {
            let mut script = Script::default();
            let second = script.insert(1, 1, 1);
            let first = script.insert(2, 1, 1);
            script.end();
            assert_eq!(script.check(check), []);
            for (insert, newest) in [(0, 2), (1, 1)] {
                let inserted = &mut script.history.set.inserts[insert].outcome;
                *inserted = Outcome::Ok(Inserted {
                    newest: first_is_told.then_some(newest),
                });
            }
            script.node(1).swap(0, 1);
            script.node(1)[0].id = 1;
            script.node(1)[1].id = 2;
            script.end.nodes.retain(|node, _| node.0 == 1);
            assert_eq!(script.check(check)[0].operation_ids(), [first, second]);
        }
    }

    #[test]
    fn write_comes_after_what_was_seen_before_it_was_asked_for() {
        let mut script = Script::default();
        let early = script.unknown_insert(1, 1, 1);
        script.insert(2, 1, 1);
        assert_eq!(script.check(check), []);
        let read = script.read_up_to(3, Level::Local, 2);
        let write = script.insert(1, 2, 1);
        assert_eq!(script.check(check), []);
        let last = script.history.set.inserts.last_mut().expect("inserts");
        last.outcome = Outcome::Ok(Inserted { newest: Some(2) });
        let violations = script.check(check);
        assert_eq!(violations.len(), 1);
        assert!(violations[0].operation_ids().contains(&write));
        assert!(!violations[0].operation_ids().contains(&early));
        assert_ne!(violations[0].operation_ids()[1], write, "{read}");
    }

    #[test]
    fn registers_are_held_to_the_same() {
        let mut script = Script::default();
        let key = Key(1);
        let written = RegisterValue::INITIAL.next(Tag(7));
        script.increment(1, key, 7, written);
        script.read_register(2, Level::Linearizable, key, written);
        script.read_register(2, Level::Linearizable, Key(2), RegisterValue::INITIAL);
        assert_eq!(script.check(check), []);
        script.read_register(2, Level::Linearizable, key, RegisterValue::INITIAL);
        assert_eq!(script.check(check).len(), 1);
    }

    #[test]
    fn unknown_increment_is_where_the_one_that_replaced_it_says() {
        for (early, found) in [(true, 0), (false, 1)] {
            let mut script = Script::default();
            let key = Key(1);
            let unknown = Increment { key, tag: Tag(7) };
            let begin = |script: &mut Script| {
                let _abandoned = script.begin(2, Level::Linearizable, unknown);
            };
            if early {
                begin(&mut script);
            }
            let one = RegisterValue::INITIAL.next(Tag(5));
            script.read_register(1, Level::Local, key, one);
            if !early {
                begin(&mut script);
            }
            let two = RegisterValue {
                value: 2,
                tag: Tag(8),
                replaced: Tag(7),
            };
            script.increment(1, key, 8, two);
            assert_eq!(script.check(check).len(), found);
        }
    }
}
