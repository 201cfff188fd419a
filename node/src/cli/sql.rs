//! `halite sql`: one statement, statements from standard input, or a prompt in the manner of the sqlite3 shell.

mod completion;
mod dot;
mod dump;
mod gather;
mod mode;
mod pour;
mod print_rows;
mod prompt;
mod row_writer;
mod script;
mod session;
mod splitter;
mod value_text;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use halite_client::{Client, ReadLevel};

use super::error::{CliError, Outcome};
use super::{GlobalArgs, unless_interrupted};
use crate::config::parse_duration;
pub(super) use dump::quoted;
use mode::Mode;
use session::{Budget, Session};

/// Execute SQL: one statement, standard input, or a prompt.
///
/// Without STATEMENT, a terminal gets a prompt (.help tells more); otherwise statements are read from standard input, up to the
/// first that fails. A transaction that only writes is sent when it is whole, so a dump of sqlite3 of up to 16 MiB, with 16 bytes more for each statement, can be piped in (a larger
/// one becomes a file first: `sqlite3 FILE < DUMP`, then `halite import`); one that reads holds the database's only writer and has to end within
/// 5 seconds.
#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The database [default: the only one there is]
    #[arg(long, env = "HALITE_DB", value_name = "NAME")]
    db: Option<String>,
    /// How fresh reads have to be: local, bounded:DURATION, session or linearizable [default: linearizable; local, with a remark, while no quorum
    /// answers]
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    level: Option<ReadLevel>,
    /// How long one statement may take, with all retries, such as 5m for an index on a large table. The first one's time counts from the start of
    /// the command [default: 10s, of which one node has 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    timeout: Option<Duration>,
    /// How results are shown [default: table; json with --json]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// SQL to execute
    statement: Option<String>,
}

/// Reads `local`, `bounded:500ms`, `session` or `linearizable`.
pub(crate) fn parse_level(text: &str) -> Result<ReadLevel, String> {
    match (text, text.split_once(':')) {
        ("local", _) => Ok(ReadLevel::Local),
        ("session", _) => Ok(ReadLevel::Session),
        ("linearizable", _) => Ok(ReadLevel::Linearizable),
        (_, Some(("bounded", lag))) => match parse_duration(lag) {
            Ok(Duration::ZERO) => Err("bounded:0 is what `linearizable` is for".to_owned()),
            Ok(lag) => Ok(ReadLevel::Bounded(lag)),
            Err(error) => Err(error.to_string()),
        },
        _ => Err(
            "a level is local, bounded:DURATION (bounded:500ms), session or linearizable"
                .to_owned(),
        ),
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("no statement takes no time at all".to_owned()),
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(error.to_string()),
    }
}

/// The opposite of [`parse_level`].
pub(crate) fn level_text(level: ReadLevel) -> String {
    match level {
        ReadLevel::Local => "local".to_owned(),
        ReadLevel::Bounded(lag) => format!("bounded:{}", crate::config::format_duration(lag)),
        ReadLevel::Linearizable => "linearizable".to_owned(),
        _ => "session".to_owned(),
    }
}

pub(crate) async fn run(args: SqlArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let mode = args
        .mode
        .unwrap_or(if global.json { Mode::Json } else { Mode::Table });
    let at_prompt = args.statement.is_none() && std::io::stdin().is_terminal();
    let budget = Budget::new(args.timeout);
    let open = async {
        let client = global.connect().await?;
        let database = match args.db {
            Some(name) => Some(name),
            None => only_database(&client, budget.left()).await?,
        };
        Ok::<_, CliError>(Session::new(client, database, args.level, mode, budget))
    };
    if at_prompt {
        return prompt::run(open.await?, history_file()).await;
    }
    let (statement, mut session) = (args.statement, None);
    let done = unless_interrupted(async {
        let session = session.insert(open.await?);
        match statement {
            Some(text) => script::run_text(session, &text).await,
            None => script::run_stdin(session).await,
        }
    });
    match done.await? {
        Ok(done) => done.map(|()| Outcome::Good),
        Err(signal) => Err(CliError::Interrupted {
            signal,
            told: session.map(|session| Box::new(session.ended_early())),
        }),
    }
}

/// The name of the database, if there is only one.
async fn only_database(client: &Client, within: Duration) -> Result<Option<String>, CliError> {
    let admin = client.admin().with_retry_deadline(within);
    let databases = admin.list_databases().await?;
    match databases.as_slice() {
        [one] => Ok(Some(one.name.clone())),
        _ => Ok(None),
    }
}

/// Where the prompt remembers what was typed: `$HALITE_HISTORY`, else a file in the home folder; an empty variable turns it off.
fn history_file() -> Option<PathBuf> {
    match std::env::var_os("HALITE_HISTORY") {
        Some(path) if path.is_empty() => None,
        Some(path) => Some(PathBuf::from(path)),
        None => std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".halite_history")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_back_as_they_are_written() {
        for text in [
            "local",
            "session",
            "linearizable",
            "bounded:500ms",
            "bounded:1m",
        ] {
            assert_eq!(parse_level(text).map(level_text), Ok(text.to_owned()));
        }
        for text in [
            "",
            "strong",
            "bounded",
            "bounded:",
            "bounded:5",
            "bounded:0",
            "Local",
        ] {
            assert!(parse_level(text).is_err(), "{text}");
        }
    }
}
