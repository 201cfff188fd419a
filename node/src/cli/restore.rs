//! `halite restore`: from an archive to a database file. Needs no node; takes Litestream's flags.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::{Args, ValueEnum};
use halite_archive::{
    CheckHook, Destination, DestinationUrl, PlanError, ProgressHook, RestoreError, RestoreOptions,
    RestorePlan, RestoreReport, Target, ThreadPool, list_all, list_for, open_destination, plan,
    restore, restore_points,
};
use halite_ltx::Txid;
use jiff::Timestamp;
use serde_json::json;

use super::GlobalArgs;
use super::error::{CliError, Outcome};
use super::export::with_way_on;
use super::held_file::refuse_held;
use super::ltx;
use super::output::{ProgressLine, human_bytes, print, print_json, remark};
use super::text_table::{Align, TextTable};
use crate::archiver::place;

/// Restore a database from an archive.
///
/// Reads what Halite and Litestream 0.5 wrote. Long flags may have one dash, as with Litestream. Nothing appears under the
/// output's name until the restore is whole, checked and on disk. A file that it replaces gives it its owner and mode; a symbolic link is followed.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Archive of the database (file:///backup/app)
    #[arg(value_name = "URL")]
    url: String,
    /// Where the database goes
    #[arg(short, long, value_name = "FILE", value_parser = parse_output)]
    output: PathBuf,
    /// Restore up to this transaction (hexadecimal; the end of an archive file)
    #[arg(long, value_name = "HEX", value_parser = parse_txid)]
    txid: Option<Txid>,
    /// Restore the newest state before this time (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "RFC3339", conflicts_with = "txid", value_parser = parse_timestamp)]
    timestamp: Option<Timestamp>,
    /// Exit with 0 if the archive holds no backup
    #[arg(long)]
    if_replica_exists: bool,
    /// Exit with 0 if the output is there already
    #[arg(long)]
    if_db_not_exists: bool,
    /// Show which files would be read, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace the output if it is there, and remove its -wal, -shm and -journal
    #[arg(long)]
    force: bool,
    /// Check the restored database with SQLite before it appears
    #[arg(long, value_enum, value_name = "KIND", default_value_t = IntegrityCheck::None)]
    integrity_check: IntegrityCheck,
    /// Accepted for Litestream's sake; has no effect
    #[arg(long, hide = true, value_name = "NUMBER")]
    parallelism: Option<u32>,
}

/// How thoroughly SQLite looks at a restored database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IntegrityCheck {
    None,
    /// PRAGMA quick_check
    Quick,
    /// PRAGMA integrity_check
    Full,
}

fn parse_txid(text: &str) -> Result<Txid, String> {
    let good = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = good.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    match number {
        Some(number) if number > 0 => Ok(Txid::new(number)),
        _ => Err("a transaction is 1 to 16 hexadecimal digits, and not zero".to_owned()),
    }
}

fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        "a time looks like 2026-01-31T12:00:00Z or 2026-01-31T13:00:00+01:00".to_owned()
    })
}

fn parse_output(text: &str) -> Result<PathBuf, String> {
    match text {
        "-" => Err(
            "a restore is checked before anybody sees it, and cannot go to standard output: name a file (./- if that is its name)"
                .to_owned(),
        ),
        path => Ok(PathBuf::from(path)),
    }
}

pub(crate) async fn run(args: RestoreArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let url = DestinationUrl::parse(&args.url).map_err(|error| CliError::new(error.to_string()))?;
    if args.parallelism.is_some() {
        remark("warning: -parallelism has no effect");
    }
    if args.if_db_not_exists && args.output.exists() {
        return Ok(Outcome::Good);
    }
    if let DestinationUrl::File(path) = &url {
        tell_of_others(path).await;
    }
    if args.force && !args.dry_run {
        refuse_held(&args.output)?;
    }
    let destination = open_destination(&url, Arc::new(ThreadPool));
    let done = if args.dry_run {
        dry_run(&args, &*destination, kind(&url), global).await
    } else {
        restore_file(&args, &*destination, kind(&url), global).await
    };
    match done {
        Err(error) if args.if_replica_exists && error.is_no_backup() => Ok(Outcome::Good),
        Err(error) => {
            let points = match &error {
                RestoreError::Plan(_) => list_all(&*destination).await.unwrap_or_default(),
                _ => Vec::new(),
            };
            let reach = ltx::reach(&restore_points(&points));
            Err(explained(&args, &error, reach))
        }
        Ok(report) => report.map(|()| Outcome::Good),
    }
}

/// Databases that were created later under the name, or before, have their archives beside this one.
async fn tell_of_others(path: &Path) {
    let (Some(parent), Some(own)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    let Ok(beside) = std::fs::read_dir(parent) else {
        return;
    };
    let names = beside.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut archives = vec![(newest(path).await, own.to_owned())];
    for name in names {
        if name != own && place::database_of(&name) == place::database_of(own) {
            archives.push((newest(&parent.join(&name)).await, name));
        }
    }
    archives.sort_unstable();
    let url = |name: &str| format!("file://{}", parent.join(name).display());
    match archives.last() {
        Some((_, name)) if name != own => remark(&format!(
            "warning: this is the archive of an earlier database of this name; the newest one is at {}",
            url(name)
        )),
        _ if archives.len() > 1 => remark(&format!(
            "note: this is the newest of {} archives of databases of this name",
            archives.len()
        )),
        _ => {}
    }
}

/// When the last transaction of an archive was written, as far as its files say.
async fn newest(path: &Path) -> Option<Timestamp> {
    let url = DestinationUrl::parse(path.to_str()?).ok()?;
    let files = list_all(&*open_destination(&url, Arc::new(ThreadPool))).await;
    files.ok()?.iter().map(|file| file.timestamp).max()
}

fn kind(url: &DestinationUrl) -> &'static str {
    match url {
        DestinationUrl::File(_) => "file",
        _ => "archive",
    }
}

impl RestoreArgs {
    fn target(&self) -> Target {
        match (self.txid, self.timestamp) {
            (Some(txid), _) => Target::Txid(txid),
            (None, Some(timestamp)) => Target::Timestamp(timestamp),
            (None, None) => Target::Latest,
        }
    }
}

async fn dry_run(
    args: &RestoreArgs,
    destination: &dyn Destination,
    kind: &str,
    global: &GlobalArgs,
) -> Result<Result<(), CliError>, RestoreError> {
    let target = args.target();
    let plan = plan(&list_for(destination, target).await?, target)?;
    let shown = if global.json {
        print_json(&plan_json(args, destination, kind, &plan))
    } else {
        print(&plan_text(args, destination, kind, &plan))
    };
    Ok(shown)
}

fn first_txid(plan: &RestorePlan) -> Txid {
    plan.files()
        .first()
        .map_or(plan.txid(), |file| file.key.min)
}

fn plan_json(
    args: &RestoreArgs,
    destination: &dyn Destination,
    kind: &str,
    plan: &RestorePlan,
) -> serde_json::Value {
    let files = plan.files().iter().map(|file| {
        json!({
            "level": file.key.level.get(),
            "name": file.key.file_name(),
            "min_txid": file.key.min.to_string(),
            "max_txid": file.key.max.to_string(),
            "size": file.bytes,
            "timestamp": file.timestamp.to_string(),
        })
    });
    json!({
        "source": destination.url(),
        "target_path": args.output,
        "replica": kind,
        "min_txid": first_txid(plan).to_string(),
        "max_txid": plan.txid().to_string(),
        "files": files.collect::<Vec<_>>(),
    })
}

fn plan_text(
    args: &RestoreArgs,
    destination: &dyn Destination,
    kind: &str,
    plan: &RestorePlan,
) -> String {
    let mut table = TextTable::new([
        ("level", Align::Right),
        ("file", Align::Left),
        ("min_txid", Align::Left),
        ("max_txid", Align::Left),
        ("size", Align::Right),
        ("timestamp", Align::Left),
    ]);
    for file in plan.files() {
        table.row([
            file.key.level.to_string(),
            file.key.file_name(),
            file.key.min.to_string(),
            file.key.max.to_string(),
            file.bytes.to_string(),
            file.timestamp.to_string(),
        ]);
    }
    format!(
        "source:  {}\ntarget:  {}\nreplica: {kind}\ntxid:    {} to {}\n\n{}",
        destination.url(),
        args.output.display(),
        first_txid(plan),
        plan.txid(),
        table.plain()
    )
}

async fn restore_file(
    args: &RestoreArgs,
    destination: &dyn Destination,
    kind: &str,
    global: &GlobalArgs,
) -> Result<Result<(), CliError>, RestoreError> {
    let options = RestoreOptions {
        force: args.force,
        check: check_hook(args.integrity_check),
        progress: Some(progress_hook()),
        ..RestoreOptions::default()
    };
    let report = restore(destination, args.target(), &args.output, options).await?;
    Ok(tell(args, kind, global, &report))
}

fn progress_hook() -> ProgressHook {
    let line = Mutex::new(ProgressLine::new());
    Arc::new(move |progress| {
        // A poisoned line is still a line.
        let mut line = line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let [read, total] = [progress.read_bytes, progress.read_bytes_total].map(human_bytes);
        line.show(&format!(
            "restoring: {read} of {total} read, {} pages written",
            progress.pages
        ));
    })
}

fn check_hook(check: IntegrityCheck) -> Option<CheckHook> {
    let pragma = match check {
        IntegrityCheck::None => return None,
        IntegrityCheck::Quick => "quick_check",
        IntegrityCheck::Full => "integrity_check",
    };
    Some(Box::new(move |path: &Path| integrity(path, pragma)))
}

/// Lets SQLite look at the file; what it complains of is the error.
fn integrity(path: &Path, pragma: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let connection = rusqlite::Connection::open(path)?;
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}"))?;
    let found = statement
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    match found.as_slice() {
        [one] if one == "ok" => Ok(()),
        complaints => Err(complaints.join("; ").into()),
    }
}

fn tell(
    args: &RestoreArgs,
    kind: &str,
    global: &GlobalArgs,
    report: &RestoreReport,
) -> Result<(), CliError> {
    let took_ms = u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX);
    if global.json {
        let check = args
            .integrity_check
            .to_possible_value()
            .map(|value| value.get_name().to_owned());
        return print_json(&json!({
            "db_path": args.output,
            "replica": kind,
            "txid": report.txid.to_string(),
            "duration_ms": took_ms,
            "integrity_check": check,
        }));
    }
    print(&format!(
        "restored {} up to transaction {} of {} ({}, from {} files, in {took_ms} ms)\n",
        args.output.display(),
        report.txid,
        report.timestamp,
        human_bytes(report.bytes()),
        report.files
    ))
}

/// `reach`: what the archive can give back instead.
fn explained(args: &RestoreArgs, error: &RestoreError, reach: Option<String>) -> CliError {
    let failed = CliError::new(error.to_string());
    match error {
        RestoreError::OutputExists(_) => {
            failed.help("choose another -o, or replace it with -force")
        }
        RestoreError::Place(place) => with_way_on(failed, place),
        RestoreError::Plan(PlanError::Empty) => failed.help(format!(
            "is {} the archive of one database? Each has its own folder in an archive",
            args.url
        )),
        RestoreError::Plan(_) => {
            let files = format!("`halite ltx {}` lists the files", args.url);
            failed.help(reach.map_or_else(|| files.clone(), |reach| format!("{reach}; {files}")))
        }
        RestoreError::Replan { .. } => failed.help("try again: the archive was being compacted"),
        RestoreError::Check(_) => {
            failed.help("nothing was written; an older state may be sound (-txid, -timestamp)")
        }
        _ => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_hexadecimal() {
        for (text, want) in [
            ("1", 1),
            ("000000000000001f", 31),
            ("1F", 31),
            ("ffffffffffffffff", u64::MAX),
        ] {
            assert_eq!(parse_txid(text), Ok(Txid::new(want)), "{text}");
        }
        for text in ["", "0", "0x1", "+1", "1g", "10000000000000000", "-1"] {
            assert!(parse_txid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_integrity_check_finds_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch("CREATE TABLE t(a); CREATE INDEX i ON t(a);")
            .unwrap();
        connection.execute_batch("INSERT INTO t SELECT value FROM (WITH RECURSIVE c(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM c LIMIT 5000) SELECT * FROM c)").unwrap();
        drop(connection);
        assert!(integrity(&path, "integrity_check").is_ok());
        let mut bytes = std::fs::read(&path).unwrap();
        let (page, length) = (4096 * 3, bytes.len());
        bytes[page..(page + 4096).min(length)].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        assert!(integrity(&path, "integrity_check").is_err());
    }
}
