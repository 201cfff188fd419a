//! A checker for linearizability after Wing, Gong and Lowe: tries which operation may have taken effect next, and never tries twice
//! from the same place.
//!
//! It works for anything with a sequential specification, knows nothing of positions, and so checks the checkers that do. Time grows
//! with the number of operations that overlap: the effort is bounded, and a search that reaches the bound says so.

use std::collections::BTreeSet;

/// What an object does when nobody disturbs it.
pub trait Model {
    /// One operation with its result.
    type Operation;
    /// What the object holds.
    type State: Clone + Ord;

    /// Before the first operation.
    fn initial(&self) -> Self::State;

    /// What the object holds after an operation; `None` if the operation cannot have this result here.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

/// One operation and when it was under way.
#[derive(Debug, Clone)]
pub struct Interval<O> {
    /// Place of its beginning in the real-time order.
    pub invoked: u64,
    /// Place of its end; `None` for an operation that may take effect at any later time or never.
    pub returned: Option<u64>,
    /// What was done.
    pub operation: O,
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none. The operation that has this place in the list could not be explained in the longest order that was found.
    Impossible(usize),
    /// The effort was not enough to tell.
    Undecided,
}

/// Looks for an order in which these operations, those that never returned or some of them, can have taken effect. No two beginnings
/// or ends may have the same place. `effort` bounds the steps tried.
pub fn check<M: Model>(model: &M, operations: &[Interval<M::Operation>], effort: u64) -> Verdict {
    Search::new(model, operations).run(effort)
}

/// Entry 0 is the head of a list of beginnings and ends in real-time order; beginning `n` is entry `2n + 1`, its end `2n + 2`.
struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [Interval<M::Operation>],
    next: Vec<usize>,
    previous: Vec<usize>,
    state: M::State,
    /// Which operations have taken effect, as the sum of their random numbers: exact for all practical purposes, and small.
    done: u128,
    seen: BTreeSet<(u128, M::State)>,
    order: Vec<(usize, M::State)>,
    /// Operations that returned and have not taken effect yet.
    due: usize,
}

const END: usize = usize::MAX;

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [Interval<M::Operation>]) -> Self {
        let mut entries: Vec<(u64, usize)> = Vec::with_capacity(2 * operations.len());
        for (n, operation) in operations.iter().enumerate() {
            entries.push((operation.invoked, 2 * n + 1));
            entries.extend(operation.returned.map(|returned| (returned, 2 * n + 2)));
        }
        entries.sort_unstable();
        let mut next = vec![END; 2 * operations.len() + 1];
        let mut previous = vec![0; 2 * operations.len() + 1];
        let mut last = 0;
        for (_, entry) in &entries {
            next[last] = *entry;
            previous[*entry] = last;
            last = *entry;
        }
        Self {
            model,
            operations,
            next,
            previous,
            state: model.initial(),
            done: 0,
            seen: BTreeSet::new(),
            order: Vec::new(),
            due: entries.len() - operations.len(),
        }
    }

    fn run(mut self, effort: u64) -> Verdict {
        let mut entry = self.next[0];
        let mut longest = (0, 0);
        for _ in 0..effort {
            if self.due == 0 {
                return Verdict::Linearizable;
            }
            let begins = entry != END && entry % 2 == 1;
            if begins {
                entry = if self.take((entry - 1) / 2) {
                    self.next[0]
                } else {
                    self.next[entry]
                };
                continue;
            }
            // Whatever returns here should have taken effect by now.
            if entry != END && self.order.len() >= longest.0 {
                longest = (self.order.len(), (entry - 2) / 2);
            }
            match self.give_back() {
                Some(operation) => entry = self.next[2 * operation + 1],
                None => return Verdict::Impossible(longest.1),
            }
        }
        Verdict::Undecided
    }

    /// Lets an operation take effect, if it can and this was not tried before.
    fn take(&mut self, operation: usize) -> bool {
        let tried = &self.operations[operation].operation;
        let Some(state) = self.model.step(&self.state, tried) else {
            return false;
        };
        let done = self.done ^ random(operation);
        if !self.seen.insert((done, state.clone())) {
            return false;
        }
        let before = std::mem::replace(&mut self.state, state);
        self.order.push((operation, before));
        self.done = done;
        self.unlink(2 * operation + 1);
        if self.operations[operation].returned.is_some() {
            self.unlink(2 * operation + 2);
            self.due -= 1;
        }
        true
    }

    /// Undoes the last operation that took effect.
    fn give_back(&mut self) -> Option<usize> {
        let (operation, state) = self.order.pop()?;
        self.state = state;
        self.done ^= random(operation);
        if self.operations[operation].returned.is_some() {
            self.link(2 * operation + 2);
            self.due += 1;
        }
        self.link(2 * operation + 1);
        Some(operation)
    }

    fn unlink(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        self.next[previous] = next;
        if next != END {
            self.previous[next] = previous;
        }
    }

    fn link(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        self.next[previous] = entry;
        if next != END {
            self.previous[next] = entry;
        }
    }
}

/// The same for the same operation in every run (SplitMix64, twice).
fn random(operation: usize) -> u128 {
    let half = |n: u64| {
        let mut bits = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let n = 2 * operation as u64;
    u128::from(half(n)) << 64 | u128::from(half(n + 1))
}

#[cfg(test)]
mod tests;
