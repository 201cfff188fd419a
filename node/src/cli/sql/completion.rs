//! What Tab completes at the prompt: dot commands and what follows them, words of SQL, and names of the database. Pure, but for the names that
//! the prompt hands over.

use clap::ValueEnum;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper, Result as LineResult};

use super::dot;
use super::mode::Mode;

/// Words that people write often. Rare ones would only be in the way.
const KEYWORDS: &str = "\
    ABORT ADD AFTER ALL ALTER ANALYZE AND AS ASC AUTOINCREMENT BEFORE BEGIN BETWEEN BLOB BY CASCADE CASE CAST CHECK \
    COLLATE COLUMN COMMIT CONFLICT CONSTRAINT CREATE CROSS DEFAULT DELETE DESC DISTINCT DO DROP ELSE END ESCAPE EXCEPT \
    EXISTS EXPLAIN FOREIGN FROM FULL GLOB GROUP HAVING IF IGNORE IN INDEX INNER INSERT INTEGER INTERSECT INTO IS JOIN KEY \
    LEFT LIKE LIMIT MATERIALIZED NATURAL NOT NOTHING NULL OFFSET ON OR ORDER OUTER OVER PARTITION PLAN PRAGMA PRIMARY \
    QUERY REAL RECURSIVE REFERENCES REINDEX RENAME REPLACE RETURNING RIGHT ROLLBACK ROWID SAVEPOINT SELECT SET STRICT \
    TABLE TEXT TRIGGER UNION UNIQUE UPDATE USING VALUES VACUUM VIEW VIRTUAL WHEN WHERE WITH WITHOUT";

/// What the editor asks.
pub(super) struct Completion {
    /// Of tables, views and columns.
    pub(super) names: Vec<String>,
}

/// Where the word that is being written begins, and what it may become.
fn candidates(before: &str, names: &[String]) -> (usize, Vec<String>) {
    let is_dot = before.starts_with('.');
    let start = match is_dot {
        true => before.rfind(char::is_whitespace).map_or(0, |at| at + 1),
        false => {
            let inside = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            before.trim_end_matches(inside).len()
        }
    };
    let word = &before[start..];
    if is_dot {
        let choices = match before[..start].trim_end() {
            "" => dot::NAMES.iter().map(|name| (*name).to_owned()).collect(),
            command => arguments(command, names),
        };
        return (start, beginning_with(word, choices));
    }
    if word.is_empty() {
        return (start, Vec::new());
    }
    let small = word.starts_with(|c: char| c.is_ascii_lowercase());
    let keywords = KEYWORDS.split_whitespace().map(|keyword| match small {
        true => keyword.to_ascii_lowercase(),
        false => keyword.to_owned(),
    });
    let choices = keywords.chain(names.iter().cloned()).collect();
    (start, beginning_with(word, choices))
}

/// What may follow a dot command.
fn arguments(command: &str, names: &[String]) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match command {
        ".dump" | ".indexes" | ".schema" | ".tables" => names.to_vec(),
        ".headers" | ".timer" => words(&["off", "on"]),
        ".level" => words(&["bounded:", "linearizable", "local", "session"]),
        ".mode" => {
            let modes = Mode::value_variants().iter();
            let modes = modes.filter_map(Mode::to_possible_value);
            modes.map(|mode| mode.get_name().to_owned()).collect()
        }
        _ => Vec::new(),
    }
}

fn beginning_with(word: &str, mut choices: Vec<String>) -> Vec<String> {
    choices.retain(|choice| {
        let start = choice.get(..word.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(word))
    });
    choices.sort();
    choices.dedup();
    choices
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> LineResult<(usize, Vec<String>)> {
        Ok(candidates(&line[..at], &self.names))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_becomes_what_it_may_be() {
        let names: Vec<String> = ["users", "user_id", "Selection"].map(str::to_owned).into();
        for (before, start, want) in [
            (".ta", 0, &[".tables"][..]),
            (".h", 0, &[".headers", ".help"]),
            (".mode c", 6, &["column", "csv"]),
            (".schema us", 8, &["user_id", "users"]),
            (".timer ", 7, &["off", "on"]),
            (".quit x", 6, &[]),
            ("SEL", 0, &["SELECT", "Selection"]),
            ("sel", 0, &["Selection", "select"]),
            ("SELECT * FROM use", 14, &["user_id", "users"]),
            ("SELECT a.", 9, &[]),
            ("SELECT ü", 7, &[]),
            ("SELECT users.us", 13, &["user_id", "users", "using"]),
        ] {
            let want: Vec<String> = want.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(candidates(before, &names), (start, want), "{before}");
        }
    }
}
