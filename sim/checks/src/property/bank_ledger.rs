//! The balances in the end are the opening ones and what the ledger says; the ledger holds exactly the acknowledged transfers and
//! some of the unknown ones, each once and as it was asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{BankHistory, LedgerRow, Operation, Outcome, Transfer, TransferId};
use crate::{Bank, FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "bank_ledger";

/// Nodes whose ledger or balances are wrong in the end.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let transfers = history.bank.transfers.iter();
    let transfers: BTreeMap<_, _> = transfers
        .map(|transfer| (transfer.asked.id, transfer))
        .collect();
    let mut violations = Vec::new();
    for (node, contents) in &end.nodes {
        if let Some(held) = &contents.bank {
            let place = format!("{node} in the end");
            violations.extend(wrong_rows(&transfers, held, &place));
            violations.extend(missing(&transfers, held, &place));
            violations.extend(unexplained(&history.bank, held, &place));
        }
    }
    violations
}

type Transfers<'a> = BTreeMap<TransferId, &'a Operation<Transfer>>;

fn wrong_rows(transfers: &Transfers<'_>, held: &Bank, place: &str) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    let mut violations = Vec::new();
    for row in &held.ledger {
        let again = !seen.insert(row.id);
        let Some(transfer) = transfers.get(&row.id) else {
            let what = format!("{row} is in the ledger of {place}, and nobody asked for it");
            violations.push(Violation::new(NAME, what));
            continue;
        };
        let accuse = |what: String| Violation::new(NAME, what).with(*transfer);
        if again {
            violations.push(accuse(format!("{row} is in the ledger of {place} twice")));
        }
        if *row != transfer.asked {
            violations.push(accuse(format!(
                "{row} is in the ledger of {place}, and not as it was asked for"
            )));
        }
        if let Outcome::Failed(why) = &transfer.outcome {
            violations.push(accuse(format!(
                "{row} is in the ledger of {place}, and its client was told: {why}"
            )));
        }
    }
    violations
}

fn missing(transfers: &Transfers<'_>, held: &Bank, place: &str) -> Vec<Violation> {
    let kept: BTreeSet<TransferId> = held.ledger.iter().map(|row| row.id).collect();
    let acknowledged = transfers
        .values()
        .filter(|transfer| transfer.outcome.is_ok());
    acknowledged
        .filter(|transfer| !kept.contains(&transfer.asked.id))
        .map(|transfer| {
            let what = format!(
                "{} was acknowledged and is not in the ledger of {place}",
                transfer.asked
            );
            Violation::new(NAME, what).with(*transfer)
        })
        .collect()
}

fn unexplained(bank: &BankHistory, held: &Bank, place: &str) -> Option<Violation> {
    let mut expected = bank.opening.clone();
    for LedgerRow {
        from, to, amount, ..
    } in &held.ledger
    {
        *expected.entry(*from).or_default() -= amount;
        *expected.entry(*to).or_default() += amount;
    }
    let differ = expected
        .iter()
        .find(|(account, balance)| held.balances.get(account) != Some(balance));
    let (account, balance) = differ?;
    let found = held.balances.get(account);
    let what = format!("{account} has {found:?} at {place}, and the ledger makes it {balance}");
    Some(Violation::new(NAME, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    fn transfer(id: u64, from: u64, to: u64, amount: i64) -> Transfer {
        Transfer {
            id: TransferId(id),
            from: crate::AccountId(from),
            to: crate::AccountId(to),
            amount,
        }
    }

    /// One acknowledged, one unknown, one failed.
    fn three_transfers() -> ([Transfer; 3], Script) {
        let mut script = Script::bank(&[50, 50]);
        let transfers = [
            transfer(1, 1, 2, 10),
            transfer(2, 2, 1, 5),
            transfer(3, 1, 2, 1),
        ];
        let outcomes = [
            Outcome::Ok(()),
            Outcome::Unknown("cut off".into()),
            Outcome::Failed("refused".into()),
        ];
        for (transfer, outcome) in transfers.into_iter().zip(outcomes) {
            script.run(1, crate::Level::Linearizable, transfer, outcome);
        }
        (transfers, script)
    }

    #[test]
    fn acknowledged_and_some_unknown_transfers_explain_the_balances() {
        let ([acknowledged, unknown, _], mut script) = three_transfers();
        script.end_bank(&[40, 60], &[acknowledged]);
        assert_eq!(script.check(check), []);
        script.end_bank(&[45, 55], &[unknown, acknowledged]);
        assert_eq!(script.check(check), []);
    }

    #[test]
    fn ledger_may_not_miss_repeat_invent_or_change_a_transfer() {
        let ([acknowledged, unknown, failed], mut script) = three_transfers();
        let changed = transfer(1, 2, 1, 10);
        let cases: [(&[i64], &[Transfer], &str); 6] = [
            (&[55, 45], &[unknown], "is not in the ledger"),
            (&[30, 70], &[acknowledged; 2], "twice"),
            (&[39, 61], &[acknowledged, failed], "refused"),
            (
                &[40, 60],
                &[acknowledged, transfer(9, 1, 1, 7)],
                "nobody asked",
            ),
            (&[60, 40], &[changed], "not as it was asked"),
            (&[45, 55], &[acknowledged], "the ledger makes it 40"),
        ];
        for (balances, ledger, expected) in cases {
            script.end_bank(balances, ledger);
            let violations = script.check(check);
            assert_eq!(violations.len(), 3, "one for each node: {violations:?}");
            assert!(violations[0].what.contains(expected), "{violations:?}");
        }
    }
}
