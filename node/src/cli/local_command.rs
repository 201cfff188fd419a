//! Commands that ask no node: `--addr` means nothing to them. It is not in their help, and refused rather than passed over, since whoever gives it
//! expects it to have an effect. `HALITE_ADDR` is there for all commands, and says nothing about this one.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use super::Cli;

/// They work on local files, on one data directory, on a cluster of their own, or on nothing.
const LOCAL: [&str; 10] = [
    "bench",
    "completions",
    "demo",
    "dev",
    "ltx",
    "man",
    "restore",
    "serve",
    "set-aside",
    "version",
];
const ADDR: &str = "addr";

impl Cli {
    /// What is understood, as people are to see it.
    pub(super) fn definition() -> Command {
        let halite = Cli::command();
        let addr = halite
            .get_arguments()
            .find(|argument| argument.get_id() == ADDR);
        let Some(addr) = addr.cloned() else {
            return halite;
        };
        // clap gives its global arguments to each command that has none of the name.
        LOCAL.iter().fold(halite, |halite, name| {
            halite.mut_subcommand(name, |local| local.arg(addr.clone().hide(true)))
        })
    }

    /// Reads a command line.
    ///
    /// # Errors
    /// It makes no sense, or asks for help.
    pub(super) fn read(argv: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut halite = Cli::definition();
        let mut matches = halite.try_get_matches_from_mut(argv)?;
        if let Some(name) = local_with_addr(&matches) {
            let message = format!(
                "--addr means nothing to `halite {name}`, which asks no node: leave it out"
            );
            return Err(halite.error(ErrorKind::ArgumentConflict, message));
        }
        Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut halite))
    }
}

/// The command, if it is a local one and somebody gave it addresses.
fn local_with_addr(matches: &ArgMatches) -> Option<&str> {
    let (name, of_command) = matches.subcommand()?;
    let given = |matches: &ArgMatches| matches.value_source(ADDR) == Some(ValueSource::CommandLine);
    (LOCAL.contains(&name) && (given(matches) || given(of_command))).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn addresses_are_in_the_help_of_those_who_ask_nodes_and_of_no_others() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let help = read(&format!("halite {name} --help"))
                .map(drop)
                .expect_err("help");
            let shown = help.to_string().contains("--addr");
            assert_eq!(shown, !LOCAL.contains(&name), "{name}: {help}");
        }
        for name in LOCAL {
            assert!(Cli::command().find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn addresses_are_refused_where_they_mean_nothing() {
        for line in [
            "halite --addr a:1 restore -o x url",
            "halite restore -o x url --addr a:1",
            "halite set-aside --addr a:1 dir",
            "halite --addr=a:1 version",
            "halite serve --addr a:1",
        ] {
            let error = read(line).map(drop).expect_err(line);
            assert_eq!(
                (error.kind(), error.exit_code()),
                (ErrorKind::ArgumentConflict, 2),
                "{line}"
            );
            let words = "which asks no node: leave it out";
            assert!(error.to_string().contains(words), "{line}: {error}");
        }
        for line in ["halite --addr a:1 status", "halite db list --addr a:1"] {
            let cli = read(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(cli.global.addr, ["a:1"], "{line}");
        }
        assert!(read("halite restore -o x url").is_ok());
    }
}
