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
    /// Of one table.
    Schema(Option<String>),
    ShowMode,
    Mode(Mode),
    Timer(bool),
    ShowLevel,
    Level(ReadLevel),
    Open(String),
}

pub(super) const HELP: &str = "\
.databases             List the databases of the cluster
.help                  Show this
.level [LEVEL]         Show or set how fresh reads are: local, bounded:500ms, session, linearizable
.mode [MODE]           Show or set how results are shown: table, csv, json, line
.open NAME             Use another database
.quit                  Leave (so does Ctrl-D)
.schema [TABLE]        Show CREATE statements
.tables [PATTERN]      List tables and views, those LIKE the pattern
.timer on|off          Show how long each statement takes
SQL ends with a semicolon and may have many lines. BEGIN ... COMMIT has to end within 5 seconds.
";

const NAMES: [&str; 10] = [
    ".databases",
    ".exit",
    ".help",
    ".level",
    ".mode",
    ".open",
    ".quit",
    ".schema",
    ".tables",
    ".timer",
];

/// Reads a line that begins with a dot. The error is for people.
pub(super) fn parse(line: &str) -> Result<DotCommand, String> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let argument = words.next().map(str::to_owned);
    if words.next().is_some() {
        return Err(format!("{name} takes one argument at most"));
    }
    match (name, argument) {
        (".help", None) => Ok(DotCommand::Help),
        (".quit" | ".exit", None) => Ok(DotCommand::Quit),
        (".databases", None) => Ok(DotCommand::Databases),
        (".tables", pattern) => Ok(DotCommand::Tables(pattern)),
        (".schema", table) => Ok(DotCommand::Schema(table)),
        (".mode", None) => Ok(DotCommand::ShowMode),
        (".mode", Some(mode)) => Mode::from_str(&mode, true)
            .map(DotCommand::Mode)
            .map_err(|_| "a mode is table, csv, json or line".to_owned()),
        (".timer", Some(on)) if on == "on" || on == "off" => Ok(DotCommand::Timer(on == "on")),
        (".timer", _) => Err("use .timer on or .timer off".to_owned()),
        (".level", None) => Ok(DotCommand::ShowLevel),
        (".level", Some(level)) => parse_level(&level).map(DotCommand::Level),
        (".open", Some(name)) => database_name_fault(&name).map_or(Ok(DotCommand::Open(name)), Err),
        (".open", None) => Err("use .open NAME".to_owned()),
        (known, Some(_)) if NAMES.contains(&known) => Err(format!("{known} takes no argument")),
        (unknown, _) => {
            let meant = nearest(unknown, NAMES).map(|meant| format!("; did you mean {meant}?"));
            Err(format!(
                "unknown command {unknown}{} (.help lists them)",
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
            (".mode JSON", DotCommand::Mode(Mode::Json)),
            (".mode", DotCommand::ShowMode),
            (".timer on", DotCommand::Timer(true)),
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
            (".zzz", "(.help lists them)"),
            (".quit now", ".quit takes no argument"),
            (".timer maybe", ".timer on or .timer off"),
            (".mode xml", "table, csv, json or line"),
            (".open ../x", "cannot name a database"),
            (".tables a b", "one argument at most"),
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
