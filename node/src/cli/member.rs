//! `halite member` and `halite transfer`: who is in the cluster, and who leads it.

use clap::{Args, Subcommand};
use halite_client::Topology;
use serde_json::json;

use super::GlobalArgs;
use super::error::{CliError, Outcome};
use super::output::{print, print_json};
use super::status;
use super::text_table::{Align, TextTable};
use crate::config::address_fault;

/// List, add, promote and remove members.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List the members
    List,
    /// Add a node that was started with --join; it catches up and does not vote yet
    Add {
        /// Its node-id, which no member has; that of a node that was removed only with an empty data directory
        #[arg(value_parser = parse_id)]
        id: u64,
        /// The address that it advertises
        #[arg(value_name = "HOST:PORT", value_parser = parse_addr)]
        member_addr: String,
    },
    /// Let a caught-up member vote
    Promote {
        #[arg(value_parser = parse_id)]
        id: u64,
        /// Go on although the voters that answer now would be no majority afterwards: until more are back, nothing can be written
        #[arg(long)]
        force: bool,
    },
    /// Remove a member; its node-id may be added again only with an empty data directory
    Remove {
        #[arg(value_parser = parse_id)]
        id: u64,
        /// Go on although the voters that answer now would be no majority afterwards: until more are back, nothing can be written
        #[arg(long)]
        force: bool,
    },
}

/// Hand leadership to another voter, without a failed request.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// The member that is to lead [default: the voter that is best caught up]
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    to: Option<u64>,
}

pub(crate) fn parse_id(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| "a node-id is a whole number from 1".to_owned())
}

fn parse_addr(text: &str) -> Result<String, String> {
    address_fault(text).map_or_else(|| Ok(text.to_owned()), Err)
}

pub(crate) async fn run(command: MemberCommand, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let admin = global.connect().await?.admin();
    let topology = match command {
        MemberCommand::List => Topology {
            primary_id: status::leader(&admin).await.unwrap_or(0),
            ..admin.list_members().await?
        },
        MemberCommand::Add { id, member_addr } => admin.add_member(id, member_addr).await?,
        MemberCommand::Promote { id, force: false } => admin.promote_member(id).await?,
        MemberCommand::Promote { id, force: true } => admin.force_promote_member(id).await?,
        MemberCommand::Remove { id, force: false } => admin.remove_member(id).await?,
        MemberCommand::Remove { id, force: true } => admin.force_remove_member(id).await?,
    };
    if global.json {
        print_json(&topology_json(&topology))?
    } else {
        print(&topology_text(&topology))?
    }
    Ok(Outcome::Good)
}

pub(crate) async fn transfer(args: TransferArgs, global: &GlobalArgs) -> Result<Outcome, CliError> {
    let primary = global
        .connect()
        .await?
        .admin()
        .transfer_leadership(args.to)
        .await?;
    let missed = args.to.filter(|wanted| *wanted != primary);
    if global.json {
        print_json(&json!({ "primary_id": primary }))?
    } else {
        match missed {
            Some(wanted) => print(&format!(
                "node {primary} leads, not node {wanted}, which did not take over in time: try again once it is in step (see `halite status`)\n"
            ))?,
            None => print(&format!("node {primary} leads\n"))?,
        }
    }
    Ok(match missed {
        Some(_) => Outcome::Bad,
        None => Outcome::Good,
    })
}

fn topology_json(topology: &Topology) -> serde_json::Value {
    let members = topology.members.iter().map(|member| {
        json!({
            "id": member.node_id,
            "addr": member.addr,
            "voter": member.voter,
            "primary": member.node_id == topology.primary_id,
        })
    });
    json!({
        "cluster_id": topology.cluster_id,
        "term": topology.term,
        "primary_id": (topology.primary_id > 0).then_some(topology.primary_id),
        "members": members.collect::<Vec<_>>(),
    })
}

fn topology_text(topology: &Topology) -> String {
    let mut table = TextTable::new([
        ("id", Align::Right),
        ("addr", Align::Left),
        ("role", Align::Left),
    ]);
    for member in &topology.members {
        let role = match (member.node_id == topology.primary_id, member.voter) {
            (true, _) => "primary",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        table.row([
            member.node_id.to_string(),
            member.addr.clone(),
            role.to_owned(),
        ]);
    }
    table.plain()
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_client::MemberInfo;

    #[test]
    fn members_are_shown_with_their_role() {
        let member = |node_id, voter| MemberInfo {
            node_id,
            addr: format!("db{node_id}:7420"),
            voter,
        };
        let topology = Topology {
            term: 3,
            primary_id: 2,
            members: vec![member(1, true), member(2, true), member(10, false)],
            cluster_id: "c".to_owned(),
            ..Topology::default()
        };
        let want = "id  addr       role\n 1  db1:7420   voter\n 2  db2:7420   primary\n10  db10:7420  learner\n";
        assert_eq!(topology_text(&topology), want);
        let json = topology_json(&topology);
        assert_eq!(json["primary_id"], 2);
        assert_eq!(json["members"][1]["primary"], true);
        let headless = topology_json(&Topology {
            primary_id: 0,
            ..topology
        });
        assert!(headless["primary_id"].is_null());
    }
}
