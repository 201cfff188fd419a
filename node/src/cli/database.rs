//! `halite db`: the databases of the cluster.

use std::time::Duration;

use clap::{Args, Subcommand};
use halite_client::{Admin, DatabaseStatus, ErrorKind, Keep};
use serde_json::json;
use tokio::time::Instant;

use super::error::{CliError, Outcome};
use super::output::{print, print_json};
use super::text_table::{Align, TextTable};
use super::{GlobalArgs, status};

/// How long a drop waits for the archive: some sync intervals.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(5);
const ARCHIVE_LOOK: Duration = Duration::from_millis(200);

/// Create, drop and list databases.
#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Create an empty database
    Create {
        name: String,
        /// Bytes of a page: a power of two from 512 to 65536
        #[arg(long, default_value_t = 4096, value_parser = parse_page_size)]
        page_size: u32,
        /// Do nothing if it is there
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Drop a database on all nodes; its archive stays
    ///
    /// What is not in its archive yet is waited for: a database that is not archived within a few seconds is not dropped.
    Drop {
        name: String,
        /// Do nothing if it is not there
        #[arg(long)]
        if_exists: bool,
        /// Also what is not in its archive yet
        #[arg(long)]
        force: bool,
    },
    /// Have every node try again what keeps a database from its log
    Resume { name: String },
    /// Bring back a database of which no node has a sound copy
    ///
    /// For a database whose file was changed or damaged behind Halite's back, where no other node is left to repair it from: `halite status`
    /// names it. Say which of the two versions counts. The other one is kept in a file beside the database, whose path is printed.
    Repair(RepairArgs),
    /// List the databases
    List,
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    name: String,
    #[command(flatten)]
    keep: KeepArgs,
    /// With --keep-file: also where the log does not reach back, so that what was committed and is not in the file is lost
    #[arg(long, conflicts_with = "keep_log")]
    force: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct KeepArgs {
    /// What is in the file counts: it becomes the next transaction. Lost: committed transactions that the file does not hold
    #[arg(long)]
    keep_file: bool,
    /// What the log says counts, if it reaches far enough back. Lost: what was written into the file while its node was stopped
    #[arg(long)]
    keep_log: bool,
}

fn parse_page_size(text: &str) -> Result<u32, String> {
    let size: Option<u32> = text.parse().ok();
    size.filter(|size| size.is_power_of_two() && (512..=65536).contains(size))
        .ok_or_else(|| "a page size is a power of two from 512 to 65536".to_owned())
}

impl DbCommand {
    /// It asks a cluster for something that goes on there when this process is gone.
    pub(super) fn changes(&self) -> bool {
        !matches!(self, Self::List)
    }
}

pub(crate) async fn run(command: DbCommand, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let admin = global.connect().await?.admin();
    match command {
        DbCommand::Create {
            name,
            page_size,
            if_not_exists,
        } => {
            let created = admin
                .create_database(&name, page_size, if_not_exists)
                .await?;
            let done = if created { "created" } else { "exists already" };
            told(
                global,
                &format!("database {name} {done}"),
                json!({ "database": name, "created": created }),
            )?;
        }
        DbCommand::Drop {
            name,
            if_exists,
            force,
        } => {
            if !force {
                wait_for_archive(&admin, &name).await?;
            }
            let dropped = admin.drop_database(&name, if_exists).await?;
            let done = if dropped { "dropped" } else { "was not there" };
            told(
                global,
                &format!("database {name} {done}"),
                json!({ "database": name, "dropped": dropped }),
            )?;
        }
        DbCommand::Resume { name } => return resume(&admin, &name, global).await,
        DbCommand::Repair(args) => repair(&admin, &args, global).await?,
        DbCommand::List => {
            let databases = admin.list_databases().await?;
            if global.json {
                print_json(&databases.iter().map(database_json).collect::<Vec<_>>())?;
            } else {
                print(&databases_text(&databases))?;
            }
        }
    }
    Ok(Outcome::Good)
}

/// Good only if all members are well afterwards.
async fn resume(admin: &Admin, name: &str, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let mut all_well = true;
    let mut lines = Vec::new();
    let mut nodes = Vec::new();
    for (address, resumed) in admin.resume_database(name).await {
        let trouble = match resumed {
            Ok(trouble) => trouble,
            Err(error) => error.to_string(),
        };
        let said = if trouble.is_empty() { "well" } else { &trouble };
        lines.push(format!("{address}: {said}"));
        all_well &= trouble.is_empty();
        nodes
            .push(json!({ "addr": address, "trouble": (!trouble.is_empty()).then_some(&trouble) }));
    }
    told(
        global,
        &lines.join("\n"),
        json!({ "database": name, "nodes": nodes }),
    )?;
    Ok(if all_well {
        Outcome::Good
    } else {
        Outcome::Bad
    })
}

/// Until all of a database is in its archive, if it has one.
async fn wait_for_archive(admin: &Admin, name: &str) -> Result<(), CliError> {
    let until = Instant::now() + ARCHIVED_WITHIN;
    loop {
        let behind = status::archive_behind(admin, name).await;
        if behind == 0 {
            return Ok(());
        }
        if Instant::now() >= until {
            let failed = CliError::new(format!(
                "database {name} was not dropped: its archive lacks {behind} of its transactions"
            ));
            return Err(failed.help(format!(
                "`halite status` says what keeps them from it; drop it all the same with `halite db drop {name} --force`"
            )));
        }
        tokio::time::sleep(ARCHIVE_LOOK).await;
    }
}

async fn repair(admin: &Admin, args: &RepairArgs, global: &GlobalArgs) -> Result<(), CliError> {
    let name = &args.name;
    let (keep, of_log, other, lost) = match args.keep.keep_file {
        true => (
            Keep::File,
            None,
            "what the log says",
            ": committed transactions that the file does not hold are lost here, an archive may have them",
        ),
        false => (
            Keep::Log,
            Some("what the log says"),
            "what was in its file",
            "",
        ),
    };
    let done = admin.repair_database(name, keep, args.force).await.map_err(|error| {
        let gone = *error.kind() == ErrorKind::Corrupt;
        let failed = CliError::from(error);
        match gone {
            true => failed.help(format!(
                "take what is in the file with --keep-file, or `halite restore` it from its archive, `halite db drop {name}` and `halite import` the copy"
            )),
            false => failed,
        }
    })?;
    let txid = txid_text(done.txid);
    let kept = match done.copy.is_empty() {
        true => format!("{other} is not kept ({}){lost}", done.not_copied),
        false => format!("{other} is kept on node {} in {}", done.node_id, done.copy),
    };
    let counts = match of_log {
        Some(of_log) => of_log.to_owned(),
        None => format!("what was in the file of node {}", done.node_id),
    };
    let others = "any other node whose file held something else keeps that beside its own file, and says so in `halite status`";
    told(
        global,
        &format!("database {name} holds {counts}, as of transaction {txid}\n{others}\n{kept}"),
        json!({
            "database": name,
            "txid": txid,
            "node_id": done.node_id,
            "copy": (!done.copy.is_empty()).then_some(&done.copy),
            "not_copied": (!done.not_copied.is_empty()).then_some(&done.not_copied),
        }),
    )
}

fn told(global: &GlobalArgs, text: &str, json: serde_json::Value) -> Result<(), CliError> {
    if global.json {
        print_json(&json)
    } else {
        print(&format!("{text}\n"))
    }
}

/// A TXID as files and other commands write it.
pub(crate) fn txid_text(txid: u64) -> String {
    format!("{txid:016x}")
}

fn database_json(db: &DatabaseStatus) -> serde_json::Value {
    json!({
        "name": db.name,
        "txid": txid_text(db.txid),
        "checksum": db.checksum,
        "page_size": db.page_size,
        "pages": db.page_count,
        "wal_bytes": db.wal_bytes,
        "archived_txid": (db.archived_txid > 0).then(|| txid_text(db.archived_txid)),
        "trouble": (!db.trouble.is_empty()).then_some(&db.trouble),
    })
}

pub(crate) fn databases_text(databases: &[DatabaseStatus]) -> String {
    let mut table = TextTable::new([
        ("name", Align::Left),
        ("txid", Align::Left),
        ("pages", Align::Right),
        ("page size", Align::Right),
        ("trouble", Align::Left),
    ]);
    for db in databases {
        let [pages, size] = [db.page_count, db.page_size].map(|number| number.to_string());
        table.row([&db.name, &txid_text(db.txid), &pages, &size, &db.trouble]);
    }
    table.plain()
}
