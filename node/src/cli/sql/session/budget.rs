//! [`Budget`]: the time that one statement has, with all that is done for it.

use std::time::Duration;

use tokio::time::Instant;

/// What a statement has if nobody says otherwise, as the client has it.
const DEFAULT: Duration = Duration::from_secs(10);
/// A call with no time at all would not say who does not answer.
const LEAST: Duration = Duration::from_millis(1);

/// The first statement has what is left of the time of the command that it stands in: finding nodes and the database is done for it.
#[derive(Debug)]
pub(in crate::cli::sql) struct Budget {
    asked: Option<Duration>,
    /// When the statement that is under way has to be done.
    until: Instant,
    /// `until` is of the command, and of its first statement.
    is_first: bool,
}

impl Budget {
    /// That of a command which begins now.
    pub(in crate::cli::sql) fn new(asked: Option<Duration>) -> Self {
        Self {
            asked,
            until: Instant::now() + asked.unwrap_or(DEFAULT),
            is_first: true,
        }
    }

    /// A statement begins.
    pub(super) fn begin(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.until = Instant::now() + self.asked.unwrap_or(DEFAULT);
        }
    }

    /// What somebody at a prompt has done before the first statement is not its time.
    pub(super) fn wait(&mut self) {
        self.is_first = false;
    }

    /// What somebody has asked for.
    pub(super) fn asked(&self) -> Option<Duration> {
        self.asked
    }

    /// What is left for the statement.
    pub(in crate::cli::sql) fn left(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        left.max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_statement_has_what_the_command_has_left_and_the_others_their_own() {
        for (asked, whole) in [(None, 10), (Some(Duration::from_secs(3)), 3)] {
            let mut budget = Budget::new(asked);
            tokio::time::advance(Duration::from_secs(2)).await;
            budget.begin();
            assert_eq!(budget.left(), Duration::from_secs(whole - 2));
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(budget.left(), Duration::from_secs(whole - 3).max(LEAST));
            budget.begin();
            assert_eq!(budget.left(), Duration::from_secs(whole));
        }
    }
}
