//! When the cluster has come to rest, every node holds the same.

use crate::history::NodeId;
use crate::{Contents, FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "nodes_agree";

/// Nodes that differ from the first one, by workload.
pub fn check(_: &History, end: &FinalState) -> Vec<Violation> {
    let mut violations = Vec::new();
    compare(
        end,
        "rows",
        |contents| contents.rows.as_ref(),
        &mut violations,
    );
    compare(
        end,
        "banks",
        |contents| contents.bank.as_ref(),
        &mut violations,
    );
    compare(
        end,
        "lists",
        |contents| contents.lists.as_ref(),
        &mut violations,
    );
    compare(
        end,
        "registers",
        |contents| contents.registers.as_ref(),
        &mut violations,
    );
    violations
}

fn compare<'a, T: PartialEq + 'a>(
    end: &'a FinalState,
    name: &str,
    part: impl Fn(&'a Contents) -> Option<&'a T>,
    violations: &mut Vec<Violation>,
) {
    let mut first: Option<(NodeId, &T)> = None;
    for (node, contents) in &end.nodes {
        let Some(held) = part(contents) else { continue };
        let (other, expected) = *first.get_or_insert((*node, held));
        if held != expected {
            let what = format!("{node} and {other} hold different {name} in the end");
            violations.push(Violation::new(NAME, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use crate::{Bank, Key, RegisterValue};

    #[test]
    fn nodes_may_not_differ_in_any_workload() {
        let mut script = Script::default();
        script.unknown_insert(1, 1, 1);
        script.end();
        assert_eq!(script.check(check), []);
        script.node(2).clear();
        let violations = script.check(check);
        assert_eq!(violations.len(), 1);
        assert!(violations[0].what.contains("node 2 and node 1"));
        for (n, contents) in script.end.nodes.values_mut().enumerate() {
            let mut bank = Bank::default();
            bank.balances.insert(crate::AccountId(1), n as i64);
            contents.bank = Some(bank);
            contents.lists = Some([(Key(n as u64), Vec::new())].into());
            contents.registers = Some([(Key(n as u64), RegisterValue::INITIAL)].into());
        }
        assert_eq!(script.check(check).len(), 1 + 3 * 2);
    }
}
