//! How much the node logs, and in which form.

use std::fmt;
use std::str::FromStr;

/// The `log` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// From the quietest to the loudest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
    /// Several lines for people.
    Pretty,
}

/// Not one of the words that are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not one of {known}")]
pub struct UnknownWord {
    given: String,
    known: String,
}

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
const FORMATS: [(&str, LogFormat); 3] = [
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
    ("pretty", LogFormat::Pretty),
];

fn pick<T: Copy>(given: &str, words: &[(&str, T)]) -> Result<T, UnknownWord> {
    let found = words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(given))
        .map(|(_, value)| *value);
    found.ok_or_else(|| UnknownWord {
        given: given.to_owned(),
        known: words
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>()
            .join(", "),
    })
}

fn word<T: PartialEq>(value: &T, words: &[(&'static str, T)]) -> &'static str {
    words
        .iter()
        .find(|(_, known)| known == value)
        .map_or("", |(word, _)| word)
}

impl FromStr for LogLevel {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        pick(text, &LEVELS)
    }
}

impl FromStr for LogFormat {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        pick(text, &FORMATS)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(self, &LEVELS))
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(self, &FORMATS))
    }
}
