//! The state of a cluster for people: one table of nodes, one of databases.

use std::time::Duration;

use super::report::{ClusterReport, CopyReport, CopyState, DatabaseReport, NodeReport, NodeState};
use crate::cli::text_table::{Align, TextTable, printable};

pub(super) fn text(report: &ClusterReport) -> String {
    let mut out = format!("{}\n\n{}", headline(report), nodes(report));
    for node in &report.nodes {
        match &node.state {
            NodeState::Unreachable { error } => {
                out.push_str(&format!("{}: {}\n", node.addr, printable(error)));
            }
            NodeState::Stranger { cluster_id } => out.push_str(&format!(
                "{}: belongs to another cluster, nothing it says counts: cluster_id={}\n",
                node.addr,
                printable(cluster_id)
            )),
            NodeState::Reachable { trouble, .. } if !trouble.is_empty() => {
                out.push_str(&format!(
                    "{}: TAKES NO PART: {}\n",
                    node.addr,
                    printable(trouble)
                ));
            }
            NodeState::Reachable { .. } => {}
        }
    }
    if !report.databases.is_empty() {
        out.push('\n');
        out.push_str(&databases(report));
    }
    out
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
    let health = if report.healthy {
        "takes writes".to_owned()
    } else if report.primary_id.is_some() && up * 2 > all {
        format!("CANNOT WRITE TO {}", stuck.join(", "))
    } else {
        "CANNOT TAKE WRITES".to_owned()
    };
    format!(
        "{}: {health}, {lead}, {up} of {all} voters answer, term {}",
        printable(name),
        report.term
    )
}

fn nodes(report: &ClusterReport) -> String {
    let mut table = TextTable::new([
        ("node", Align::Right),
        ("addr", Align::Left),
        ("role", Align::Left),
        ("term", Align::Right),
        ("log", Align::Right),
        ("committed", Align::Right),
        ("applied", Align::Right),
        ("lag", Align::Right),
        ("up", Align::Right),
        ("version", Align::Left),
    ]);
    report
        .nodes
        .iter()
        .for_each(|node| table.row(node_cells(node)));
    table.plain()
}

fn node_cells(node: &NodeReport) -> Vec<String> {
    let id = node.id.map_or_else(|| "?".to_owned(), |id| id.to_string());
    match &node.state {
        NodeState::Unreachable { .. } => vec![id, node.addr.clone(), "unreachable".to_owned()],
        NodeState::Stranger { .. } => vec![id, node.addr.clone(), "stranger".to_owned()],
        NodeState::Reachable {
            role,
            term,
            last_log_index,
            committed_index,
            applied_index,
            lag_ms,
            uptime_ms,
            version,
            trouble: _,
        } => {
            let [term, log, committed, applied] =
                [term, last_log_index, committed_index, applied_index]
                    .map(|number| number.to_string());
            let (lag, up) = (
                lag_ms.map_or_else(|| "-".to_owned(), short_time),
                short_time(*uptime_ms),
            );
            vec![
                id,
                node.addr.clone(),
                (*role).to_owned(),
                term,
                log,
                committed,
                applied,
                lag,
                up,
                version.clone(),
            ]
        }
    }
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
        ("pages", Align::Right),
        ("page size", Align::Right),
        ("copies", Align::Left),
        ("archive", Align::Left),
    ]);
    for db in &report.databases {
        let [pages, page_size] = [db.pages, db.page_size].map(|number| number.to_string());
        table.row([
            &db.name,
            &db.txid,
            &db.checksum,
            &pages,
            &page_size,
            &copies(db),
            &archive(db),
        ]);
    }
    table.plain()
}

/// `in step`, or who is not.
fn copies(db: &DatabaseReport) -> String {
    let odd: Vec<String> = db.copies.iter().filter_map(odd_copy).collect();
    if odd.is_empty() {
        "in step".to_owned()
    } else {
        odd.join(", ")
    }
}

fn odd_copy(copy: &CopyReport) -> Option<String> {
    let state = match &copy.copy {
        CopyState::InStep => return None,
        CopyState::Behind { transactions } => format!("{transactions} behind"),
        CopyState::Differs => "DIFFERS".to_owned(),
        CopyState::Missing => "missing".to_owned(),
        CopyState::Trouble { message } => message.clone(),
        CopyState::Unreachable => "unreachable".to_owned(),
    };
    Some(format!("node {} {state}", copy.node_id))
}

fn archive(db: &DatabaseReport) -> String {
    match db.archive_behind {
        None => "none".to_owned(),
        Some(0) => "in step".to_owned(),
        Some(behind) => format!("{behind} behind"),
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
