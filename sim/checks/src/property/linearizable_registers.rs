//! Increments and linearizable reads of each register can be put into one order that respects real time.
//!
//! The search of [`wgl`] over what was answered, with the nodes in the end as last readers. It asks the same as
//! [`linearizable`](super::linearizable) without trusting that values tell positions. A search that reaches its bound finds nothing.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Key, Level, RegisterValue, Tag};
use crate::registers::sightings;
use crate::violation::Shown;
use crate::wgl::{self, Interval, Model, Verdict};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "linearizable_registers";

/// Steps tried for one register: some hundred times what a good history of 20,000 operations takes.
const EFFORT: u64 = 5_000_000;

/// Registers for which there is no order; each with the operation that could not be explained.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let mut registers = registers(history, end);
    let mut violations = Vec::new();
    for (key, register) in &mut registers {
        let known = &register.known;
        let needed = |interval: &Interval<Access>| match interval.operation {
            Access::MayWrite(tag) => known.may_be_needed(tag),
            _ => true,
        };
        let kept: Vec<bool> = register.intervals.iter().map(needed).collect();
        let mut kept = kept.iter();
        register.intervals.retain(|_| kept.next() == Some(&true));
        if let Verdict::Impossible(n) = wgl::check(&register.known, &register.intervals, EFFORT) {
            violations.push(accuse(history, *key, &register.intervals[n]));
        }
    }
    violations
}

fn accuse(history: &History, key: Key, interval: &Interval<Access>) -> Violation {
    let what = format!(
        "no order explains what was seen of {key}, at the latest this: {}",
        interval.operation
    );
    let violation = Violation::new(NAME, what);
    let increments = history
        .registers
        .increments
        .iter()
        .map(|operation| (operation.invoked, operation as &dyn Shown));
    let reads = history
        .registers
        .reads
        .iter()
        .map(|operation| (operation.invoked, operation as &dyn Shown));
    let unexplained = increments
        .chain(reads)
        .find(|(invoked, _)| invoked.order == interval.invoked);
    violation.with_some(unexplained.map(|(_, operation)| operation))
}

#[derive(Debug, Clone, Copy)]
enum Access {
    Write(RegisterValue),
    MayWrite(Tag),
    Read(RegisterValue),
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(value) => write!(f, "wrote {value}"),
            Self::MayWrite(tag) => write!(f, "may have written tag {}", tag.0),
            Self::Read(value) => write!(f, "saw {value}"),
        }
    }
}

#[derive(Default)]
struct Register {
    intervals: Vec<Interval<Access>>,
    known: Known,
}

/// Which write put which value there, as far as anybody saw: keeps the search from trying unknown writes where they cannot be.
#[derive(Default)]
struct Known {
    tags: BTreeMap<i64, Tag>,
    values: BTreeMap<Tag, i64>,
}

impl Known {
    fn add(&mut self, seen: RegisterValue) {
        for (value, tag) in [(seen.value - 1, seen.replaced), (seen.value, seen.tag)] {
            if value > 0 {
                self.tags.entry(value).or_insert(tag);
                self.values.entry(tag).or_insert(value);
            }
        }
    }

    fn newest(&self) -> i64 {
        self.tags.last_key_value().map_or(0, |(value, _)| *value)
    }

    /// An unknown write that nobody saw explains at most a value of which nobody saw who wrote it.
    fn may_be_needed(&self, tag: Tag) -> bool {
        let values_are_missing = (self.tags.len() as i64) < self.newest();
        self.values.contains_key(&tag) || values_are_missing
    }
}

impl Model for Known {
    type Operation = Access;
    type State = RegisterValue;

    fn initial(&self) -> RegisterValue {
        RegisterValue::INITIAL
    }

    fn step(&self, state: &RegisterValue, operation: &Access) -> Option<RegisterValue> {
        match *operation {
            Access::Read(seen) => (seen == *state).then_some(seen),
            Access::Write(written) => (written == state.next(written.tag)).then_some(written),
            Access::MayWrite(tag) => {
                let written = state.next(tag);
                let here = self
                    .tags
                    .get(&written.value)
                    .is_none_or(|known| *known == tag);
                let elsewhere = self
                    .values
                    .get(&tag)
                    .is_some_and(|known| *known != written.value);
                let possible = here && !elsewhere && written.value <= self.newest();
                possible.then_some(written)
            }
        }
    }
}

fn registers(history: &History, end: &FinalState) -> BTreeMap<Key, Register> {
    let mut registers: BTreeMap<Key, Register> = BTreeMap::new();
    for increment in &history.registers.increments {
        let operation = match increment.answered() {
            Some((_, written)) => Access::Write(*written),
            None if increment.outcome.is_failed() => continue,
            None => Access::MayWrite(increment.asked.tag),
        };
        let returned = increment.answered().map(|(moment, _)| moment.order);
        let register = registers.entry(increment.asked.key).or_default();
        register.intervals.push(Interval {
            invoked: increment.invoked.order,
            returned,
            operation,
        });
    }
    let strict = |level| level == Level::Linearizable;
    for read in history
        .registers
        .reads
        .iter()
        .filter(|read| strict(read.caller.level))
    {
        if let Some((returned, seen)) = read.answered() {
            let register = registers.entry(read.asked.key).or_default();
            register.intervals.push(Interval {
                invoked: read.invoked.order,
                returned: Some(returned.order),
                operation: Access::Read(*seen),
            });
        }
    }
    for (key, register) in &mut registers {
        add_nodes(*key, register, end);
    }
    for (key, sighting) in sightings(history, end) {
        if let Some(register) = registers.get_mut(&key) {
            register.known.add(sighting.value);
        }
    }
    registers
}

/// Whoever looks at a node in the end reads after everybody else.
fn add_nodes(key: Key, register: &mut Register, end: &FinalState) {
    let held = end
        .nodes
        .values()
        .filter_map(|contents| contents.registers.as_ref());
    for (n, registers) in (0..).zip(held) {
        let seen = registers
            .get(&key)
            .copied()
            .unwrap_or(RegisterValue::INITIAL);
        let invoked = u64::MAX / 2 + 2 * n;
        register.intervals.push(Interval {
            invoked,
            returned: Some(invoked + 1),
            operation: Access::Read(seen),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::history::{Increment, ReadRegister};
    use crate::script::Script;

    const KEY: Key = Key(1);

    fn value(value: i64, tag: u64, replaced: u64) -> RegisterValue {
        RegisterValue {
            value,
            tag: Tag(tag),
            replaced: Tag(replaced),
        }
    }

    fn unknown(script: &mut Script, tag: u64) {
        let asked = Increment {
            key: KEY,
            tag: Tag(tag),
        };
        let outcome = Outcome::Unknown("cut off".into());
        script.run(2, Level::Linearizable, asked, outcome);
    }

    /// Two unknown writes in a row, of which only the last was seen, by who replaced it.
    fn good() -> Script {
        let mut script = Script::default();
        script.increment(1, KEY, 11, value(1, 11, 0));
        for tag in 12..=15 {
            unknown(&mut script, tag);
        }
        script.increment(1, KEY, 16, value(4, 16, 14));
        script.read_register(3, Level::Linearizable, KEY, value(4, 16, 14));
        script.read_register(3, Level::Local, KEY, value(1, 11, 0));
        script
    }

    #[test]
    fn unknown_writes_fill_what_nobody_saw() {
        let mut script = good();
        assert_eq!(script.check(check), []);
        unknown(&mut script, 17);
        script.end_registers(&[(KEY, value(5, 17, 16))]);
        assert_eq!(script.check(check), []);
    }

    #[test]
    fn stale_read_and_lost_write_are_found() {
        for (level, found) in [(Level::Linearizable, 1), (Level::Session, 0)] {
            let mut script = good();
            let read = script.read_register(3, level, KEY, value(1, 11, 0));
            let violations = script.check(check);
            assert_eq!(violations.len(), found, "{level}");
            if found > 0 {
                assert_eq!(violations[0].operation_ids(), [read]);
            }
        }
        let mut script = good();
        script.end_registers(&[(KEY, value(1, 11, 0))]);
        assert_eq!(script.check(check).len(), 1);
        script.end_registers(&[]);
        assert_eq!(script.check(check).len(), 1);
    }

    #[test]
    fn lost_update_is_found() {
        let mut script = good();
        script.increment(1, KEY, 18, value(4, 18, 14));
        assert_eq!(script.check(check).len(), 1);
    }

    #[test]
    fn more_increments_than_anybody_asked_for_are_found() {
        let mut script = Script::default();
        script.increment(1, KEY, 11, value(1, 11, 0));
        unknown(&mut script, 12);
        script.increment(1, KEY, 13, value(3, 13, 12));
        assert_eq!(script.check(check), []);
        let key = KEY;
        let answer = Outcome::Ok(value(5, 15, 14));
        script.run(1, Level::Linearizable, ReadRegister { key }, answer);
        assert_eq!(script.check(check).len(), 1);
    }
}
