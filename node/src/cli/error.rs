//! Why a command failed, and what can be done about it.

use std::fmt;
use std::io;

use halite_client::ErrorKind;
use rusqlite::ffi;

use super::output::remark;
use super::signals::StopSignal;
use super::{output, sqlite_code};
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
        /// SQLite's extended result code, if SQL was at fault.
        sqlite_code: Option<i32>,
    },
    /// This program is too old, or too new, for the cluster that its node belongs to: exit code 3.
    Unfit { message: String },
    /// Whoever read our output has enough. Nothing is printed, and the exit code is 0.
    OutputClosed,
    /// Ctrl-C, or SIGTERM: the exit code is that of a process that the signal ended. With what is to be told, if anything is.
    Interrupted {
        signal: StopSignal,
        told: Option<Box<CliError>>,
    },
}

impl CliError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            help: None,
            sqlite_code: None,
        }
    }

    /// SQL that cannot be carried out, as SQLite itself would say it.
    pub(crate) fn sql(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            help: None,
            sqlite_code: Some(ffi::SQLITE_ERROR),
        }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        match self {
            Self::Failed {
                message,
                sqlite_code,
                ..
            } => Self::Failed {
                message,
                help: Some(help.into()),
                sqlite_code,
            },
            other => other,
        }
    }

    /// The same with words around its message.
    pub(crate) fn within(mut self, before: &str, after: &str) -> Self {
        if let Self::Failed { message, .. } = &mut self {
            *message = format!("{before}{message}{after}");
        }
        self
    }

    /// Prints it to standard error, for programs if `json`.
    pub(crate) fn report(&self, json: bool) {
        match self {
            _ if json => remark(&self.json().to_string()),
            Self::Failed { help, .. } => output::report(&self.to_string(), help.as_deref()),
            other => output::report(&other.to_string(), None),
        }
    }

    /// For programs: what a command with `--json` writes to standard error.
    pub(crate) fn json(&self) -> serde_json::Value {
        let (message, help, sqlite_code) = match self {
            Self::Failed {
                message,
                help,
                sqlite_code,
            } => (message.clone(), help.clone(), *sqlite_code),
            other => (other.to_string(), None, None),
        };
        serde_json::json!({"error": {
            "message": message,
            "help": help,
            "sqlite_code": sqlite_code,
            "sqlite_name": sqlite_code.and_then(sqlite_code::name),
        }})
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
            Self::Failed {
                message,
                sqlite_code: Some(code),
                ..
            } => write!(f, "{message} ({})", code_text(*code)),
            Self::Failed { message, .. } | Self::Unfit { message } => f.write_str(message),
            Self::OutputClosed => f.write_str("the output was closed"),
            Self::Interrupted { told: None, .. } => f.write_str("interrupted"),
            Self::Interrupted {
                told: Some(told), ..
            } => told.fmt(f),
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
        let failed = Self::Failed {
            message: words_of(&error),
            help: None,
            sqlite_code: error.sqlite_code(),
        };
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

/// The error in one line for people.
pub(crate) fn message_of(error: &halite_client::Error) -> String {
    match error.sqlite_code() {
        Some(code) => format!("{} ({})", words_of(error), code_text(code)),
        None => words_of(error),
    }
}

/// SQLite's words without the machine-readable tail.
fn words_of(error: &halite_client::Error) -> String {
    let mut text = error.to_string();
    if let (ErrorKind::Sql { .. }, Some(at)) = (error.kind(), text.rfind(": code=")) {
        text.truncate(at);
    }
    text
}

/// `SQLITE_CONSTRAINT_UNIQUE, 2067`.
fn code_text(code: i32) -> String {
    match sqlite_code::name(code) {
        Some(name) => format!("{name}, {code}"),
        None => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_sql_have_the_code_that_sqlite_gave_them() {
        let error = CliError::Failed {
            message: "UNIQUE constraint failed: t.a".to_owned(),
            help: None,
            sqlite_code: Some(2067),
        };
        let error = error.within("line 2: ", " (at: INSERT)").help("look");
        assert_eq!(
            error.to_string(),
            "line 2: UNIQUE constraint failed: t.a (at: INSERT) (SQLITE_CONSTRAINT_UNIQUE, 2067)"
        );
        let json = error.json();
        let fault = &json["error"];
        assert_eq!(fault["sqlite_name"], "SQLITE_CONSTRAINT_UNIQUE");
        assert_eq!(
            (&fault["sqlite_code"], &fault["help"]),
            (&2067.into(), &"look".into())
        );
        assert!(!fault["message"].as_str().unwrap().contains("2067"));
        assert!(CliError::new("no").json()["error"]["sqlite_code"].is_null());
    }
}
