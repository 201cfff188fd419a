//! A whole node meets entries that a newer build wrote.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use halite_log::Payload;
use halite_proto::v1;
use halite_proto::v1::command::Kind;

use super::{Level, Levels, Unfit};
use crate::cluster::role::Role;
use crate::cluster::{
    Cluster, ClusterOptions, FirstMember, PurgeRules, StartError, Stopped, TcpConnector, command,
    formation,
};
use crate::database::DatabaseOptions;

const PATIENCE: Duration = Duration::from_secs(60);

fn options(dir: &Path) -> ClusterOptions {
    let addr = "127.0.0.1:1".to_owned();
    ClusterOptions {
        node_id: 1,
        node_name: "one".to_owned(),
        cluster_name: "alone".to_owned(),
        addr: addr.clone(),
        data_dir: dir.to_owned(),
        initial_members: vec![FirstMember { id: 1, addr }],
        election_timeout: Duration::from_millis(400),
        heartbeat_interval: Duration::from_millis(50),
        log_cache_bytes: 1 << 20,
        unsynced_bytes_max: 1 << 20,
        database: DatabaseOptions::default(),
        databases: vec![("app".to_owned(), 4096)],
        capacity: None,
        archived: false,
        purge: PurgeRules::default(),
        log_disk: None,
        levels: Levels::OURS,
        connector: Arc::new(TcpConnector),
    }
}

/// A node that leads its cluster of one and has the database; its id.
async fn node(dir: &Path) -> (Arc<Cluster>, u64) {
    let options = options(dir);
    let cluster = Cluster::start(options.clone()).await.expect("starts");
    formation::form(&cluster, &options.initial_members)
        .await
        .expect("forms");
    let leads = |role: &Role| matches!(role, Role::Primary { .. });
    cluster.watch_role().wait_for(leads).await.expect("leads");
    loop {
        let found = cluster.shared().catalog.lock().by_name("app").map(|d| d.id);
        if let Some(id) = found {
            return (cluster, id);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn expect_too_old(cluster: &Cluster) {
    let stopped = tokio::time::timeout(PATIENCE, cluster.stopped()).await;
    let unfit = matches!(&stopped, Ok(Stopped::Unfit(Unfit::TooOld(_))));
    assert!(unfit, "{stopped:?}");
}

async fn meets(newer: impl FnOnce(u64) -> Payload) {
    let dir = tempfile::tempdir().expect("directory");
    let (cluster, app) = tokio::time::timeout(PATIENCE, node(dir.path()))
        .await
        .expect("a node that leads");
    let raft = cluster.raft().clone();
    let entry = newer(app);
    // The answer never comes: what cannot be applied has none.
    let write = tokio::spawn(async move { raft.client_write(entry).await.is_ok() });
    expect_too_old(&cluster).await;
    let answered = tokio::time::timeout(PATIENCE, write).await;
    assert!(
        matches!(answered, Ok(Ok(false))),
        "answered as if it were applied: {answered:?}"
    );
    let known = cluster.shared().catalog.lock().database(app).is_some();
    assert!(
        known,
        "a drop was applied that this build cannot know all of"
    );
    cluster.shutdown().await;
    drop(cluster);

    match Cluster::start(options(dir.path())).await {
        Err(StartError::Unfit { .. }) => {}
        Err(other) => panic!("{other}"),
        // The commit was not noted on disk: the node finds out when it leads again.
        Ok(again) => {
            expect_too_old(&again).await;
            again.shutdown().await;
        }
    }
    assert!(dir.path().join("db/app.db").is_file());
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test);
}

#[test]
fn entry_of_a_higher_level_ends_the_node_before_it_is_applied() {
    run(meets(|database_id| {
        let drop = Kind::DropDatabase(v1::DropDatabaseCommand { database_id });
        command::encode(Level::new(99), drop).expect("fits")
    }));
}

#[test]
fn unknown_kind_of_entry_ends_the_node_before_it_is_applied() {
    // Field 5000, a number: a command that nobody has.
    run(meets(|_| {
        Payload(Bytes::from_static(&[0xc0, 0xb8, 0x02, 1]))
    }));
}

#[test]
fn raise_that_this_build_cannot_follow_ends_the_node_before_it_is_applied() {
    run(meets(|_| {
        let raise = Kind::RaiseLevel(v1::RaiseLevelCommand { level: 99 });
        command::encode(Level::FIRST, raise).expect("fits")
    }));
}
