//! `halite import`: an ordinary SQLite file becomes a database of the cluster.

mod source_file;
mod upload;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use halite_client::{Client, ErrorKind, ReadLevel};
use halite_proto::v1::ImportResponse;
use serde_json::json;
use tokio::time::Instant;

use super::GlobalArgs;
use super::database::txid_text;
use super::error::{CliError, Outcome};
use super::output::{human_bytes, print, print_json, remark};
use crate::config::database_name_fault;
use source_file::SourceFile;
use upload::upload;

/// Import a SQLite file as a new or empty database.
///
/// The file and its -wal are only read (a journal that a crash has left is rolled back first, as by any program that opens the file), and nobody
/// can write to them meanwhile. SQLite checks the file before it is sent.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The SQLite file
    file: PathBuf,
    /// Name of the database [default: the file's name without its ending]
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
    /// Replace what the database holds
    #[arg(long)]
    overwrite: bool,
    /// Import a file that SQLite finds malformed, as it is, page by page
    #[arg(long)]
    force: bool,
}

/// How often a file is sent whole when primaries are lost.
const TRIES: u32 = 3;
/// How long a cluster may take to find a primary that takes the file.
const PRIMARY_WAIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
const LOOK: &str = "look at what it holds; --overwrite replaces it with the file";

pub(crate) async fn run(args: ImportArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let name = database_name(&args)?;
    let (path, force) = (args.file.clone(), args.force);
    let source = tokio::task::spawn_blocking(move || SourceFile::open(&path, force)).await;
    let source =
        source.map_err(|error| CliError::new(format!("cannot read the file: {error}")))??;
    if let [first, more @ ..] = source.complaints() {
        remark(&format!(
            "warning: {} is malformed and is imported as it is: what reads it may fail or be wrong\n  {first}",
            args.file.display()
        ));
        more.iter().for_each(|more| remark(&format!("  {more}")));
    }
    let size = human_bytes(source.size_bytes());
    let client = global.connect().await?;
    let done = import(&client, &name, args.overwrite, source).await?;
    if global.json {
        print_json(&json!({
            "database": name,
            "txid": txid_text(done.txid),
            "pages": done.page_count,
            "page_size": done.page_size,
        }))?;
    } else {
        print(&format!(
            "imported {} as {name} ({size}, {} pages)\n",
            args.file.display(),
            done.page_count
        ))?;
    }
    Ok(Outcome::Good)
}

/// Sends the file; once more where a primary is lost, as long as that can overwrite nothing that somebody was told is kept.
async fn import(
    client: &Client,
    name: &str,
    overwrite: bool,
    source: SourceFile,
) -> Result<ImportResponse, CliError> {
    let (mut source, mut overwrite) = (source, overwrite);
    let mut tries = 1;
    let mut unanswered = None;
    let mut refused_since = None;
    loop {
        let (file, answer) = upload(client, name, overwrite, source).await?;
        source = file;
        let error = match answer {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let nothing_written = matches!(
            error.kind(),
            ErrorKind::NotPrimary { .. } | ErrorKind::Unavailable { .. }
        );
        if error.is_outcome_unknown() {
            expect_blank(client, name, &error).await?;
            // It is blank, so nothing has to be replaced; and what comes in between was written by others.
            overwrite = false;
            unanswered = Some(error.clone());
            refused_since = None;
            tries += 1;
        } else if let (ErrorKind::AlreadyExists, Some(before)) = (error.kind(), &unanswered) {
            return Err(not_known(name, before));
        } else if !nothing_written {
            return Err(explained(error));
        }
        let since = *refused_since.get_or_insert_with(Instant::now);
        if tries > TRIES || since.elapsed() > PRIMARY_WAIT {
            return Err(explained(error));
        }
        if error.is_outcome_unknown() {
            remark(&format!("the file is sent again: {error}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks what became of an import that nobody answered for; an error unless surely nothing is there.
async fn expect_blank(
    client: &Client,
    name: &str,
    unknown: &halite_client::Error,
) -> Result<(), CliError> {
    let database = client.database(name).with_level(ReadLevel::Linearizable);
    let found = database
        .query("SELECT count(*) FROM sqlite_schema", ())
        .await
        .and_then(|rows| rows.first().map_or(Ok(0), |row| row.get::<i64>(0)));
    match found {
        Ok(0) => Ok(()),
        Err(error) if *error.kind() == ErrorKind::NoSuchDatabase => Ok(()),
        Ok(_) => Err(not_known(name, unknown)),
        Err(error) => Err(CliError::new(format!(
            "{unknown}. Whether database {name} holds the file could not be found out: {error}"
        ))
        .help(LOOK)),
    }
}

fn not_known(name: &str, unanswered: &halite_client::Error) -> CliError {
    CliError::new(format!(
        "{unanswered}. Database {name} holds something now: it may be the file, what it held before, or what others wrote"
    ))
    .help(LOOK)
}

fn explained(error: halite_client::Error) -> CliError {
    let exists = *error.kind() == ErrorKind::AlreadyExists;
    let failed = CliError::from(error);
    if exists {
        failed.help("--overwrite replaces what the database holds, --db gives another name")
    } else {
        failed
    }
}

fn database_name(args: &ImportArgs) -> Result<String, CliError> {
    if args.file.is_dir() {
        let path = args.file.display();
        return Err(CliError::new(format!("{path} is a directory")));
    }
    let stem = args
        .file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let name = args.db.clone().or(stem).unwrap_or_default();
    match database_name_fault(&name) {
        Some(fault) if args.db.is_none() => {
            Err(CliError::new(fault).help("--db gives the database a name"))
        }
        Some(fault) => Err(CliError::new(fault)),
        None => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_comes_from_the_file_unless_it_is_given() {
        let args = |file: &str, db: Option<&str>| ImportArgs {
            file: PathBuf::from(file),
            db: db.map(str::to_owned),
            overwrite: false,
            force: false,
        };
        assert_eq!(database_name(&args("/x/app.db", None)).unwrap(), "app");
        assert_eq!(database_name(&args("/x/app.db", Some("b"))).unwrap(), "b");
        let error = database_name(&args("/x/my app.db", None)).unwrap_err();
        assert!(
            matches!(&error, CliError::Failed { message, help: Some(_), .. } if message.contains("`my app`")),
            "{error:?}"
        );
    }
}
