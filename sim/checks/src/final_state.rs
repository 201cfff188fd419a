//! What the nodes hold when all clients have ended and the cluster has come to rest.

use std::collections::BTreeMap;

use crate::history::{AccountId, Element, Holder, Key, LedgerRow, NodeId, RegisterValue, Row};

/// What each node holds in the end. A node that is not there is not checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FinalState {
    /// By node.
    pub nodes: BTreeMap<NodeId, Contents>,
}

/// What one node holds; `None` where a workload was not used, or not read in the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// The whole table of the set, in the order of ids.
    pub rows: Option<Vec<Row>>,
    /// The bank, read in one transaction.
    pub bank: Option<Bank>,
    /// All lists.
    pub lists: Option<BTreeMap<Key, Vec<Element>>>,
    /// All registers that were ever written.
    pub registers: Option<BTreeMap<Key, RegisterValue>>,
    /// All locks that somebody has.
    pub locks: Option<BTreeMap<Key, Holder>>,
}

/// The tables of the bank.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bank {
    /// All accounts.
    pub balances: BTreeMap<AccountId, i64>,
    /// All transfers, in any order.
    pub ledger: Vec<LedgerRow>,
}
