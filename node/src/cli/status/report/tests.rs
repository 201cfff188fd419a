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
        ..Topology::default()
    }
}

fn addr(node_id: u64) -> String {
    format!("db{node_id}:7420")
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
    assert!(report.takes_writes);
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
fn one_lost_voter_of_three_is_shown_and_writes_are_taken() {
    let mut cluster = healthy_cluster();
    cluster[0] = silence(1);
    let report = ClusterReport::of(cluster);
    assert!(report.takes_writes && !report.healthy);
    assert_eq!(report.voters_reachable, 2);
    assert!(!report.nodes[0].is_reachable());
    assert_eq!(copy(&report, "app", 1), CopyState::Unreachable);
}

#[test]
fn without_a_primary_or_a_majority_no_writes_are_taken() {
    let mut cluster = healthy_cluster();
    cluster[1] = silence(2);
    assert!(
        !ClusterReport::of(cluster).takes_writes,
        "the primary is lost"
    );
    let mut cluster = healthy_cluster();
    cluster[0] = silence(1);
    cluster[2] = silence(3);
    let report = ClusterReport::of(cluster);
    assert!(!report.takes_writes, "a learner does not make a majority");
    assert!(!ClusterReport::of(vec![silence(1)]).takes_writes);
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
    assert!(report.takes_writes);
    let trouble = CopyState::Trouble { message };
    assert_eq!(copy(&report, "app", 1), trouble);

    let mut cluster = healthy_cluster();
    cluster[1] = troubled(2, Role::Primary);
    let report = ClusterReport::of(cluster);
    assert!(!report.takes_writes);
    assert_eq!(copy(&report, "app", 2), trouble);
    // Others are compared with a sound copy.
    assert_eq!(copy(&report, "app", 1), CopyState::InStep);
    let text = shown(&report);
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
    again.0 = "localhost:7420".to_owned();
    cluster.push(again);
    assert_eq!(ClusterReport::of(cluster).nodes.len(), 4);
}

#[test]
fn a_copy_of_a_node_stands_beside_it_and_hides_nobody() {
    for place in [0, 4] {
        let mut cluster = healthy_cluster();
        let (_, answer) = told(2, Role::Stopped, vec![]);
        let mut answer = answer.unwrap();
        answer.node.as_mut().unwrap().trouble = "this process runs on a copy".to_owned();
        cluster.insert(place, ("elsewhere:7420".to_owned(), Ok(answer)));
        let report = ClusterReport::of(cluster);
        assert!(report.takes_writes);
        assert_eq!(report.primary_id, Some(2));
        assert_eq!(report.voters_reachable, 3);
        let beside: Vec<_> = report.nodes.iter().filter(|n| !n.takes_part()).collect();
        assert_eq!(beside.len(), 1);
        assert_eq!(
            (beside[0].addr.as_str(), beside[0].voter),
            ("elsewhere:7420", false)
        );
        assert_eq!(copy(&report, "app", 2), CopyState::InStep);
    }
}

#[test]
fn what_is_wrong_around_a_database_is_told_and_it_takes_writes() {
    let app = DatabaseStatus {
        notice: "app.db was removed".to_owned(),
        ..db("app", 9, "bb")
    };
    let mut cluster = healthy_cluster();
    cluster[1] = told(2, Role::Primary, vec![app, db("users", 7, "cc")]);
    let report = ClusterReport::of(cluster);
    assert!(report.takes_writes);
    let message = "app.db was removed".to_owned();
    assert_eq!(copy(&report, "app", 2), CopyState::Trouble { message });
}

/// What is shown where there are no colours.
fn shown(report: &ClusterReport) -> String {
    anstream::adapter::strip_str(&view::text(report)).to_string()
}

#[test]
fn the_view_shows_nodes_and_databases() {
    let mut cluster = healthy_cluster();
    cluster[0] = silence(1);
    let text = shown(&ClusterReport::of(cluster));
    let want = "\
halite: takes writes, node 2 leads, 2 of 3 voters answer, term 4, level 1

node  addr      role         applied  behind   lag    up
   1  db1:7420  unreachable
   2  db2:7420  primary           19       1  12ms  1m1s
   3  db3:7420  follower          19       1  12ms  1m1s
   4  db4:7420  learner           19       1  12ms  1m1s
db1:7420: address is not host:port: addr=no port

database  txid              checksum      size  archive   copies
app       000000000000000a  aa        12.0 KiB  2 behind  2/4 in step
users     0000000000000007  cc        12.0 KiB  none      2/4 in step
app: node 3 DIFFERS
users: node 4 missing

version 0.1.0
applied: entries of the log carried out; behind: committed ones still to come;
lag: time since none were. An archive is behind by transactions.
";
    assert_eq!(text, want);
}

#[test]
fn names_that_were_given_and_versions_that_differ_are_shown() {
    let mut cluster = healthy_cluster();
    for (at, name) in [(0, "node-1"), (1, "berlin")] {
        let node = cluster[at].1.as_mut().unwrap().node.as_mut().unwrap();
        node.name = name.to_owned();
    }
    let node = cluster[2].1.as_mut().unwrap().node.as_mut().unwrap();
    (node.version, node.term) = ("0.2.0".to_owned(), 5);
    let text = shown(&ClusterReport::of(cluster));
    for line in [
        "node  name    addr      role      applied  behind   lag    up  version\n",
        "   1          db1:7420  follower       19       1  12ms  1m1s  0.1.0\n",
        "   2  berlin  db2:7420  primary        19       1  12ms  1m1s  0.1.0\n",
        "db3:7420: is in term 5\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_cluster_of_usual_size_fits_a_terminal_of_80_columns() {
    let mut cluster = healthy_cluster();
    for (addr, told) in &mut cluster {
        let node = told.as_mut().unwrap().node.as_mut().unwrap();
        (node.applied_index, node.committed_index) = (87_654_321, 87_654_321);
        (node.lag_ms, node.uptime_ms) = (3_599_000, 90_000_000);
        node.addr = format!("192.168.100.10{}:7420", node.node_id);
        node.name = format!("db{}", node.node_id);
        addr.clone_from(&node.addr);
        for db in &mut node.databases {
            db.checksum = "0123456789abcdef".to_owned();
            db.page_count = 250_000;
        }
    }
    let text = shown(&ClusterReport::of(cluster));
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}

#[test]
fn what_is_wrong_stands_out() {
    let mut cluster = healthy_cluster();
    cluster[0] = silence(1);
    let text = view::text(&ClusterReport::of(cluster));
    let red = crate::cli::output::WRONG;
    assert!(
        text.contains(&format!("{red}unreachable{red:#}")),
        "{text:?}"
    );
}

#[test]
fn only_a_cluster_that_lacks_nothing_is_healthy() {
    let healthy = |node: usize, change: &dyn Fn(&mut NodeStatus)| {
        let role = |id| match id {
            2 => Role::Primary,
            4 => Role::Learner,
            _ => Role::Follower,
        };
        let nodes = (1..=4).map(|id| told(id, role(id), vec![db("app", 10, "aa")]));
        let mut nodes: Vec<_> = nodes.collect();
        let response = nodes[node].1.as_mut().unwrap();
        change(response.node.as_mut().unwrap());
        let report = ClusterReport::of(nodes);
        assert!(report.takes_writes);
        report.healthy
    };
    assert!(healthy(0, &|_| {}));
    assert!(
        healthy(0, &|node| node.databases[0].txid = 9),
        "it comes up"
    );
    assert!(!healthy(0, &|node| node.databases[0].checksum = "bb".into()));
    assert!(!healthy(3, &|node| node.databases.clear()));
    assert!(!healthy(2, &|node| node.databases[0].trouble = "disk".into()));
    assert!(!healthy(2, &|node| node.notice = "look here".into()));
    assert!(!healthy(1, &|node| node.databases[0].archive_trouble = "gone".into()));
    let mut nodes = healthy_cluster();
    nodes[3] = silence(4);
    assert!(!ClusterReport::of(nodes).healthy);
}

#[test]
fn the_report_is_json_for_programs() {
    let mut cluster = healthy_cluster();
    cluster[3] = silence(4);
    let json = serde_json::to_value(ClusterReport::of(cluster)).unwrap();
    assert_eq!(json["takes_writes"], true);
    assert_eq!(json["healthy"], false);
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
    let text = shown(&report);
    assert!(
        text.contains("stranger")
            && text.contains("2 of 3 voters answer")
            && text.contains("db3:7420: belongs to another cluster")
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
    let text = shown(&report);
    assert!(
        text.contains("stopped")
            && text.contains("db1:7420: TAKES NO PART: never roll a node back"),
        "{text}"
    );
}

#[test]
fn a_voter_that_acknowledges_nothing_counts_as_silent() {
    for (change, says) in [
        (
            (|node| node.log_hangs = true) as fn(&mut NodeStatus),
            "ACKNOWLEDGES NOTHING",
        ),
        (
            |node| node.role = Role::Joining.into(),
            "halite member remove 1",
        ),
    ] {
        let mut all = healthy_cluster();
        change(all[0].1.as_mut().unwrap().node.as_mut().unwrap());
        let report = ClusterReport::of(all);
        assert_eq!((report.voters, report.voters_reachable), (3, 2));
        assert!(!report.healthy && report.takes_writes);
        let text = shown(&report);
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn what_the_primary_has_dropped_is_no_database_any_more() {
    let mut all = healthy_cluster();
    let node = all[0].1.as_mut().unwrap().node.as_mut().unwrap();
    node.databases.push(db("dropped", 3, "dd"));
    let report = ClusterReport::of(all);
    let names: Vec<&str> = report.databases.iter().map(|db| &*db.name).collect();
    assert_eq!(names, ["app", "users"]);
}

#[test]
fn a_way_out_is_named_only_if_every_member_says_that_its_copy_needs_repair() {
    let copy = |trouble: &str, needs_repair| DatabaseStatus {
        trouble: trouble.to_owned(),
        needs_repair,
        ..db("app", 9, "aa")
    };
    let broken = || vec![copy("x", true)];
    let node = |id, role, databases: Vec<DatabaseStatus>| told(id, role, databases);
    let way_out = |fourth: Told| {
        let report = ClusterReport::of(vec![
            node(1, Role::Follower, broken()),
            node(2, Role::Primary, broken()),
            node(3, Role::Follower, broken()),
            fourth,
        ]);
        assert!(!report.takes_writes);
        let text = view::text(&report);
        assert!(text.contains("CANNOT WRITE TO app"), "{text}");
        text.contains("halite db repair app --keep-log") && text.contains("--keep-file")
    };
    assert!(way_out(node(4, Role::Learner, broken())));
    assert!(!way_out(node(4, Role::Learner, vec![copy("", false)])));
    assert!(!way_out(node(
        4,
        Role::Learner,
        vec![copy("the disk is full", false)]
    )));
    assert!(!way_out(node(4, Role::Learner, vec![])));
    assert!(!way_out(silence(4)));
}
