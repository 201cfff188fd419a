//! Transactions over lists are serializable, and strictly so where the level promises it.
//!
//! After Elle (Kingsbury and Alvaro, 2020): a list that only grows tells its own history, so from what was read the order of all
//! appends follows, and from it which transaction must have come before which. There is a serial order if and only if that relation
//! has no cycle. What needs no order is looked at first: `versions` finds values that nobody may read and lists that do not agree.
//!
//! | edge | from | to |
//! |---|---|---|
//! | write-write | who appended an element | who appended the next one |
//! | write-read | who appended the last element of a list | who read that list |
//! | read-write | who read a list | who appended the element after it |
//! | real time | whoever had returned | transactions that began later and append, or are linearizable |
//! | session | whoever of the same session had returned | reads of level session that began later |

mod cycle;
mod edges;
mod versions;

use crate::history::{ListTransaction, Operation, OperationId};
use crate::{FinalState, History, Violation};
use edges::{Edge, Graph};

/// Name of this property.
pub const NAME: &str = "list_append";

/// Reads that no committed transaction explains, lost appends, and the smallest cycle of each knot of transactions.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let (versions, mut violations) = versions::Versions::of(history, end);
    let graph = Graph::of(history, &versions);
    let cycles = cycle::smallest_cycles(&graph);
    violations.extend(cycles.iter().map(|cycle| accuse(history, &graph, cycle)));
    violations
}

/// The edges of a cycle, each with the node that it leaves.
fn accuse(history: &History, graph: &Graph, cycle: &[(usize, Edge)]) -> Violation {
    let transactions: Vec<(&Operation<ListTransaction>, Edge)> = cycle
        .iter()
        .filter_map(|(node, edge)| Some((&history.lists[graph.transaction(*node)?], *edge)))
        .collect();
    let id = |n: usize| -> OperationId { transactions[n % transactions.len()].0.id };
    let steps: Vec<String> = transactions
        .iter()
        .enumerate()
        .map(|(n, (_, edge))| format!("{} before {} ({edge})", id(n), id(n + 1)))
        .collect();
    let what = format!("no serial order: {}", steps.join(", "));
    let violation = Violation::new(NAME, what);
    transactions
        .iter()
        .fold(violation, |violation, (operation, _)| {
            violation.with(*operation)
        })
}

#[cfg(test)]
mod tests;
