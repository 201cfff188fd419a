//! `halite status`: what every node says of itself, side by side.

mod report;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use halite_client::Admin;

use super::GlobalArgs;
use super::error::{CliError, Outcome};
use super::output::{print, print_json, print_line, print_styled};
use report::ClusterReport;

/// Show the nodes and databases of the cluster.
///
/// Exit code 0: all members answer, every database takes writes and is archived where it should be, and no copy is in trouble. Exit code 1:
/// anything of that is not so, also where the cluster takes writes all the same, as with one lost node of three. In JSON, `healthy` says the
/// one and `takes_writes` the other.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show it again every second until Ctrl-C
    #[arg(short, long)]
    pub(super) watch: bool,
}

/// The node that leads and says so itself: what the others believe of it may be old.
pub(super) async fn leader(admin: &Admin) -> Option<u64> {
    ClusterReport::of(admin.status().await).primary_id
}

/// Transactions of a database that its archive lacks; 0 without an archive.
pub(super) async fn archive_behind(admin: &Admin, database: &str) -> u64 {
    let report = ClusterReport::of(admin.status().await);
    let mut databases = report.databases.iter();
    let of_it = databases.find(|db| db.name == database);
    of_it.and_then(|db| db.archive_behind).unwrap_or(0)
}

const WATCH_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: StatusArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let client = global.connect().await?;
    let admin = client.admin();
    if !args.watch {
        let report = ClusterReport::of(admin.status().await);
        if global.json {
            print_json(&report)?
        } else {
            print_styled(&view::text(&report))?
        }
        return Ok(if report.healthy {
            Outcome::Good
        } else {
            Outcome::Bad
        });
    }
    let mut tick = tokio::time::interval(WATCH_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let on_terminal = std::io::stdout().is_terminal();
    loop {
        tick.tick().await;
        let report = ClusterReport::of(admin.status().await);
        if global.json {
            // One line each, for programs that read along.
            let line = serde_json::to_string(&report);
            print_line(&line.map_err(|error| {
                CliError::new(format!("the status cannot be written as JSON: {error}"))
            })?)?;
        } else if on_terminal {
            // Home, and clear below: the screen does not flicker.
            print("\x1b[H\x1b[J")?;
            print_styled(&view::text(&report))?;
        } else {
            print_styled(&format!("{}\n", view::text(&report)))?;
        }
    }
}
