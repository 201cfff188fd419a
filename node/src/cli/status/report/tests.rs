use halite_client::MemberInfo;

use super::super::view;
use super::*;

fn topology() -> Topology {
    let member = |node_id, voter| MemberInfo {
        node_id,
        addr: addr(node_id),
        voter,
    };
    Topology {
        term: 4,
        primary_id: 2,
        members: vec![
            member(1, true),
            member(2, true),
            member(3, true),
            member(4, false),
        ],
        cluster_id: "c1".to_owned(),
    }
}

fn addr(node_id: u64) -> String {
    format!("db{node_id}:7000")
}

fn db(name: &str, txid: u64, checksum: &str) -> DatabaseStatus {
    DatabaseStatus {
        name: name.to_owned(),
        txid,
        checksum: checksum.to_owned(),
        page_size: 4096,
        page_count: 3,
        archived_txid: if name == "app" { 8 } else { 0 },
        ..DatabaseStatus::default()
    }
}

fn told(node_id: u64, role: Role, databases: Vec<DatabaseStatus>) -> Told {
    let node = NodeStatus {
        node_id,
        addr: addr(node_id),
        role: role.into(),
        term: 4,
        last_log_index: 20,
        committed_index: 20,
        applied_index: 19,
        lag_ms: 12,
        databases,
        version: "0.1.0".to_owned(),
        cluster_name: "halite".to_owned(),
        uptime_ms: 61_000,
        ..NodeStatus::default()
    };
    (
        addr(node_id),
        Ok(StatusResponse {
            node: Some(node),
            topology: Some(topology()),
        }),
    )
}

/// The client's own error for a node that is not there: its constructor is private, so one is made as an application gets it.
fn silence(node_id: u64) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime
        .block_on(halite_client::Client::connect(["no port"]))
        .unwrap_err();
    (addr(node_id), Err(error))
}

fn healthy_cluster() -> Vec<Told> {
    vec![
        told(
            1,
            Role::Follower,
            vec![db("app", 10, "aa"), db("users", 5, "bb")],
        ),
        told(
            2,
            Role::Primary,
            vec![db("app", 10, "aa"), db("users", 7, "cc")],
        ),
        told(
            3,
            Role::Follower,
            vec![db("app", 10, "ab"), db("users", 7, "cc")],
        ),
        told(4, Role::Learner, vec![db("app", 10, "aa")]),
    ]
}

fn copy(report: &ClusterReport, database: &str, node_id: u64) -> CopyState {
    let db = report
        .databases
        .iter()
        .find(|db| db.name == database)
        .unwrap();
    db.copies
        .iter()
        .find(|copy| copy.node_id == node_id)
        .unwrap()
        .copy
        .clone()
}

#[test]
fn copies_are_compared_with_the_primary() {
    let report = ClusterReport::of(healthy_cluster());
    assert!(report.healthy);
    assert_eq!(
        (report.primary_id, report.voters, report.voters_reachable),
        (Some(2), 3, 3)
    );
    assert_eq!(copy(&report, "app", 1), CopyState::InStep);
    assert_eq!(copy(&report, "app", 3), CopyState::Differs);
    assert_eq!(
        copy(&report, "users", 1),
        CopyState::Behind { transactions: 2 }
    );
    assert_eq!(copy(&report, "users", 4), CopyState::Missing);
    assert_eq!(report.databases[0].archive_behind, Some(2));
    assert_eq!(report.databases[1].archived_txid, None);
}

#[test]
fn a_copy_that_is_a_moment_ahead_is_in_step() {
    let mut cluster = healthy_cluster();
    cluster[0] = told(1, Role::Follower, vec![db("app", 11, "zz")]);
    assert_eq!(
        copy(&ClusterReport::of(cluster), "app", 1),
        CopyState::InStep
    );
}

#[test]
fn one_lost_voter_of_three_is_shown_and_leaves_the_cluster_healthy() {
    let mut cluster = healthy_cluster();
    cluster[0] = silence(1);
    let report = ClusterReport::of(cluster);
    assert!(report.healthy);
    assert_eq!(report.voters_reachable, 2);
    assert!(!report.nodes[0].is_reachable());
    assert_eq!(copy(&report, "app", 1), CopyState::Unreachable);
}

#[test]
fn without_a_primary_or_a_majority_it_is_not_healthy() {
    let mut cluster = healthy_cluster();
    cluster[1] = silence(2);
    assert!(!ClusterReport::of(cluster).healthy, "the primary is lost");
    let mut cluster = healthy_cluster();
    cluster[0] = silence(1);
    cluster[2] = silence(3);
    let report = ClusterReport::of(cluster);
    assert!(!report.healthy, "a learner does not make a majority");
    assert!(!ClusterReport::of(vec![silence(1)]).healthy);
}

#[test]
fn a_copy_in_trouble_is_told_and_matters_on_the_primary_alone() {
    let troubled = |node_id, role| {
        let app = DatabaseStatus {
            trouble: "cannot be opened: locked".to_owned(),
            ..db("app", 0, "")
        };
        told(node_id, role, vec![app, db("users", 7, "cc")])
    };
    let message = "cannot be opened: locked".to_owned();
    let mut cluster = healthy_cluster();
    cluster[0] = troubled(1, Role::Follower);
    let report = ClusterReport::of(cluster);
    assert!(report.healthy);
    let trouble = CopyState::Trouble { message };
    assert_eq!(copy(&report, "app", 1), trouble);

    let mut cluster = healthy_cluster();
    cluster[1] = troubled(2, Role::Primary);
    let report = ClusterReport::of(cluster);
    assert!(!report.healthy);
    assert_eq!(copy(&report, "app", 2), trouble);
    // Others are compared with a sound copy.
    assert_eq!(copy(&report, "app", 1), CopyState::InStep);
    let text = view::text(&report);
    assert!(text.contains("CANNOT WRITE TO app"), "{text}");
    assert!(text.contains("node 2 cannot be opened: locked"), "{text}");
}

#[test]
fn a_member_that_nobody_asked_is_still_shown() {
    let mut cluster = healthy_cluster();
    drop(cluster.remove(0));
    let report = ClusterReport::of(cluster);
    let ids: Vec<_> = report.nodes.iter().map(|node| node.id).collect();
    assert_eq!(ids, [Some(1), Some(2), Some(3), Some(4)]);
}

#[test]
fn a_node_asked_under_two_addresses_is_one() {
    let mut cluster = healthy_cluster();
    let mut again = told(1, Role::Follower, vec![]);
    again.0 = "localhost:7000".to_owned();
    cluster.push(again);
    assert_eq!(ClusterReport::of(cluster).nodes.len(), 4);
}

#[test]
fn the_view_shows_nodes_and_databases() {
    let mut cluster = healthy_cluster();
    cluster[0] = silence(1);
    let text = view::text(&ClusterReport::of(cluster));
    let want = "\
halite: takes writes, node 2 leads, 2 of 3 voters answer, term 4

node  addr      role         term  log  committed  applied   lag    up  version
   1  db1:7000  unreachable
   2  db2:7000  primary         4   20         20       19  12ms  1m1s  0.1.0
   3  db3:7000  follower        4   20         20       19  12ms  1m1s  0.1.0
   4  db4:7000  learner         4   20         20       19  12ms  1m1s  0.1.0
db1:7000: address is not host:port: addr=no port

database  txid              checksum  pages  page size  copies                              archive
app       000000000000000a  aa            3       4096  node 1 unreachable, node 3 DIFFERS  2 behind
users     0000000000000007  cc            3       4096  node 1 unreachable, node 4 missing  none
";
    assert_eq!(text, want);
}

#[test]
fn the_report_is_json_for_programs() {
    let mut cluster = healthy_cluster();
    cluster[3] = silence(4);
    let json = serde_json::to_value(ClusterReport::of(cluster)).unwrap();
    assert_eq!(json["healthy"], true);
    assert_eq!(json["nodes"][1]["role"], "primary");
    assert_eq!(json["nodes"][3]["state"], "unreachable");
    assert_eq!(json["databases"][1]["copies"][0]["transactions"], 2);
}

#[test]
fn a_node_of_another_cluster_is_a_stranger_and_no_voter() {
    let mut all = healthy_cluster();
    for (_, told) in &mut all {
        let node = told.as_mut().unwrap().node.as_mut().unwrap();
        node.cluster_id = "c1".to_owned();
    }
    // Left over from an older cluster whose term was higher, at node 3's address, under node 3's id.
    let status = all[2].1.as_mut().unwrap();
    let node = status.node.as_mut().unwrap();
    (node.cluster_id, node.term) = ("older".to_owned(), 99);
    status.topology = Some(Topology {
        term: 99,
        primary_id: 0,
        cluster_id: "older".to_owned(),
        ..topology()
    });
    let report = ClusterReport::of(all);
    assert_eq!(
        (&*report.cluster_id, report.term, report.primary_id),
        ("c1", 4, Some(2))
    );
    assert_eq!((report.voters, report.voters_reachable), (3, 2));
    assert_eq!(copy(&report, "app", 3), CopyState::Unreachable);
    let text = view::text(&report);
    assert!(
        text.contains("stranger")
            && text.contains("2 of 3 voters answer")
            && text.contains("db3:7000: belongs to another cluster")
            && text.contains("cluster_id=older"),
        "{text}"
    );
}

#[test]
fn a_node_that_takes_no_part_answers_as_no_voter_and_says_why() {
    let mut all = healthy_cluster();
    let node = all[0].1.as_mut().unwrap().node.as_mut().unwrap();
    node.role = Role::Stopped.into();
    node.trouble = "never roll a node back".to_owned();
    let report = ClusterReport::of(all);
    assert_eq!((report.voters, report.voters_reachable), (3, 2));
    let text = view::text(&report);
    assert!(
        text.contains("stopped")
            && text.contains("db1:7000: TAKES NO PART: never roll a node back"),
        "{text}"
    );
}
