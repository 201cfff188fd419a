//! The state of a cluster for people: one table of nodes, one of databases.

use std::time::Duration;

use anstyle::Style;

use super::report::{
    ClusterReport, CopyReport, CopyState, DatabaseReport, JOINING, NodeReport, NodeState,
};
use crate::archiver::place;
use crate::cli::output::{ASIDE, DOUBTFUL, WRONG, human_bytes, styled};
use crate::cli::text_table::{Align, TextTable, printable};

/// What the columns mean, in their units.
const LEGEND: &str = "\
applied: entries of the log carried out; behind: committed ones still to come;
lag: time since none were. An archive is behind by transactions.
";

/// Fits 80 columns as long as names and addresses are short. With styles.
pub(super) fn text(report: &ClusterReport) -> String {
    let mut out = format!("{}\n\n{}", headline(report), nodes(report));
    for node in &report.nodes {
        if let Some((style, told)) = told_of(node, report.term) {
            out.push_str(&format!(
                "{}\n",
                styled(style, &format!("{}: {told}", node.addr))
            ));
        }
    }
    if !report.databases.is_empty() {
        out.push('\n');
        out.push_str(&databases(report));
        for db in &report.databases {
            // A node that does not answer has been told of.
            let silent = |copy: &&CopyReport| copy.copy == CopyState::Unreachable;
            let told = db.copies.iter().filter(|copy| !silent(copy));
            for (style, told) in told.filter_map(odd_copy) {
                let line = format!("{}: {told}", printable(&db.name));
                out.push_str(&format!("{}\n", styled(style, &line)));
            }
            if !db.archive_trouble.is_empty() {
                let (name, why) = (printable(&db.name), printable(&db.archive_trouble));
                let line = format!("{name}: NOT ARCHIVED: {why}");
                out.push_str(&format!("{}\n", styled(WRONG, &line)));
            }
        }
    }
    for db in report.databases.iter().filter(|db| db.no_sound_copy) {
        let name = printable(&db.name);
        out.push_str(&format!(
            "{name}: no node is left to repair it from. Say what counts, the other version is kept in a file:\n    \
             halite db repair {name} --keep-log     # what was committed; not what was written into the file while its node was stopped\n    \
             halite db repair {name} --keep-file    # what is in the file; not what was committed and is not in it\n"
        ));
    }
    out.push('\n');
    let version = version_of_all(report).map(|version| format!("version {version}"));
    for line in version.iter().map(String::as_str).chain(LEGEND.lines()) {
        out.push_str(&format!("{}\n", styled(ASIDE, line)));
    }
    out
}

/// What is to be said of a node beside its row.
fn told_of(node: &NodeReport, term: u64) -> Option<(Style, String)> {
    match &node.state {
        NodeState::Unreachable { error } => Some((WRONG, printable(error))),
        NodeState::Stranger { cluster_id } => Some((
            WRONG,
            format!(
                "belongs to another cluster, nothing it says counts: cluster_id={}",
                printable(cluster_id)
            ),
        )),
        NodeState::Reachable { trouble, .. } if !trouble.is_empty() => {
            Some((WRONG, format!("TAKES NO PART: {}", printable(trouble))))
        }
        NodeState::Reachable { role: JOINING, .. } if node.voter => Some((
            WRONG,
            format!(
                "DOES NOT KNOW THAT IT IS A VOTER: if it has lost its data directory, run `halite member remove {}`, then add it again",
                node.id.unwrap_or_default()
            ),
        )),
        NodeState::Reachable {
            log_hangs: true, ..
        } => Some((
            WRONG,
            "ACKNOWLEDGES NOTHING: the disk of its log does not answer".to_owned(),
        )),
        NodeState::Reachable { notice, .. } if !notice.is_empty() => {
            Some((DOUBTFUL, printable(notice)))
        }
        NodeState::Reachable { term: own, .. } if *own != term => {
            Some((DOUBTFUL, format!("is in term {own}")))
        }
        NodeState::Reachable { .. } => None,
    }
}

fn headline(report: &ClusterReport) -> String {
    let name = if report.cluster_name.is_empty() {
        "cluster"
    } else {
        &report.cluster_name
    };
    let lead = match report.primary_id {
        Some(id) => format!("node {id} leads"),
        None => "nobody leads".to_owned(),
    };
    let (up, all) = (report.voters_reachable, report.voters);
    let stuck = report.databases.iter().filter(|db| !db.takes_writes);
    let stuck: Vec<String> = stuck.map(|db| printable(&db.name)).collect();
    let health = if report.takes_writes {
        "takes writes".to_owned()
    } else if report.primary_id.is_some() && up * 2 > all {
        styled(WRONG, &format!("CANNOT WRITE TO {}", stuck.join(", ")))
    } else {
        styled(WRONG, "CANNOT TAKE WRITES")
    };
    let voters = match up == all {
        true => format!("{up} of {all} voters answer"),
        false => styled(DOUBTFUL, &format!("{up} of {all} voters answer")),
    };
    format!(
        "{}: {health}, {lead}, {voters}, term {}, level {}",
        printable(name),
        report.term,
        report.level
    )
}

/// A node's name, if it was given one.
fn given_name(node: &NodeReport) -> Option<&str> {
    match (&node.state, node.id) {
        (NodeState::Reachable { name, .. }, Some(id))
            if !name.is_empty() && *name != format!("node-{id}") =>
        {
            Some(name)
        }
        _ => None,
    }
}

fn nodes(report: &ClusterReport) -> String {
    let named = report.nodes.iter().any(|node| given_name(node).is_some());
    let mut headings = vec![
        ("node", Align::Right),
        ("name", Align::Left),
        ("addr", Align::Left),
        ("role", Align::Left),
        ("applied", Align::Right),
        ("behind", Align::Right),
        ("lag", Align::Right),
        ("up", Align::Right),
        ("version", Align::Left),
    ];
    let same_version = version_of_all(report).is_some();
    if same_version {
        headings.pop();
    }
    if !named {
        headings.remove(NAME);
    }
    let committed = report.nodes.iter().filter_map(|node| match &node.state {
        NodeState::Reachable {
            committed_index, ..
        } => Some(*committed_index),
        _ => None,
    });
    let committed = committed.max().unwrap_or(0);
    let role = headings.iter().position(|(name, _)| *name == "role");
    let mut table = TextTable::new(headings);
    for node in &report.nodes {
        let mut cells = node_cells(node, committed);
        if same_version {
            cells.truncate(VERSION);
        }
        if !named {
            cells.remove(NAME);
        }
        table.row(cells);
        if let (Some(role), false) = (role, is_well(node)) {
            table.mark(role, WRONG);
        }
    }
    table.plain()
}

/// Where a node's name and version stand.
const NAME: usize = 1;
const VERSION: usize = 8;

/// The version that all nodes have that answer, if they have the same.
fn version_of_all(report: &ClusterReport) -> Option<&str> {
    let mut versions = report.nodes.iter().filter_map(|node| match &node.state {
        NodeState::Reachable { version, .. } => Some(version.as_str()),
        _ => None,
    });
    let first = versions.next()?;
    versions.all(|version| version == first).then_some(first)
}

fn is_well(node: &NodeReport) -> bool {
    matches!(&node.state, NodeState::Reachable { trouble, .. } if trouble.is_empty())
}

fn node_cells(node: &NodeReport, committed: u64) -> Vec<String> {
    let id = node.id.map_or_else(|| "?".to_owned(), |id| id.to_string());
    let name = given_name(node).unwrap_or_default().to_owned();
    let mut cells = vec![id, name, node.addr.clone()];
    match &node.state {
        NodeState::Unreachable { .. } => cells.push("unreachable".to_owned()),
        NodeState::Stranger { .. } => cells.push("stranger".to_owned()),
        NodeState::Reachable {
            role,
            applied_index,
            lag_ms,
            uptime_ms,
            version,
            ..
        } => cells.extend([
            (*role).to_owned(),
            applied_index.to_string(),
            committed.saturating_sub(*applied_index).to_string(),
            lag_ms.map_or_else(|| "-".to_owned(), short_time),
            short_time(*uptime_ms),
            version.clone(),
        ]),
    }
    cells
}

/// Milliseconds below ten seconds, then the two largest units.
fn short_time(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    match seconds {
        0..10 => format!("{ms}ms"),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86400, seconds / 3600 % 24),
    }
}

fn databases(report: &ClusterReport) -> String {
    let mut table = TextTable::new([
        ("database", Align::Left),
        ("txid", Align::Left),
        ("checksum", Align::Left),
        ("size", Align::Right),
        ("archive", Align::Left),
        ("copies", Align::Left),
    ]);
    for db in &report.databases {
        let size = human_bytes(u64::from(db.pages) * u64::from(db.page_size));
        table.row([
            &db.name,
            &db.txid,
            &db.checksum,
            &size,
            &archive(db),
            &copies(db),
        ]);
        if let Some(style) = odd_copies(db)
            .map(|(style, _)| style)
            .max_by_key(|s| *s == WRONG)
        {
            table.mark(5, style);
        }
    }
    table.plain()
}

/// `in step`, or how many are; the others are told below.
fn copies(db: &DatabaseReport) -> String {
    let all = db.copies.len();
    match odd_copies(db).count() {
        0 => "in step".to_owned(),
        odd => format!("{}/{all} in step", all - odd),
    }
}

fn odd_copies(db: &DatabaseReport) -> impl Iterator<Item = (Style, String)> {
    db.copies.iter().filter_map(odd_copy)
}

fn odd_copy(copy: &CopyReport) -> Option<(Style, String)> {
    let (style, state) = match &copy.copy {
        CopyState::InStep => return None,
        CopyState::Behind { transactions: 1 } => (DOUBTFUL, "1 transaction behind".to_owned()),
        CopyState::Behind { transactions } => {
            (DOUBTFUL, format!("{transactions} transactions behind"))
        }
        CopyState::Differs => (WRONG, "DIFFERS".to_owned()),
        CopyState::Missing => (WRONG, "missing".to_owned()),
        CopyState::Trouble { message } => (WRONG, printable(message)),
        CopyState::Unreachable => (WRONG, "unreachable".to_owned()),
    };
    Some((style, format!("node {} {state}", copy.node_id)))
}

fn archive(db: &DatabaseReport) -> String {
    let state = match db.archive_behind {
        _ if !db.archive_trouble.is_empty() => "FAILS".to_owned(),
        None => "none".to_owned(),
        Some(0) => "in step".to_owned(),
        Some(behind) => format!("{behind} behind"),
    };
    // Where there is more than one archive of a name, it has to be said which.
    let mut places = db
        .archive_urls
        .iter()
        .filter_map(|url| url.rsplit('/').next());
    match places.find(|place| place::database_of(place) != *place) {
        Some(place) => format!("{state} at {}", printable(place)),
        None => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (ms, want) in [
            (0, "0ms"),
            (9_999, "9999ms"),
            (10_000, "10s"),
            (61_000, "1m1s"),
            (3_600_000, "1h0m"),
            (90_000_000, "1d1h"),
        ] {
            assert_eq!(short_time(ms), want);
        }
    }
}
