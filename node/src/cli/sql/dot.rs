//! Commands of the prompt that are not SQL: they begin with a dot, as in the sqlite3 shell.

use clap::ValueEnum;
use halite_client::ReadLevel;

use super::mode::Mode;
use super::parse_level;
use crate::config::{database_name_fault, nearest};

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DotCommand {
    Help,
    Quit,
    Databases,
    /// Names like a LIKE pattern.
    Tables(Option<String>),
    /// Of tables LIKE the pattern.
    Schema(Option<String>),
    /// Of tables LIKE the pattern.
    Indexes(Option<String>),
    ShowMode,
    Mode(Mode),
    Timer(bool),
    ShowLevel,
    Level(ReadLevel),
    Open(String),
    /// All, or tables LIKE the pattern.
    Dump(Option<String>),
    Headers(bool),
    Read(String),
}

pub(super) const HELP: &str = "\
.databases             List the databases of the cluster
.dump [TABLE]          Write the database, or tables LIKE the name, as SQL
.headers on|off        Show names of columns or not
.help                  Show this
.indexes [TABLE]       List indexes, those of tables LIKE the name
.level [LEVEL]         Show or set how fresh reads are: local, bounded:500ms, session, linearizable
.mode [MODE]           Show or set how results are shown: table, column, csv, json, line
.open NAME             Use another database
.quit                  Leave (so does Ctrl-D)
.read FILE             Execute what a file holds
.schema [TABLE]        Show CREATE statements, those of tables LIKE the name
.tables [PATTERN]      List tables and views, those LIKE the pattern
.timer on|off          Show how long each statement takes
SQL ends with a semicolon and may have many lines. BEGIN ... COMMIT has to end within 5 seconds.
";

pub(super) const NAMES: [&str; 14] = [
    ".databases",
    ".dump",
    ".exit",
    ".headers",
    ".help",
    ".indexes",
    ".level",
    ".mode",
    ".open",
    ".quit",
    ".read",
    ".schema",
    ".tables",
    ".timer",
];

/// The first argument, which may stand in single or double quotes, and what follows it.
fn first_argument(text: &str) -> Result<(Option<String>, &str), String> {
    let text = text.trim_start();
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        return Ok(((!word.is_empty()).then(|| word.to_owned()), rest));
    };
    let (word, rest) = text[1..]
        .split_once(quote)
        .ok_or_else(|| format!("a quote is not closed: {text}"))?;
    Ok((Some(word.to_owned()), rest))
}

/// Reads a line that begins with a dot. The error is for people.
pub(super) fn parse(line: &str) -> Result<DotCommand, String> {
    // A semicolon at the end is habit, as in the sqlite3 shell.
    let line = line.trim_end().trim_end_matches(';');
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (argument, rest) = first_argument(rest)?;
    if !rest.trim().is_empty() {
        return Err(format!("{name} takes one argument at most"));
    }
    match (name, argument) {
        (".help", None) => Ok(DotCommand::Help),
        (".quit" | ".exit", None) => Ok(DotCommand::Quit),
        (".databases", None) => Ok(DotCommand::Databases),
        (".tables", pattern) => Ok(DotCommand::Tables(pattern)),
        (".indexes" | ".indices", table) => Ok(DotCommand::Indexes(table)),
        (".schema", table) => Ok(DotCommand::Schema(table)),
        (".mode", None) => Ok(DotCommand::ShowMode),
        (".mode", Some(mode)) => Mode::from_str(&mode, true)
            .map(DotCommand::Mode)
            .map_err(|_| "a mode is table, column, csv, json or line".to_owned()),
        (".timer", Some(on)) if on == "on" || on == "off" => Ok(DotCommand::Timer(on == "on")),
        (".dump", table) => Ok(DotCommand::Dump(table)),
        (".headers" | ".header", Some(on)) if on == "on" || on == "off" => {
            Ok(DotCommand::Headers(on == "on"))
        }
        (".headers" | ".header", _) => Err("use .headers on or .headers off".to_owned()),
        (".read", Some(file)) => Ok(DotCommand::Read(file)),
        (".read", None) => Err("use .read FILE".to_owned()),
        (".timer", _) => Err("use .timer on or .timer off".to_owned()),
        (".level", None) => Ok(DotCommand::ShowLevel),
        (".level", Some(level)) => parse_level(&level).map(DotCommand::Level),
        (".open", Some(name)) => database_name_fault(&name).map_or(Ok(DotCommand::Open(name)), Err),
        (".open", None) => Err("use .open NAME".to_owned()),
        (known, Some(_)) if NAMES.contains(&known) => Err(format!("{known} takes no argument")),
        (unknown, _) => {
            let meant = nearest(unknown, NAMES).map(|meant| format!("; did you mean {meant}?"));
            Err(format!(
                "unknown command {unknown}{}",
                meant.unwrap_or_default()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        for (line, want) in [
            (".help", DotCommand::Help),
            (".quit", DotCommand::Quit),
            (".exit ", DotCommand::Quit),
            (".tables", DotCommand::Tables(None)),
            (".tables us%", DotCommand::Tables(Some("us%".to_owned()))),
            (
                ".schema users",
                DotCommand::Schema(Some("users".to_owned())),
            ),
            (".indexes", DotCommand::Indexes(None)),
            (".indices t", DotCommand::Indexes(Some("t".to_owned()))),
            (".mode JSON", DotCommand::Mode(Mode::Json)),
            (".mode", DotCommand::ShowMode),
            (".timer on", DotCommand::Timer(true)),
            (".tables;", DotCommand::Tables(None)),
            (".mode column", DotCommand::Mode(Mode::Column)),
            (".headers off", DotCommand::Headers(false)),
            (".dump", DotCommand::Dump(None)),
            (".read a.sql", DotCommand::Read("a.sql".to_owned())),
            (
                ".read 'my file.sql';",
                DotCommand::Read("my file.sql".to_owned()),
            ),
            (
                ".schema  \"my table\"",
                DotCommand::Schema(Some("my table".to_owned())),
            ),
            (
                ".level linearizable",
                DotCommand::Level(ReadLevel::Linearizable),
            ),
            (".open app", DotCommand::Open("app".to_owned())),
        ] {
            assert_eq!(parse(line), Ok(want), "{line}");
        }
    }

    #[test]
    fn slips_get_an_answer() {
        for (line, words) in [
            (".tabels", "did you mean .tables?"),
            (".zzz", "unknown command .zzz"),
            (".quit now", ".quit takes no argument"),
            (".timer maybe", ".timer on or .timer off"),
            (".mode xml", "table, column, csv, json or line"),
            (".open ../x", "cannot name a database"),
            (".tables a b", "one argument at most"),
            (".tables 'a' b", "one argument at most"),
            (".read 'a b", "a quote is not closed"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn help_names_every_command() {
        for name in NAMES.iter().filter(|name| **name != ".exit") {
            assert!(
                HELP.lines()
                    .any(|line| line.split_whitespace().next() == Some(name)),
                "{name}"
            );
        }
    }
}
