use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let argv = line.split(' ').map(OsString::from);
    Cli::read(argv::normalise(argv))
}

#[test]
fn the_definition_is_sound() {
    Cli::definition().debug_assert();
}

#[test]
fn what_is_documented_is_understood() {
    for line in [
        "halite serve",
        "halite serve -c /etc/halite.yml --print-config",
        "halite serve --node-id 2 --join --check --no-expand-env",
        "halite sql",
        "halite sql --db app --level linearizable SELECT",
        "halite sql --mode csv --level bounded:500ms",
        "halite import app.db --db app --overwrite",
        "halite export --db app -o app.db --force",
        "halite status",
        "halite status --json --watch",
        "halite member list",
        "halite member add 4 db4:7420",
        "halite member promote 4",
        "halite member remove 4",
        "halite transfer",
        "halite transfer --to 2",
        "halite db create app --page-size 8192 --if-not-exists",
        "halite db drop app --if-exists",
        "halite db list --json",
        "halite restore -o app.db file:///backup/app",
        "halite restore -o app.db -txid 000000000000001f -if-replica-exists -json file:///backup/app",
        "halite restore --output app.db --timestamp 2026-01-31T12:00:00Z --dry-run --force file:///backup/app",
        "halite restore -o app.db -timestamp 2026-01-31T13:00:00+01:00 -integrity-check full -if-db-not-exists url",
        "halite restore -o app.db -integrity-check=quick -parallelism 8 url",
        "halite ltx file:///backup/app",
        "halite ltx -level 9 -json file:///backup/app",
        "halite ltx list -level all file:///backup/app",
        "halite ltx verify file:///backup/app",
        "halite version --verbose",
        "halite completions bash",
        "halite man",
        "halite man db create",
        "halite man -o /usr/local/share/man/man1",
        "halite --addr a:1,b:2 -vv status",
        "halite status --addr a:1",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn misuse_is_refused_with_exit_code_two() {
    for (line, kind) in [
        (
            "halite",
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ),
        ("halite nonsense", ErrorKind::InvalidSubcommand),
        ("halite sql --level strong", ErrorKind::ValueValidation),
        ("halite sql --mode xml", ErrorKind::InvalidValue),
        ("halite import", ErrorKind::MissingRequiredArgument),
        ("halite ltx", ErrorKind::MissingRequiredArgument),
        ("halite ltx -level 10 url", ErrorKind::ValueValidation),
        ("halite export -o x", ErrorKind::MissingRequiredArgument),
        ("halite member add 0 db:1", ErrorKind::ValueValidation),
        ("halite member add 4 db", ErrorKind::ValueValidation),
        (
            "halite db create app --page-size 1000",
            ErrorKind::ValueValidation,
        ),
        (
            "halite restore file:///x",
            ErrorKind::MissingRequiredArgument,
        ),
        ("halite restore -o - url", ErrorKind::ValueValidation),
        (
            "halite restore -o x -txid zz url",
            ErrorKind::ValueValidation,
        ),
        (
            "halite restore -o x -timestamp yesterday url",
            ErrorKind::ValueValidation,
        ),
        (
            "halite restore -o x -txid 1 -timestamp 2026-01-31T12:00:00Z url",
            ErrorKind::ArgumentConflict,
        ),
        (
            "halite restore -o x -integrity-check deep url",
            ErrorKind::InvalidValue,
        ),
        (
            "halite serve --print-config --check",
            ErrorKind::ArgumentConflict,
        ),
        ("halite transfer --to nobody", ErrorKind::ValueValidation),
    ] {
        let error = parse(line).map(|_| ()).expect_err(line);
        assert_eq!(error.kind(), kind, "{line}: {error}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn addresses_are_a_list() {
    assert_eq!(
        parse("halite --addr a:1,b:2 status").unwrap().global.addr,
        ["a:1", "b:2"]
    );
}

/// An argument of a command with the name of a global one would silently take its place.
#[test]
fn the_address_of_a_new_member_is_not_the_address_of_the_cluster() {
    let cli = parse("halite --addr a:1 member add 4 db4:7420").unwrap();
    assert_eq!(cli.global.addr, ["a:1"]);
    fn check(command: &clap::Command, global: &[String]) {
        for argument in command
            .get_arguments()
            .filter(|argument| !argument.is_global_set())
        {
            let id = argument.get_id().to_string();
            assert!(!global.contains(&id), "{} {id}", command.get_name());
        }
        command
            .get_subcommands()
            .for_each(|command| check(command, global));
    }
    let command = Cli::command();
    let global = command
        .get_arguments()
        .filter(|argument| argument.is_global_set());
    check(
        &command,
        &global
            .map(|argument| argument.get_id().to_string())
            .collect::<Vec<_>>(),
    );
}

#[test]
fn every_command_says_what_it_is_for() {
    fn check(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn failures_lead_to_exit_codes() {
    let code = |done| format!("{:?}", exit_code(done, false));
    let (good, bad) = (
        format!("{:?}", ExitCode::SUCCESS),
        format!("{:?}", ExitCode::FAILURE),
    );
    assert_eq!(code(Ok(Outcome::Good)), good);
    assert_eq!(code(Ok(Outcome::Bad)), bad);
    assert_eq!(code(Err(CliError::OutputClosed)), good);
    for (signal, want) in [
        (StopSignal::Interrupt, 130),
        (StopSignal::Terminate, 143),
        (StopSignal::Hangup, 129),
    ] {
        let done = code(Err(CliError::Interrupted { signal, told: None }));
        assert_eq!(done, format!("{:?}", ExitCode::from(want)));
    }
}
