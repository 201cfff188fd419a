//! What a statement is to a session: what begins and ends transactions is its own business. Pure.

use super::super::splitter::{first_word, words};
use crate::cli::error::CliError;
use crate::database::pragma;

/// What a statement is to the session.
pub(super) enum Step {
    Begin,
    Commit,
    Rollback,
    ForeignKeys(bool),
    Deferral,
    Other,
}

impl Step {
    /// Reads what begins and ends transactions as strictly as SQLite does.
    pub(super) fn of(sql: &str) -> Result<Step, CliError> {
        let first = first_word(sql);
        match first.as_str() {
            "BEGIN" | "COMMIT" | "END" | "ROLLBACK" => {}
            "PRAGMA" if pragma::is_deferral(sql) => return Ok(Step::Deferral),
            "PRAGMA" => {
                let asked = pragma::foreign_keys_asked(sql);
                return Ok(asked.map_or(Step::Other, Step::ForeignKeys));
            }
            _ => return Ok(Step::Other),
        }
        let words = words(sql);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let rest = match words.as_slice() {
            ["BEGIN", "DEFERRED" | "IMMEDIATE" | "EXCLUSIVE", rest @ ..] | [_, rest @ ..] => rest,
            [] => &[],
        };
        match (first.as_str(), rest) {
            ("ROLLBACK", ["TO", ..] | ["TRANSACTION", "TO", ..]) => Ok(Step::Other),
            (_, [] | ["TRANSACTION"]) => Ok(match first.as_str() {
                "BEGIN" => Step::Begin,
                "ROLLBACK" => Step::Rollback,
                _ => Step::Commit,
            }),
            (_, [wrong, ..]) => Err(CliError::sql(format!("near \"{wrong}\": syntax error"))),
        }
    }
}
