//! `halite ltx`: the files of an archive, and whether they are what they should be. Needs no node.

use std::sync::Arc;

use clap::{Args, Subcommand};
use halite_archive::{
    Destination, DestinationUrl, FileInfo, Level, RestorePoint, ThreadPool, VerifyReport, list_all,
    open_destination, verify,
};
use halite_ltx::Txid;
use serde_json::json;

use super::GlobalArgs;
use super::error::{CliError, Outcome};
use super::output::{human_bytes, print, print_json};
use super::text_table::{Align, TextTable};

/// List the files of an archive, or check them.
///
/// An archive holds a database in levels: 0 has what each sync wrote, 1 to 8 merged files, 9 the whole database. Reads what Halite and Litestream
/// 0.5 wrote. Long flags may have one dash, as with Litestream.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct LtxArgs {
    #[command(subcommand)]
    command: Option<LtxCommand>,
    /// Archive of the database (file:///backup/app)
    #[arg(value_name = "URL", required = true)]
    url: Option<String>,
    /// Only this level (0 to 9, or all)
    #[arg(long, value_name = "LEVEL", default_value = "all", value_parser = parse_level)]
    level: OneOrAll,
}

#[derive(Debug, Subcommand)]
enum LtxCommand {
    /// List the files of an archive
    List {
        /// Archive of the database (file:///backup/app)
        #[arg(value_name = "URL")]
        url: String,
        /// Only this level (0 to 9, or all)
        #[arg(long, value_name = "LEVEL", default_value = "all", value_parser = parse_level)]
        level: OneOrAll,
    },
    /// Read every file of an archive, and say what is wrong
    ///
    /// Compares checksums, names and times, and looks whether files follow each other. The exit code is 1 if anything is wrong.
    Verify {
        /// Archive of the database (file:///backup/app)
        #[arg(value_name = "URL")]
        url: String,
    },
}

/// A level, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OneOrAll(Option<Level>);

fn parse_level(text: &str) -> Result<OneOrAll, String> {
    if text == "all" {
        return Ok(OneOrAll(None));
    }
    let level = text.parse().ok().and_then(Level::new);
    let level = level.ok_or_else(|| "a level is a number from 0 to 9, or `all`".to_owned())?;
    Ok(OneOrAll(Some(level)))
}

pub(crate) async fn run(args: LtxArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    match args.command {
        None => list(&args.url.unwrap_or_default(), args.level, global).await,
        Some(LtxCommand::List { url, level }) => list(&url, level, global).await,
        Some(LtxCommand::Verify { url }) => check(&url, global).await,
    }
}

fn open(url: &str) -> Result<Arc<dyn Destination>, CliError> {
    let url = DestinationUrl::parse(url).map_err(|error| CliError::new(error.to_string()))?;
    Ok(open_destination(&url, Arc::new(ThreadPool)))
}

async fn list(url: &str, level: OneOrAll, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let destination = open(url)?;
    let listed = match level.0 {
        Some(level) => destination.list(level, Txid::ZERO).await,
        None => list_all(&*destination).await,
    };
    let files = listed.map_err(|error| CliError::new(error.to_string()))?;
    if global.json {
        print_json(&files.iter().map(file_json).collect::<serde_json::Value>())?;
        return Ok(Outcome::Good);
    }
    let mut table = TextTable::new([
        ("level", Align::Right),
        ("min_txid", Align::Left),
        ("max_txid", Align::Left),
        ("size", Align::Right),
        ("created", Align::Left),
    ]);
    for file in &files {
        table.row([
            file.key.level.to_string(),
            file.key.min.to_string(),
            file.key.max.to_string(),
            file.bytes.to_string(),
            file.timestamp.to_string(),
        ]);
    }
    print(&table.plain())?;
    Ok(Outcome::Good)
}

fn file_json(file: &FileInfo) -> serde_json::Value {
    json!({
        "level": file.key.level.get(),
        "min_txid": file.key.min.to_string(),
        "max_txid": file.key.max.to_string(),
        "size": file.bytes,
        "timestamp": file.timestamp.to_string(),
    })
}

async fn check(url: &str, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let report = verify(&*open(url)?, &ThreadPool).await;
    let report = report.map_err(|error| CliError::new(error.to_string()))?;
    if global.json {
        print_json(&report_json(&report))?;
    } else {
        print(&report_text(&report))?;
    }
    match report.problems.is_empty() {
        true => Ok(Outcome::Good),
        false => Ok(Outcome::Bad),
    }
}

fn report_json(report: &VerifyReport) -> serde_json::Value {
    let point = |point: Option<&RestorePoint>| {
        point.map(|point| json!({ "txid": point.txid.to_string(), "timestamp": point.timestamp.to_string() }))
    };
    let problems = report.problems.iter().map(ToString::to_string);
    json!({
        "files": report.files,
        "bytes": report.bytes,
        "pages": report.pages,
        "states": report.points.len(),
        "oldest": point(report.points.first()),
        "newest": point(report.points.last()),
        "problems": problems.collect::<Vec<_>>(),
    })
}

fn report_text(report: &VerifyReport) -> String {
    let mut text = format!(
        "{} files, {}, {} pages read\n",
        report.files,
        human_bytes(report.bytes),
        report.pages
    );
    if let Some(reach) = reach(&report.points) {
        text.push_str(&format!("{reach}\n"));
    }
    for problem in &report.problems {
        text.push_str(&format!("PROBLEM: {problem}\n"));
    }
    if report.problems.is_empty() {
        text.push_str("nothing is wrong\n");
    }
    text
}

/// What an archive can give back, in a sentence.
pub(super) fn reach(points: &[RestorePoint]) -> Option<String> {
    let (oldest, newest) = points.first().zip(points.last())?;
    Some(format!(
        "{} states can be restored, from transaction {} of {} to {} of {}",
        points.len(),
        oldest.txid,
        oldest.timestamp,
        newest.txid,
        newest.timestamp
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_numbers_or_all() {
        assert_eq!(parse_level("all"), Ok(OneOrAll(None)));
        assert_eq!(parse_level("9"), Ok(OneOrAll(Some(Level::SNAPSHOT))));
        for text in ["", "10", "-1", "snapshot"] {
            assert!(parse_level(text).is_err(), "{text}");
        }
    }
}
