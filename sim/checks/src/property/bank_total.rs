//! Money is neither made nor lost: whoever reads all balances, at any level, finds the total that the bank opened with.

use std::collections::BTreeMap;

use crate::history::{AccountId, BankHistory, Operation, ReadBalances};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "bank_total";

/// Reads and nodes that have another total, or other accounts.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let bank = &history.bank;
    let reads = bank.reads.iter().filter_map(|read| check_read(bank, read));
    let mut violations: Vec<_> = reads.collect();
    for (node, contents) in &end.nodes {
        let held = contents.bank.as_ref();
        if let Some(wrong) = held.and_then(|held| wrong(bank, &held.balances)) {
            violations.push(Violation::new(NAME, format!("{node} in the end {wrong}")));
        }
    }
    violations
}

/// The same of one read, for those who check while the run goes on.
pub fn check_read(bank: &BankHistory, read: &Operation<ReadBalances>) -> Option<Violation> {
    let wrong = wrong(bank, read.outcome.ok()?)?;
    Some(Violation::new(NAME, format!("{} {wrong}", read.id)).with(read))
}

fn wrong(bank: &BankHistory, balances: &BTreeMap<AccountId, i64>) -> Option<String> {
    let total = |balances: &BTreeMap<AccountId, i64>| {
        balances
            .values()
            .map(|&balance| i128::from(balance))
            .sum::<i128>()
    };
    let (found, expected) = (total(balances), total(&bank.opening));
    if found != expected {
        return Some(format!(
            "has a total of {found}, not {expected}: {balances:?}"
        ));
    }
    let same_accounts = balances.keys().eq(bank.opening.keys());
    (!same_accounts)
        .then(|| format!("has accounts that were never opened, or misses some: {balances:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Level, Outcome};
    use crate::script::Script;

    #[test]
    fn every_read_finds_the_same_total() {
        let mut script = Script::bank(&[50, 50]);
        for balances in [[50, 50], [20, 80], [110, -10]] {
            let answer = Outcome::Ok(Script::balances(&balances));
            script.run(1, Level::Local, ReadBalances, answer);
        }
        assert_eq!(script.check(check), []);
        for balances in [&[50, 49][..], &[100], &[50, 50, 0]] {
            let mut script = script.clone();
            let answer = Outcome::Ok(Script::balances(balances));
            let read = script.run(1, Level::Local, ReadBalances, answer);
            assert_eq!(script.check(check)[0].operation_ids(), [read]);
        }
    }

    #[test]
    fn every_node_has_the_same_total_in_the_end() {
        let mut script = Script::bank(&[50, 50]);
        script.end_bank(&[40, 60], &[]);
        assert_eq!(script.check(check), []);
        script.end_bank(&[40, 61], &[]);
        assert_eq!(script.check(check).len(), 3, "on three nodes");
    }
}
