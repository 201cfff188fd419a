use proptest::prelude::*;

use super::*;

/// A register that is written, read, and compared and set.
struct Register;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Write(u8),
    Read(u8),
    Swap(u8, u8),
}

impl Model for Register {
    type Operation = Op;
    type State = u8;

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, operation: &Op) -> Option<u8> {
        match *operation {
            Op::Write(value) => Some(value),
            Op::Read(value) => (value == *state).then_some(value),
            Op::Swap(old, new) => (old == *state).then_some(new),
        }
    }
}

fn at(invoked: u64, returned: u64, operation: Op) -> Interval<Op> {
    Interval {
        invoked,
        returned: (returned > 0).then_some(returned),
        operation,
    }
}

fn verdict(operations: &[Interval<Op>]) -> Verdict {
    check(&Register, operations, 100_000)
}

#[test]
fn read_sees_the_write_that_had_returned() {
    let write = at(1, 2, Op::Write(1));
    assert_eq!(verdict(&[]), Verdict::Linearizable);
    assert_eq!(
        verdict(&[write.clone(), at(3, 4, Op::Read(1))]),
        Verdict::Linearizable
    );
    assert_eq!(
        verdict(&[write, at(3, 4, Op::Read(0))]),
        Verdict::Impossible(1)
    );
}

#[test]
fn overlapping_operations_may_be_in_any_order() {
    for value in [0, 1] {
        let operations = [at(1, 4, Op::Write(1)), at(2, 3, Op::Read(value))];
        assert_eq!(verdict(&operations), Verdict::Linearizable);
    }
    let back = [
        at(1, 8, Op::Write(1)),
        at(2, 3, Op::Read(1)),
        at(4, 5, Op::Read(0)),
    ];
    assert_eq!(verdict(&back), Verdict::Impossible(2));
}

#[test]
fn write_of_unknown_outcome_takes_effect_late_or_never_but_once() {
    let unknown = at(1, 0, Op::Write(1));
    let reads = |values: [u8; 3]| {
        let mut operations = vec![unknown.clone(), at(2, 3, Op::Write(2))];
        for (n, value) in (0..).zip(values) {
            operations.push(at(10 + 2 * n, 11 + 2 * n, Op::Read(value)));
        }
        verdict(&operations)
    };
    assert_eq!(reads([2, 2, 2]), Verdict::Linearizable);
    assert_eq!(reads([2, 2, 1]), Verdict::Linearizable);
    assert_eq!(reads([2, 1, 2]), Verdict::Impossible(4));
}

#[test]
fn effort_is_bounded() {
    let mut operations: Vec<_> = (0..12)
        .map(|n| at(1 + n, 100 + n, Op::Swap(9, 9)))
        .collect();
    operations.extend((0..12).map(|n| at(20 + n, 200 + n, Op::Write(n as u8))));
    assert_eq!(check(&Register, &operations, 50), Verdict::Undecided);
}

/// Tries all orders.
fn possible(state: u8, operations: &[Interval<Op>], done: u32) -> bool {
    let open = |n: &usize| done & 1 << n == 0;
    let all: Vec<usize> = (0..operations.len()).filter(open).collect();
    if all.iter().all(|n| operations[*n].returned.is_none()) {
        return true;
    }
    all.iter().any(|&n| {
        let after = |other: &usize| {
            operations[*other]
                .returned
                .is_some_and(|returned| returned < operations[n].invoked)
        };
        let next = Register.step(&state, &operations[n].operation);
        !all.iter().any(after)
            && next.is_some_and(|state| possible(state, operations, done | 1 << n))
    })
}

fn operation() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..3_u8).prop_map(Op::Write),
        (0..3_u8).prop_map(Op::Read),
        (0..3_u8, 0..3_u8).prop_map(|(old, new)| Op::Swap(old, new)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Moments are drawn with gaps of two, so that none is drawn twice.
    #[test]
    fn verdict_is_that_of_all_orders(drawn in prop::collection::vec((operation(), 0..12_u64, 1..6_u64, 0..5), 1..7)) {
        let operations: Vec<Interval<Op>> = (0..).zip(drawn).map(|(n, (operation, begin, length, unknown))| Interval {
            invoked: 20 * begin + 2 * n,
            returned: (unknown > 0).then_some(20 * (begin + length) + 2 * n + 1),
            operation,
        }).collect();
        let found = check(&Register, &operations, 1_000_000);
        let expected = possible(0, &operations, 0);
        prop_assert_eq!(found == Verdict::Linearizable, expected, "{:?}", found);
        prop_assert_ne!(found, Verdict::Undecided);
    }
}
