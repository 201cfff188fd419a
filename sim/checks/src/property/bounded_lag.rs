//! A bounded read misses only what was acknowledged less than its bound before it began.

use std::collections::BTreeMap;

use crate::accesses::{Access, Object, accesses, goes_back};
use crate::{FinalState, History, Level, Violation};

/// Name of this property.
pub const NAME: &str = "bounded_lag";

/// Bounded reads that miss something older.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let accesses = accesses(history, end);
    let acknowledged = acknowledged(&accesses);
    let mut violations = Vec::new();
    for read in accesses.iter().filter(|access| !access.writes) {
        let Level::Bounded { max_lag_us } = read.caller.level else {
            continue;
        };
        let horizon_us = read.invoked.at_us.saturating_sub(max_lag_us);
        let writes = acknowledged
            .get(&read.object)
            .map_or(&[][..], Vec::as_slice);
        let older = writes.partition_point(|(at_us, _)| *at_us < horizon_us);
        let Some((at_us, newest)) = older.checked_sub(1).map(|n| &writes[n]) else {
            continue;
        };
        if goes_back(read, newest) {
            let what = format!(
                "a read bounded to {max_lag_us} us saw {} {}, but {} {} had been acknowledged {} us before it began",
                read.object,
                read.high,
                read.object,
                newest.low,
                read.invoked.at_us - at_us
            );
            violations.push(Violation::new(NAME, what).with(read).with(*newest));
        }
    }
    violations
}

/// Per object the newest acknowledged write at each time of an acknowledgement, in the order of time.
fn acknowledged<'t, 'a>(
    accesses: &'t [Access<'a>],
) -> BTreeMap<Object, Vec<(u64, &'t Access<'a>)>> {
    let mut writes: BTreeMap<Object, Vec<(u64, &Access<'_>)>> = BTreeMap::new();
    for write in accesses.iter().filter(|access| access.writes) {
        if let Some(returned) = write.returned {
            let of_object = writes.entry(write.object).or_default();
            of_object.push((returned.at_us, write));
        }
    }
    for writes in writes.values_mut() {
        writes.sort_by_key(|(at_us, _)| *at_us);
        let mut newest = writes[0].1;
        for (_, write) in writes {
            if write.low > newest.low {
                newest = write;
            }
            *write = newest;
        }
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use crate::{Key, RegisterValue, Tag};

    const LEVEL: Level = Level::Bounded { max_lag_us: 1_000 };

    #[test]
    fn bounded_read_may_miss_only_what_is_younger_than_its_bound() {
        let mut script = Script::default();
        script.insert(1, 1, 1);
        let old = script.insert(1, 2, 1);
        let acknowledged_us = script.now_us;
        script.read_up_to(2, LEVEL, 1);
        // The script invokes 100 us later.
        script.now_us = acknowledged_us + 900;
        script.read_up_to(2, LEVEL, 1);
        assert_eq!(script.check(check), [], "at the bound");
        script.now_us = acknowledged_us + 901;
        script.read_up_to(2, LEVEL, 2);
        script.read_up_to(2, Level::Local, 0);
        assert_eq!(script.check(check), []);
        script.now_us = acknowledged_us + 901;
        let read = script.read_up_to(2, LEVEL, 1);
        let violations = script.check(check);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].operation_ids(), [read, old]);
    }

    #[test]
    fn younger_writes_do_not_hide_older_ones() {
        let mut script = Script::default();
        script.insert(1, 1, 2);
        script.now_us += 2_000;
        script.insert(1, 2, 1);
        script.read_up_to(2, LEVEL, 2);
        assert_eq!(script.check(check), []);
        script.read_up_to(2, LEVEL, 0);
        assert_eq!(script.check(check).len(), 1);
    }

    #[test]
    fn registers_are_held_to_the_same() {
        let mut script = Script::default();
        script.increment(1, Key(1), 7, RegisterValue::INITIAL.next(Tag(7)));
        script.read_register(2, LEVEL, Key(1), RegisterValue::INITIAL);
        assert_eq!(script.check(check), []);
        script.now_us += 2_000;
        script.read_register(2, LEVEL, Key(1), RegisterValue::INITIAL);
        assert_eq!(script.check(check).len(), 1);
    }
}
