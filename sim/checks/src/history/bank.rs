//! Money that only changes hands: `accounts(id, balance)` and `transfers(id, from, to, amount)`.
//!
//! A transfer takes from one account, gives to another and notes itself in the ledger, all in one transaction.

use std::collections::BTreeMap;
use std::fmt;

use super::{History, Operation, Request};

/// An account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u64);

/// A transfer; no two operations have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

/// Move money. What the client gives up itself (too little money, say) has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Which transfer.
    pub id: TransferId,
    /// Whose balance falls.
    pub from: AccountId,
    /// Whose balance rises.
    pub to: AccountId,
    /// By how much.
    pub amount: i64,
}

/// A transfer as the ledger has it.
pub type LedgerRow = Transfer;

/// Read all balances in one statement or transaction. The answer is the balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBalances;

/// Operations of this workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BankHistory {
    /// Balances before the first operation. Whoever starts the workload sets it.
    pub opening: BTreeMap<AccountId, i64>,
    /// Transfers.
    pub transfers: Vec<Operation<Transfer>>,
    /// Reads.
    pub reads: Vec<Operation<ReadBalances>>,
}

impl Request for Transfer {
    type Answer = ();

    fn list_mut(history: &mut History) -> &mut Vec<Operation<Self>> {
        &mut history.bank.transfers
    }
}

impl Request for ReadBalances {
    type Answer = BTreeMap<AccountId, i64>;

    fn list_mut(history: &mut History) -> &mut Vec<Operation<Self>> {
        &mut history.bank.reads
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {}", self.0)
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            from,
            to,
            amount,
        } = self;
        write!(f, "transfer {} of {amount} from {from} to {to}", id.0)
    }
}

impl fmt::Display for ReadBalances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("read all balances")
    }
}
