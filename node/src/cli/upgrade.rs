//! `halite upgrade`: the cluster's feature level, and raising it when every node runs the new version.

use clap::Subcommand;
use halite_client::UpgradeResponse;
use serde_json::json;

use super::GlobalArgs;
use super::error::{CliError, Outcome};
use super::output::{print, print_json};
use super::text_table::{Align, TextTable};

/// Show and raise the feature level of the cluster.
///
/// Replace the program of one node after the other. Until the level is raised, every node can go back to the older version.
/// Finalizing fails (exit code 1), and changes nothing, while a member runs an older version or does not answer.
#[derive(Debug, Subcommand)]
pub(crate) enum UpgradeCommand {
    /// Show the level, and which levels each member supports
    Status,
    /// Let the cluster use what the version that all nodes run can do; there is no way back
    Finalize,
}

pub(crate) async fn run(command: UpgradeCommand, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let admin = global.connect().await?.admin();
    let told = match command {
        UpgradeCommand::Status => admin.upgrade_status().await?,
        UpgradeCommand::Finalize => admin.finalize_upgrade().await?,
    };
    if global.json {
        print_json(&as_json(&told))?
    } else {
        print(&as_text(&told))?
    }
    Ok(Outcome::Good)
}

fn as_json(told: &UpgradeResponse) -> serde_json::Value {
    let members = told.members.iter().map(|member| {
        let answers = member.level_max > 0;
        json!({
            "id": member.node_id,
            "addr": member.addr,
            "version": answers.then_some(&member.version),
            "level_min": answers.then_some(member.level_min),
            "level_max": answers.then_some(member.level_max),
        })
    });
    json!({
        "level": told.level,
        "next_level": told.next_level,
        "blocked": (!told.blocked.is_empty()).then_some(&told.blocked),
        "members": members.collect::<Vec<_>>(),
    })
}

fn as_text(told: &UpgradeResponse) -> String {
    let mut table = TextTable::new([
        ("node", Align::Right),
        ("addr", Align::Left),
        ("version", Align::Left),
        ("levels", Align::Left),
    ]);
    for member in &told.members {
        let (version, levels) = if member.level_max > 0 {
            let levels = format!("{} to {}", member.level_min, member.level_max);
            (member.version.clone(), levels)
        } else {
            ("does not answer".to_owned(), String::new())
        };
        table.row([
            member.node_id.to_string(),
            member.addr.clone(),
            version,
            levels,
        ]);
    }
    let next = if told.next_level <= told.level {
        "nothing to finalize".to_owned()
    } else if told.blocked.is_empty() {
        format!(
            "every member supports level {}: `halite upgrade finalize` raises it",
            told.next_level
        )
    } else {
        told.blocked.clone()
    };
    format!("level {}: {next}\n\n{}", told.level, table.plain())
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_client::MemberLevels;

    fn told(next_level: u32, blocked: &str) -> UpgradeResponse {
        let member = |node_id, version: &str, level_max| MemberLevels {
            node_id,
            addr: format!("db{node_id}:7420"),
            version: version.to_owned(),
            level_min: u32::from(level_max > 0),
            level_max,
        };
        UpgradeResponse {
            level: 1,
            next_level,
            blocked: blocked.to_owned(),
            members: vec![member(1, "0.1.0", 2), member(2, "", 0)],
        }
    }

    #[test]
    fn words_say_what_to_do_next() {
        let table = "node  addr      version          levels\n   1  db1:7420  0.1.0            1 to 2\n   2  db2:7420  does not answer\n";
        for (next, blocked, words) in [
            (1, "", "nothing to finalize"),
            (
                2,
                "",
                "every member supports level 2: `halite upgrade finalize` raises it",
            ),
            (2, "node 2 is away", "node 2 is away"),
        ] {
            let text = as_text(&told(next, blocked));
            assert_eq!(text, format!("level 1: {words}\n\n{table}"));
        }
        let json = as_json(&told(2, ""));
        assert_eq!(json["members"][0]["level_max"], 2);
        assert!(json["members"][1]["version"].is_null());
        assert!(json["blocked"].is_null());
    }
}
