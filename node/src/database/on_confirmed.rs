//! [`OnConfirmed`]: somebody who waits for the word of a quorum. It is told exactly once, also when whoever was asked goes away.
//!
//! Made by lanes, told by whoever implements [`Proposer::confirm`](super::Proposer::confirm). Decides nothing.

use std::fmt;
use std::time::Duration;

use halite_proto::v1;

use super::failure;

type Then = Box<dyn FnOnce(Result<(), v1::Error>) + Send>;

/// See the module.
pub struct OnConfirmed(Option<Then>);

impl OnConfirmed {
    /// `then` runs once, on the thread that knows. It must not block.
    pub(super) fn new(then: impl FnOnce(Result<(), v1::Error>) + Send + 'static) -> Self {
        OnConfirmed(Some(Box::new(then)))
    }

    /// Passes on what the quorum said: an error has to be one that a caller may answer with a retry.
    pub fn tell(mut self, word: Result<(), v1::Error>) {
        if let Some(then) = self.0.take() {
            then(word);
        }
    }
}

impl Drop for OnConfirmed {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(failure::unavailable(
                "the node is stopping: nothing was written",
                Duration::from_millis(200),
            )));
        }
    }
}

impl fmt::Debug for OnConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnConfirmed").finish_non_exhaustive()
    }
}
