//! How far a session has seen the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The highest Raft index any answer of this session named: shared by all clones of one client or database handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionToken(Arc<AtomicU64>);

impl SessionToken {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Never goes back.
    pub(crate) fn observe(&self, index: u64) {
        if index > self.get() {
            self.0.fetch_max(index, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_never_goes_back() {
        let token = SessionToken::default();
        let clone = token.clone();
        token.observe(7);
        clone.observe(3);
        assert_eq!(token.get(), 7);
    }
}
