//! What clients asked for, when, and what they were told.
//!
//! One recorder stands beside all clients of a run, in one process. It is told when an operation is about to be sent and again when
//! its client knows how it ended. The order of these calls is the real-time order that the checks go by: it is exact even where a
//! simulated clock stands still between them. An operation whose client died is never told to have ended; it may have taken effect.

mod bank;
mod list;
mod lock;
mod operation;
mod register;
mod set;

pub use bank::{AccountId, BankHistory, LedgerRow, ReadBalances, Transfer, TransferId};
pub use list::{Element, ListTransaction, Step};
pub use lock::{Holder, LockAnswer, LockRequest, LockStep};
pub use operation::{
    Caller, Level, Moment, NodeId, Operation, OperationId, Outcome, Request, SessionId, Ticket,
};
pub use register::{Increment, ReadRegister, RegisterHistory, RegisterValue, Tag};
pub use set::{Insert, Inserted, ReadRows, Row, SetHistory, WriteId};

use std::fmt;

/// Name of a list, a register or a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k{}", self.0)
    }
}

/// All operations of a run, by workload. Each list is in the order in which its operations began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Rows that are only ever inserted.
    pub set: SetHistory,
    /// Money that only changes hands.
    pub bank: BankHistory,
    /// Transactions over lists that only grow.
    pub lists: Vec<Operation<ListTransaction>>,
    /// Counters that are read and written in one transaction.
    pub registers: RegisterHistory,
    /// Locks that are taken, renewed and let go by conditional statements.
    pub locks: Vec<Operation<LockRequest>>,
    operations: u64,
    moments: u64,
}

impl History {
    /// An operation is about to be sent. Until it is told to have [returned](Self::returned), its outcome is unknown.
    pub fn invoke<R: Request>(&mut self, caller: Caller, now_us: u64, asked: R) -> Ticket<R> {
        self.operations += 1;
        let operation = Operation {
            id: OperationId(self.operations),
            caller,
            invoked: self.moment(now_us),
            returned: None,
            asked,
            outcome: Outcome::Unknown("it never returned".to_owned()),
        };
        let id = operation.id;
        R::list_mut(self).push(operation);
        Ticket::new(id)
    }

    /// The client of an operation knows how it ended. The operation is handed out for checks that run along.
    pub fn returned<R: Request>(
        &mut self,
        ticket: Ticket<R>,
        now_us: u64,
        outcome: Outcome<R::Answer>,
    ) -> &Operation<R> {
        let returned = self.moment(now_us);
        let list = R::list_mut(self);
        let index = list
            .binary_search_by_key(&ticket.id(), |operation| operation.id)
            .expect("an operation under way is in its list");
        let operation = &mut list[index];
        operation.returned = Some(returned);
        operation.outcome = outcome;
        operation
    }

    /// How many operations were begun.
    pub fn len(&self) -> u64 {
        self.operations
    }

    /// Nothing was begun.
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    fn moment(&mut self, at_us: u64) -> Moment {
        self.moments += 1;
        Moment {
            order: self.moments,
            at_us,
        }
    }
}
