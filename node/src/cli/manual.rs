//! `halite completions` and `halite man`: what shells and man(1) need to know of the command line, from its definition.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use super::error::{CliError, Outcome};
use super::output::print;

/// Print what a shell needs to complete commands and flags.
///
/// For the shell at hand: source <(halite completions bash). For good: halite completions bash >
/// /etc/bash_completion.d/halite, or halite completions zsh > a file `_halite` in a folder of $fpath, or halite completions fish >
/// ~/.config/fish/completions/halite.fish.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Print a manual page, or write all of them.
///
/// To read one: halite man sql | man -l -. For good: halite man -o /usr/local/share/man/man1.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command, such as `sql` or `db create` [default: the program as a whole]
    command: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(short, long, value_name = "DIR", conflicts_with = "command")]
    output: Option<PathBuf>,
}

pub(crate) fn completions(args: CompletionsArgs) -> Result<Outcome, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::definition(), "halite", &mut script);
    print(&String::from_utf8_lossy(&script)).map(|()| Outcome::Good)
}

pub(crate) fn man(args: ManArgs) -> Result<Outcome, CliError> {
    let halite = halite();
    if let Some(folder) = args.output {
        std::fs::create_dir_all(&folder)
            .map_err(|error| CliError::io(format!("cannot make {}", folder.display()), &error))?;
        write_all(&halite, &folder)?;
        return Ok(Outcome::Good);
    }
    let mut command = &halite;
    for name in &args.command {
        command = command.find_subcommand(name).ok_or_else(|| {
            let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            CliError::new(format!("`{}` has no command `{name}`", title(command)))
                .help(format!("its commands: {}", names.join(", ")))
        })?;
    }
    print(&page(command)?).map(|()| Outcome::Good)
}

/// The definition with all that clap only adds when it is asked.
fn halite() -> Command {
    let mut halite = Cli::definition().disable_help_subcommand(true);
    halite.build();
    halite
}

/// `halite db create`.
fn title(command: &Command) -> &str {
    command.get_bin_name().unwrap_or(command.get_name())
}

fn page(command: &Command) -> Result<String, CliError> {
    let mut page = Vec::new();
    let man = Man::new(command.clone()).source(concat!("halite ", env!("CARGO_PKG_VERSION")));
    let rendered = man.render(&mut page);
    rendered.map_err(|error| CliError::io("cannot write the page", &error))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn write_all(command: &Command, folder: &Path) -> Result<(), CliError> {
    let path = folder.join(Man::new(command.clone()).get_filename());
    std::fs::write(&path, page(command)?)
        .map_err(|error| CliError::io(format!("cannot write {}", path.display()), &error))?;
    let commands = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    commands
        .into_iter()
        .try_for_each(|command| write_all(command, folder))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_gets_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::definition(), "halite", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::definition().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell} {}",
                    command.get_name()
                );
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write_all(&halite(), folder.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("halite.1").contains("halite\\-sql(1)"));
        let page = read("halite-sql.1");
        for words in [".TH halite-sql 1", "\\-\\-timeout", "HALITE_DB"] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(read("halite-db-create.1").contains("\\fBhalite db create\\fR"));
    }

    #[test]
    fn pages_are_found_by_the_words_of_the_command() {
        let args = |words: &[&str]| ManArgs {
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            output: None,
        };
        let wrong = man(args(&["db", "creat"])).unwrap_err().to_string();
        assert_eq!(wrong, "`halite db` has no command `creat`");
    }
}
