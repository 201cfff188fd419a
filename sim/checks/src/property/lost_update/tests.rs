use super::*;
use crate::history::{Level, NodeId, Outcome, ReadRegister};
use crate::script::Script;

const KEY: Key = Key(1);

fn value(value: i64, tag: u64, replaced: u64) -> RegisterValue {
    RegisterValue {
        value,
        tag: Tag(tag),
        replaced: Tag(replaced),
    }
}

/// Tags 11 and 13 acknowledged, 12 unknown between them.
fn good() -> Script {
    let mut script = Script::default();
    script.increment(1, KEY, 11, value(1, 11, 0));
    let (key, tag) = (KEY, Tag(12));
    let unknown = Outcome::Unknown("cut off".into());
    script.run(2, Level::Linearizable, Increment { key, tag }, unknown);
    script.increment(1, KEY, 13, value(3, 13, 12));
    script
}

fn only(script: &Script) -> Violation {
    let mut violations = script.check(check);
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.remove(0)
}

#[test]
fn chain_with_an_unknown_write_passes() {
    let mut script = good();
    for seen in [
        RegisterValue::INITIAL,
        value(1, 11, 0),
        value(2, 12, 11),
        value(3, 13, 12),
    ] {
        script.read_register(3, Level::Local, KEY, seen);
    }
    script.end_registers(&[(KEY, value(3, 13, 12))]);
    assert_eq!(script.check(check), []);
}

#[test]
fn two_writes_may_not_replace_the_same() {
    let mut script = good();
    let first = script.history.registers.increments[2].id;
    let second = script.increment(4, KEY, 14, value(3, 14, 12));
    assert_eq!(only(&script).operation_ids(), [second, first]);
}

#[test]
fn two_writes_may_not_be_at_one_value() {
    let mut script = good();
    script.increment(4, KEY, 14, value(2, 14, 11));
    assert!(only(&script).what.contains("value 2 is of tag 12"));
}

#[test]
fn write_may_not_be_at_two_values() {
    let mut script = good();
    script.read_register(3, Level::Local, KEY, value(6, 13, 12));
    assert!(only(&script).what.contains("tag 12 at value 2"));
}

#[test]
fn value_must_have_been_written() {
    for seen in [value(4, 99, 13), value(0, 13, 0), value(2, 0, 11)] {
        let mut script = good();
        let key = KEY;
        let read = script.run(3, Level::Local, ReadRegister { key }, Outcome::Ok(seen));
        let violations = script.check(check);
        assert!(!violations.is_empty());
        assert_eq!(violations[0].operation_ids(), [read]);
    }
}

#[test]
fn failed_write_may_not_be_seen_nor_replaced() {
    let mut script = good();
    let (key, tag) = (KEY, Tag(14));
    let failed = Outcome::Failed("refused".into());
    let failed = script.run(2, Level::Linearizable, Increment { key, tag }, failed);
    assert_eq!(script.check(check), []);
    for seen in [value(4, 14, 13), value(5, 13, 14)] {
        let mut script = script.clone();
        script.read_register(3, Level::Local, KEY, seen);
        assert!(script.check(check)[0].operation_ids().contains(&failed));
    }
}

#[test]
fn register_may_not_be_behind_in_the_end() {
    let mut script = good();
    script.end_registers(&[(KEY, value(3, 13, 12))]);
    let registers = &mut script
        .end
        .nodes
        .get_mut(&NodeId(2))
        .expect("a node")
        .registers;
    *registers = Some([(KEY, value(2, 12, 11))].into());
    assert!(only(&script).what.contains("node 2 has value 2"));
    script.end_registers(&[]);
    assert_eq!(script.check(check).len(), 3, "on three nodes");
}
