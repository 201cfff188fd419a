//! Why a command failed, and what can be done about it.

use std::fmt;
use std::io;

use halite_client::ErrorKind;

use crate::config::{ConfigError, system_words};

/// How a command that ran to its end leaves: scripts tell by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Good,
    /// Exit code 1: the command worked, what it found is not well (`halite status` without a primary).
    Bad,
}

/// A command that failed: exit code 1.
#[derive(Debug)]
#[non_exhaustive]
pub enum CliError {
    /// With what is printed as `error:` and, if there is something to do, as `help:`.
    Failed {
        message: String,
        help: Option<String>,
    },
    /// Whoever read our output has enough. Nothing is printed, and the exit code is 0.
    OutputClosed,
    /// Ctrl-C. Nothing is printed.
    Interrupted,
}

impl CliError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        match self {
            Self::Failed { message, .. } => Self::Failed {
                message,
                help: Some(help.into()),
            },
            other => other,
        }
    }

    /// An error of the file system, with what was tried.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(format!("{what}: {}", system_words(error)))
    }

    /// Writing to our own output failed.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::io("cannot write the output", &error),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { message, .. } => f.write_str(message),
            Self::OutputClosed => f.write_str("the output was closed"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for CliError {}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::new(error.to_string()).help("deploy/halite.sample.yml shows every setting")
    }
}

impl From<halite_client::Error> for CliError {
    fn from(error: halite_client::Error) -> Self {
        let failed = Self::new(message_of(&error));
        let help = match error.kind() {
            ErrorKind::Unavailable { .. }
                if failed.to_string().starts_with("no address answers") =>
            {
                "is a node running there? --addr or HALITE_ADDR names the nodes"
            }
            ErrorKind::Unavailable { .. } => "`halite status` shows who leads and who answers",
            ErrorKind::NoSuchDatabase => {
                "`halite db list` shows them, `halite db create NAME` makes one"
            }
            ErrorKind::OutcomeUnknown => "the write may have been kept: look before you try again",
            ErrorKind::RowsNotKept => "do not send it again: read what is there now",
            ErrorKind::DiskFull => "make room on the node's disk; nothing was written",
            _ => return failed,
        };
        failed.help(help)
    }
}

/// The error in one line for people: SQLite's words without the machine-readable tail.
pub(crate) fn message_of(error: &halite_client::Error) -> String {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Sql { extended, .. } => {
            let words = text
                .rfind(": code=")
                .map_or(text.as_str(), |at| &text[..at]);
            format!("{words} ({extended})")
        }
        _ => text,
    }
}
