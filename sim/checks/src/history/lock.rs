//! Locks that clients take, renew and let go by single statements: `locks(key UNIQUE, holder)`. Most of what they ask changes nothing.

use std::fmt;

use super::{History, Key, Operation, Request};

/// Names one taking of a lock; no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(pub u64);

/// What is done to a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockStep {
    /// Take it if nobody has it. Done: it was taken.
    Take(Holder),
    /// If `from` has it, `to` has it afterwards: the same one, to renew it. Done: `from` had it.
    Pass {
        /// Who has to have it.
        from: Holder,
        /// Who gets it.
        to: Holder,
    },
    /// Let it go if this one has it. Done: it had it.
    Release(Holder),
    /// Take it if nobody has it, and say who has it then.
    Settle(Holder),
    /// Say who has it.
    Look,
}

/// What the client of a step is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockAnswer {
    /// Whether it was done.
    Done(bool),
    /// Who has the lock.
    Held(Option<Holder>),
}

/// One step at one lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRequest {
    /// The lock.
    pub key: Key,
    /// What is to be done.
    pub step: LockStep,
}

impl LockStep {
    /// Who has the lock afterwards, and what the client is told.
    pub fn run(self, held: Option<Holder>) -> (Option<Holder>, LockAnswer) {
        match self {
            Self::Take(holder) => (held.or(Some(holder)), LockAnswer::Done(held.is_none())),
            Self::Pass { from, to } if held == Some(from) => (Some(to), LockAnswer::Done(true)),
            Self::Release(holder) if held == Some(holder) => (None, LockAnswer::Done(true)),
            Self::Pass { .. } | Self::Release(_) => (held, LockAnswer::Done(false)),
            Self::Settle(holder) => {
                let held = held.or(Some(holder));
                (held, LockAnswer::Held(held))
            }
            Self::Look => (held, LockAnswer::Held(held)),
        }
    }
}

impl Request for LockRequest {
    type Answer = LockAnswer;

    fn list_mut(history: &mut History) -> &mut Vec<Operation<Self>> {
        &mut history.locks
    }
}

impl fmt::Display for LockRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key;
        match self.step {
            LockStep::Take(holder) => write!(f, "take {key} for {}", holder.0),
            LockStep::Pass { from, to } if from == to => write!(f, "renew {key} of {}", from.0),
            LockStep::Pass { from, to } => write!(f, "pass {key} from {} to {}", from.0, to.0),
            LockStep::Release(holder) => write!(f, "release {key} of {}", holder.0),
            LockStep::Settle(holder) => write!(f, "settle {key} for {}", holder.0),
            LockStep::Look => write!(f, "look at {key}"),
        }
    }
}
