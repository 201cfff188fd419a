//! What a session was at when a signal broke it off, and what is true of it then.

use std::fmt;
use std::sync::Arc;

use super::Session;
use crate::cli::error::CliError;

/// What waits for an answer of the cluster. Its future is dropped by a signal, and with it an open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnderWay {
    Nothing,
    Read,
    /// One statement outside of a transaction.
    Write,
    /// All of a transaction.
    Batch,
    /// The end of a transaction.
    Commit,
    /// A statement of an open transaction.
    Transaction,
    /// A write, or all of a transaction, while no node could be reached.
    Unsent,
}

/// A line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::sql) struct Place {
    /// `None` for standard input.
    pub(in crate::cli::sql) file: Option<Arc<str>>,
    pub(in crate::cli::sql) line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        match &self.file {
            Some(file) => write!(f, " of {file}"),
            None => Ok(()),
        }
    }
}

impl Session {
    /// From here on the script is at `place`; returns where it was.
    pub(in crate::cli::sql) fn at(&mut self, place: Option<Place>) -> Option<Place> {
        std::mem::replace(&mut self.place, place)
    }

    /// The error, with the line that failed.
    pub(in crate::cli::sql) fn placed(&self, error: CliError) -> CliError {
        match &self.place {
            Some(place) => error.within(&format!("{place}: "), ""),
            None => error,
        }
    }

    /// What is true of a script that was broken off: all that was open is gone with it.
    pub(in crate::cli::sql) fn ended_early(&self) -> CliError {
        told(self.place.as_ref(), self.fate(), self.in_transaction())
    }

    /// What was under way, as far as it may have come to a node.
    fn fate(&self) -> UnderWay {
        let sent = self.client.stats().calls_sent > self.sent_before;
        match self.under_way {
            UnderWay::Write | UnderWay::Batch if !sent => UnderWay::Unsent,
            other => other,
        }
    }

    /// What is true of a statement of the prompt, or a script that it reads, that was broken off. The session goes on.
    pub(in crate::cli::sql) fn cancelled(&mut self) -> CliError {
        let gathered = self.gathered.take().is_some();
        let error = told(self.place.as_ref(), self.fate(), gathered);
        self.gathers = false;
        self.files = 0;
        self.place = None;
        self.under_way = UnderWay::Nothing;
        match self.transaction_state() {
            Some(state) => error.help(state),
            None => error,
        }
    }
}

/// `open`: a transaction of which nothing is under way.
fn told(place: Option<&Place>, under_way: UnderWay, open: bool) -> CliError {
    let place = place
        .map(|place| format!(" at {place}"))
        .unwrap_or_default();
    let fate = match under_way {
        UnderWay::Write => ": the write that was under way may or may not have been carried out",
        UnderWay::Unsent => ": no node could be reached, nothing was sent",
        UnderWay::Batch | UnderWay::Commit => {
            ": the transaction that was being committed may or may not have been carried out, all of it or nothing"
        }
        UnderWay::Transaction => ": the open transaction was rolled back, nothing of it was kept",
        _ if open => ": the open transaction was rolled back, nothing of it was kept",
        _ => "",
    };
    let error = CliError::new(format!("interrupted{place}{fate}"));
    match under_way {
        UnderWay::Write | UnderWay::Batch | UnderWay::Commit => {
            error.help("look at what is there before you send it again")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_true_of_what_was_under_way() {
        let line = Place {
            file: None,
            line: 7,
        };
        let file = Place {
            file: Some("a.sql".into()),
            line: 2,
        };
        for (place, under_way, open, want) in [
            (None, UnderWay::Read, false, "interrupted"),
            (
                Some(&line),
                UnderWay::Nothing,
                false,
                "interrupted at line 7",
            ),
            (
                None,
                UnderWay::Write,
                false,
                "interrupted: the write that was under way may or may not",
            ),
            (
                Some(&line),
                UnderWay::Commit,
                false,
                "interrupted at line 7: the transaction that was being committed may or may not",
            ),
            (
                Some(&line),
                UnderWay::Unsent,
                false,
                "interrupted at line 7: no node could be reached, nothing was sent",
            ),
            (
                Some(&file),
                UnderWay::Transaction,
                false,
                "interrupted at line 2 of a.sql: the open transaction was rolled back",
            ),
            (
                None,
                UnderWay::Nothing,
                true,
                "interrupted: the open transaction was rolled back",
            ),
        ] {
            let said = told(place, under_way, open).to_string();
            assert!(said.starts_with(want), "{said}");
            let unknown = matches!(under_way, UnderWay::Write | UnderWay::Commit);
            assert_eq!(said.contains("may or may not"), unknown, "{said}");
        }
    }
}
