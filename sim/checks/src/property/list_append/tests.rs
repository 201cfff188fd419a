use super::*;
use crate::history::{Key, Level, Outcome, Step};
use crate::script::Script;

fn append(key: u64, element: u64) -> Step {
    Step::Append {
        key: Key(key),
        element: crate::Element(element),
    }
}

fn read(key: u64) -> Step {
    Step::Read { key: Key(key) }
}

impl Script {
    fn transact(
        &mut self,
        session: u64,
        level: Level,
        steps: &[Step],
        reads: &[&[u64]],
    ) -> OperationId {
        let outcome = Outcome::Ok(reads.iter().map(|list| Self::list(list)).collect());
        let steps = steps.to_vec();
        self.run(session, level, ListTransaction { steps }, outcome)
    }

    fn strict(&mut self, session: u64, steps: &[Step], reads: &[&[u64]]) -> OperationId {
        self.transact(session, Level::Linearizable, steps, reads)
    }

    fn without_answer(
        &mut self,
        steps: &[Step],
        outcome: Outcome<Vec<Vec<crate::Element>>>,
    ) -> OperationId {
        let steps = steps.to_vec();
        self.run(9, Level::Linearizable, ListTransaction { steps }, outcome)
    }

    /// All of these transactions overlap. The answers are given in the same order.
    fn overlapping(&mut self, transactions: &[(&[Step], &[&[u64]])]) -> Vec<OperationId> {
        let begun: Vec<_> = (0..)
            .zip(transactions)
            .map(|(session, (steps, _))| {
                let steps = steps.to_vec();
                self.begin(session, Level::Linearizable, ListTransaction { steps })
            })
            .collect();
        let ids = begun.iter().map(|ticket| ticket.id()).collect();
        for (ticket, (_, reads)) in begun.into_iter().zip(transactions) {
            let answer = reads.iter().map(|list| Self::list(list)).collect();
            self.finish(ticket, Outcome::Ok(answer));
        }
        ids
    }
}

fn only(script: &Script) -> Violation {
    let mut violations = script.check(check);
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.remove(0)
}

fn unknown<T>() -> Outcome<T> {
    Outcome::Unknown("cut off".into())
}

#[test]
fn serial_transactions_pass() {
    let mut script = Script::default();
    script.strict(1, &[read(1), append(1, 10), append(2, 20)], &[&[]]);
    script.strict(
        2,
        &[append(1, 11), read(1), append(1, 12), read(1)],
        &[&[10, 11], &[10, 11, 12]],
    );
    script.without_answer(&[append(1, 13), append(2, 21)], unknown());
    script.without_answer(&[append(1, 99)], Outcome::Failed("refused".into()));
    script.without_answer(&[append(1, 14)], unknown());
    script.transact(3, Level::Local, &[read(1), read(2)], &[&[10], &[20]]);
    script.transact(
        3,
        Level::Session,
        &[read(1), read(2)],
        &[&[10, 11, 12, 13], &[20, 21]],
    );
    script.strict(1, &[append(3, 30)], &[]);
    script.strict(1, &[read(4)], &[&[]]);
    assert_eq!(script.check(check), []);
    script.end_lists(&[(1, &[10, 11, 12, 13]), (2, &[20, 21]), (3, &[30])]);
    assert_eq!(script.check(check), []);
    script.end_lists(&[(1, &[10, 11, 12, 13, 14]), (2, &[20, 21]), (3, &[30])]);
    assert_eq!(script.check(check), []);
}

#[test]
fn append_of_a_failed_transaction_may_not_be_read() {
    let mut script = Script::default();
    let failed = script.without_answer(&[append(1, 10)], Outcome::Failed("refused".into()));
    let reader = script.strict(1, &[read(1)], &[&[10]]);
    let violation = only(&script);
    assert_eq!(violation.operation_ids(), [reader, failed]);
    assert!(violation.what.contains("failed"));
}

#[test]
fn element_may_not_be_invented_or_there_twice() {
    let mut script = Script::default();
    script.strict(1, &[append(1, 10)], &[]);
    script.strict(1, &[read(1)], &[&[10, 77]]);
    assert!(only(&script).what.contains("nobody appended"));
    let mut script = Script::default();
    script.without_answer(&[append(1, 10)], unknown());
    script.strict(1, &[read(1)], &[&[10, 10]]);
    assert!(only(&script).what.contains("twice"));
}

#[test]
fn lists_may_not_disagree() {
    let mut script = Script::default();
    script.without_answer(&[append(1, 10)], unknown());
    script.without_answer(&[append(1, 11)], unknown());
    let first = script.transact(1, Level::Local, &[read(1)], &[&[10, 11]]);
    let second = script.transact(2, Level::Local, &[read(1)], &[&[11]]);
    let violation = only(&script);
    assert_eq!(violation.operation_ids(), [second, first]);
    assert!(violation.what.contains("at 0"));
    script.transact(2, Level::Local, &[read(1)], &[&[77]]);
    let violations = script.check(check);
    assert!(
        violations
            .iter()
            .any(|violation| violation.what.contains("nobody appended"))
    );
}

#[test]
fn committed_append_may_not_be_missing_in_the_end() {
    let mut script = Script::default();
    let lost = script.strict(1, &[append(1, 10)], &[]);
    script.end_lists(&[]);
    assert_eq!(script.check(check).len(), 3, "on three nodes");
    assert_eq!(script.check(check)[0].operation_ids(), [lost]);
    // An unknown one that somebody saw, and the other half of it.
    for seen in [&[read(1)], &[read(2)]] {
        let mut script = Script::default();
        let lost = script.without_answer(&[append(1, 10), append(2, 10)], unknown());
        script.end_lists(&[]);
        assert_eq!(script.check(check), []);
        script.transact(1, Level::Local, seen, &[&[10]]);
        assert_eq!(script.check(check)[0].operation_ids(), [lost]);
    }
}

#[test]
fn transaction_sees_its_own_appends() {
    let mut script = Script::default();
    let bad = script.strict(1, &[append(1, 10), read(1)], &[&[]]);
    assert_eq!(only(&script).operation_ids(), [bad]);
    let mut script = Script::default();
    script.strict(1, &[read(1)], &[]);
    assert!(only(&script).what.contains("no answer"));
}

#[test]
fn half_a_transaction_may_not_be_read() {
    let mut script = Script::default();
    let [writer, half, _] = script.overlapping(&[
        (&[append(1, 10), append(1, 11)], &[]),
        (&[read(1)], &[&[10]]),
        (&[read(1)], &[&[10, 11]]),
    ])[..] else {
        panic!("three")
    };
    let violation = only(&script);
    assert_eq!(violation.operation_ids(), [writer, half], "{violation}");
    assert!(violation.what.contains("write-read k1"), "{violation}");
    let mut script = Script::default();
    script.overlapping(&[
        (&[append(1, 10), append(2, 11)], &[]),
        (&[read(1), read(2)], &[&[10], &[]]),
    ]);
    assert!(only(&script).what.contains("read-write k2"));
}

#[test]
fn two_transactions_may_not_both_append_to_what_they_read() {
    let mut script = Script::default();
    let ids = script.overlapping(&[
        (&[read(1), append(1, 10)], &[&[]]),
        (&[read(1), append(1, 11)], &[&[]]),
    ]);
    assert_eq!(only(&script).operation_ids(), ids, "seen by nobody");
    script.transact(1, Level::Local, &[read(1)], &[&[10, 11]]);
    assert_eq!(only(&script).operation_ids().len(), 2);
}

#[test]
fn write_skew_is_found() {
    let mut script = Script::default();
    script.overlapping(&[
        (&[read(1), append(2, 20)], &[&[]]),
        (&[read(2), append(1, 10)], &[&[]]),
    ]);
    let violation = only(&script);
    assert_eq!(
        violation.what.matches("read-write").count(),
        2,
        "{violation}"
    );
}

#[test]
fn appends_of_two_transactions_may_not_interleave() {
    let mut script = Script::default();
    script.overlapping(&[
        (&[append(1, 10), append(2, 20)], &[]),
        (&[append(1, 11), append(2, 21)], &[]),
    ]);
    script.end_lists(&[(1, &[10, 11]), (2, &[20, 21])]);
    assert_eq!(script.check(check), []);
    script.end_lists(&[(1, &[10, 11]), (2, &[21, 20])]);
    let violation = only(&script);
    assert_eq!(
        violation.what.matches("write-write").count(),
        2,
        "{violation}"
    );
}

#[test]
fn readers_may_not_see_two_writes_in_different_orders() {
    let mut script = Script::default();
    let ids = script.overlapping(&[
        (&[append(1, 10)], &[]),
        (&[append(2, 20)], &[]),
        (&[read(1), read(2)], &[&[10], &[]]),
        (&[read(1), read(2)], &[&[], &[20]]),
    ]);
    let mut found = only(&script).operation_ids();
    found.sort();
    assert_eq!(found, ids, "a cycle of four");
}

#[test]
fn stale_reads_are_found_where_the_level_forbids_them() {
    for (level, session, found) in [
        (Level::Linearizable, 2, true),
        (Level::Session, 1, true),
        (Level::Session, 2, false),
        (Level::Local, 1, false),
    ] {
        let mut script = Script::default();
        let writer = script.strict(1, &[append(1, 10)], &[]);
        let reader = script.transact(session, level, &[read(1)], &[&[]]);
        let violations = script.check(check);
        assert_eq!(violations.len(), usize::from(found), "{level} {session}");
        if found {
            let mut ids = violations[0].operation_ids();
            ids.sort();
            assert_eq!(ids, [writer, reader]);
        }
    }
}

#[test]
fn session_may_not_go_back() {
    let mut script = Script::default();
    script.without_answer(&[append(1, 10)], unknown());
    script.transact(1, Level::Local, &[read(1)], &[&[10]]);
    script.transact(2, Level::Session, &[read(1)], &[&[]]);
    assert_eq!(script.check(check), []);
    script.transact(1, Level::Session, &[read(1)], &[&[]]);
    assert!(only(&script).what.contains("(session)"));
}

#[test]
fn appends_take_effect_in_real_time_order() {
    let mut script = Script::default();
    script.strict(1, &[append(1, 10)], &[]);
    script.strict(2, &[append(1, 11)], &[]);
    script.end_lists(&[(1, &[11, 10])]);
    let expected = "no serial order: #1 before #2 (real time), #2 before #1 (write-write k1)";
    assert_eq!(only(&script).what, expected);
}

#[test]
fn smallest_cycle_of_a_knot_is_reported() {
    let mut script = Script::default();
    // The first three are a cycle, the last two a smaller one, and the first is only in the larger.
    let ids = script.overlapping(&[
        (&[append(1, 10), read(3)], &[&[30]]),
        (&[append(2, 20), read(1)], &[&[10]]),
        (&[append(3, 30), read(2), read(4)], &[&[20], &[40]]),
        (&[append(4, 40), read(3)], &[&[30]]),
    ]);
    assert_eq!(only(&script).operation_ids(), ids[2..]);
}
