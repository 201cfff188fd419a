//! What was done to each lock, and what was found out about it without changing it, can be put into one order that respects real time.
//!
//! The search of [`wgl`] over what was answered, with the nodes in the end as last to look. A search that reaches its bound finds
//! nothing.

use std::collections::BTreeMap;

use crate::history::{Holder, Key, Level, LockAnswer, LockStep};
use crate::wgl::{self, Interval, Model, Verdict};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "linearizable_locks";

/// Steps tried for one lock: some hundred times what a good history of 20,000 operations takes.
const EFFORT: u64 = 5_000_000;

/// Locks for which there is no order; each with the operation that could not be explained.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, intervals) in &locks(history, end) {
        if let Verdict::Impossible(n) = wgl::check(&Lock, intervals, EFFORT) {
            violations.push(accuse(history, *key, &intervals[n]));
        }
    }
    violations
}

fn accuse(history: &History, key: Key, interval: &Interval<Seen>) -> Violation {
    let what = format!(
        "no order explains what was told of {key}, at the latest this: {:?}",
        interval.operation
    );
    let mut operations = history.locks.iter();
    let unexplained = operations.find(|operation| operation.invoked.order == interval.invoked);
    Violation::new(NAME, what).with_some(unexplained.map(|operation| operation as _))
}

/// A step, and what was told of it; `None` if nobody knows whether it was carried out.
#[derive(Debug, Clone, Copy)]
struct Seen(LockStep, Option<LockAnswer>);

/// One lock.
struct Lock;

impl Model for Lock {
    type Operation = Seen;
    type State = Option<Holder>;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(&self, held: &Self::State, Seen(step, told): &Seen) -> Option<Self::State> {
        let (after, answer) = step.run(*held);
        let possible = match told {
            Some(told) => *told == answer,
            // Where it changes nothing, it need not have been carried out at all.
            None => after != *held,
        };
        possible.then_some(after)
    }
}

fn locks(history: &History, end: &FinalState) -> BTreeMap<Key, Vec<Interval<Seen>>> {
    let mut locks: BTreeMap<Key, Vec<Interval<Seen>>> = BTreeMap::new();
    for operation in &history.locks {
        let strict = operation.caller.level == Level::Linearizable;
        if operation.outcome.is_failed() || !strict {
            continue;
        }
        let answered = operation.answered();
        let lock = locks.entry(operation.asked.key).or_default();
        lock.push(Interval {
            invoked: operation.invoked.order,
            returned: answered.map(|(moment, _)| moment.order),
            operation: Seen(operation.asked.step, answered.map(|(_, told)| *told)),
        });
    }
    for (key, lock) in &mut locks {
        add_nodes(*key, lock, end);
    }
    locks
}

/// Whoever looks at a node in the end does so after everybody else.
fn add_nodes(key: Key, lock: &mut Vec<Interval<Seen>>, end: &FinalState) {
    let held = end.nodes.values().filter_map(|node| node.locks.as_ref());
    for (n, locks) in (0..).zip(held) {
        let invoked = u64::MAX / 2 + 2 * n;
        let told = LockAnswer::Held(locks.get(&key).copied());
        lock.push(Interval {
            invoked,
            returned: Some(invoked + 1),
            operation: Seen(LockStep::Look, Some(told)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::LockRequest;
    use crate::script::Script;
    use crate::{OperationId, Outcome};

    const KEY: Key = Key(1);
    const ME: Holder = Holder(11);
    const YOU: Holder = Holder(22);

    fn told(script: &mut Script, step: LockStep, answer: LockAnswer) -> OperationId {
        let asked = LockRequest { key: KEY, step };
        script.run(1, Level::Linearizable, asked, Outcome::Ok(answer))
    }

    fn done(script: &mut Script, step: LockStep, done: bool) -> OperationId {
        told(script, step, LockAnswer::Done(done))
    }

    fn unknown(script: &mut Script, step: LockStep) {
        let asked = LockRequest { key: KEY, step };
        script.run(
            2,
            Level::Linearizable,
            asked,
            Outcome::Unknown("cut off".into()),
        );
    }

    fn pass(from: Holder, to: Holder) -> LockStep {
        LockStep::Pass { from, to }
    }

    /// It is taken, renewed, and maybe passed on.
    fn good() -> Script {
        let mut script = Script::default();
        done(&mut script, LockStep::Take(ME), true);
        done(&mut script, LockStep::Take(YOU), false);
        done(&mut script, pass(ME, ME), true);
        unknown(&mut script, pass(ME, YOU));
        script
    }

    #[test]
    fn what_nobody_knows_may_have_been_carried_out_or_not() {
        for holder in [ME, YOU] {
            let mut script = good();
            done(&mut script, pass(holder, holder), true);
            let settled = LockAnswer::Held(Some(holder));
            told(&mut script, LockStep::Settle(Holder(33)), settled);
            script.end_locks(&[(KEY, holder)]);
            assert_eq!(script.check(check), []);
            done(&mut script, LockStep::Release(holder), true);
            script.end_locks(&[]);
            assert_eq!(script.check(check), []);
        }
    }

    #[test]
    fn a_stale_renewal_and_a_stale_refusal_are_found() {
        let mut script = good();
        done(&mut script, pass(YOU, YOU), true);
        let stale = done(&mut script, pass(ME, ME), true);
        let violations = script.check(check);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].operation_ids(), [stale]);
        for wrong in [pass(YOU, YOU), LockStep::Release(YOU), LockStep::Take(ME)] {
            let mut script = good();
            done(&mut script, pass(YOU, YOU), true);
            done(&mut script, wrong, matches!(wrong, LockStep::Take(_)));
            assert_eq!(script.check(check).len(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn a_stale_look_and_a_node_that_lost_something_are_found() {
        let mut script = good();
        told(&mut script, LockStep::Look, LockAnswer::Held(None));
        assert_eq!(script.check(check).len(), 1);
        let mut script = good();
        script.end_locks(&[]);
        assert_eq!(script.check(check).len(), 1);
    }
}
