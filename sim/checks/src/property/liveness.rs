//! When the faults have stopped, writes are acknowledged again, soon.

use crate::history::{History, Operation, Request};
use crate::violation::{Shown, Violation};

/// Name of this property.
pub const NAME: &str = "liveness";

/// When the cluster has to serve again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healing {
    /// When the last fault ended.
    pub healed_us: u64,
    /// How long recovery may take.
    pub bound_us: u64,
}

/// A write that began after the healing has to be acknowledged within the bound. Somebody must have tried, or nothing is proven: a run
/// without such a write is a violation too.
pub fn check(history: &History, healing: Healing) -> Option<Violation> {
    let Healing {
        healed_us,
        bound_us,
    } = healing;
    let mut tries = Tries {
        healed_us,
        first: None,
        acknowledged_us: None,
    };
    tries.look_at(&history.set.inserts, |_| true);
    tries.look_at(&history.bank.transfers, |_| true);
    tries.look_at(&history.registers.increments, |_| true);
    tries.look_at(&history.lists, |transaction| transaction.asked.appends());
    let within = tries
        .acknowledged_us
        .is_some_and(|at_us| at_us <= healed_us + bound_us);
    if within {
        return None;
    }
    let when = match (tries.acknowledged_us, tries.first) {
        (Some(at_us), _) => format!("the first was acknowledged {} us later", at_us - healed_us),
        (None, Some(_)) => "no write was acknowledged".to_owned(),
        (None, None) => "no write was tried".to_owned(),
    };
    let what =
        format!("faults ended at {healed_us} us and writes were due within {bound_us} us: {when}");
    let first = tries.first.map(|(_, operation)| operation);
    Some(Violation::new(NAME, what).with_some(first))
}

struct Tries<'a> {
    healed_us: u64,
    first: Option<(u64, &'a dyn Shown)>,
    acknowledged_us: Option<u64>,
}

impl<'a> Tries<'a> {
    fn look_at<R: Request>(
        &mut self,
        operations: &'a [Operation<R>],
        writes: impl Fn(&Operation<R>) -> bool,
    ) {
        let after = |operation: &&Operation<R>| operation.invoked.at_us >= self.healed_us;
        for operation in operations
            .iter()
            .filter(after)
            .filter(|operation| writes(operation))
        {
            let order = operation.invoked.order;
            if self.first.is_none_or(|(first, _)| order < first) {
                self.first = Some((order, operation));
            }
            if let Some((returned, _)) = operation.answered() {
                let earlier = self.acknowledged_us.unwrap_or(u64::MAX);
                self.acknowledged_us = Some(returned.at_us.min(earlier));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{
        AccountId, Element, Key, Level, ListTransaction, Outcome, RegisterValue, Step, Tag,
        Transfer, TransferId,
    };
    use crate::script::Script;

    const HEALING: Healing = Healing {
        healed_us: 10_000,
        bound_us: 5_000,
    };

    fn wrong(script: &Script) -> Option<String> {
        check(&script.history, HEALING).map(|violation| violation.to_string())
    }

    #[test]
    fn write_has_to_be_acknowledged_within_the_bound() {
        let mut script = Script::at(14_800);
        script.insert(1, 1, 1);
        assert_eq!(wrong(&script), None, "at the bound");
        script.history.set.inserts[0]
            .returned
            .as_mut()
            .expect("returned")
            .at_us += 1;
        assert!(wrong(&script).expect("late").contains("5001 us later"));
    }

    #[test]
    fn writes_before_the_healing_failures_and_reads_prove_nothing() {
        let mut script = Script::at(9_900);
        script.insert(1, 1, 1);
        assert_eq!(wrong(&script), None, "at the healing");
        script.history.set.inserts[0].invoked.at_us -= 1;
        script.now_us = 10_000;
        let read = ListTransaction {
            steps: vec![Step::Read { key: Key(1) }],
        };
        script.run(1, Level::Local, read, Outcome::Ok(vec![Vec::new()]));
        assert!(
            wrong(&script)
                .expect("nothing")
                .contains("no write was tried")
        );
        script.unknown_insert(1, 2, 1);
        script.failed_insert(1, 3);
        assert!(
            wrong(&script)
                .expect("nothing")
                .contains("no write was acknowledged")
        );
        let append = ListTransaction {
            steps: vec![Step::Append {
                key: Key(1),
                element: Element(1),
            }],
        };
        script.run(1, Level::Linearizable, append, Outcome::Ok(Vec::new()));
        assert_eq!(wrong(&script), None);
    }

    #[test]
    fn writes_of_every_workload_prove_life() {
        let mut script = Script::at(10_000);
        let transfer = Transfer {
            id: TransferId(1),
            from: AccountId(1),
            to: AccountId(2),
            amount: 1,
        };
        script.run(1, Level::Linearizable, transfer, Outcome::Ok(()));
        assert_eq!(wrong(&script), None);
        let mut script = Script::at(10_000);
        script.increment(1, Key(1), 7, RegisterValue::INITIAL.next(Tag(7)));
        assert_eq!(wrong(&script), None);
    }
}
