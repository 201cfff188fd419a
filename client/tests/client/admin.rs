//! Operations on the cluster.

use halite_client::{ErrorKind, ReadLevel};
use halite_proto::v1::{Error, ErrorCode};

use crate::connect;
use crate::fake_node::{cluster, error};

fn cut() -> Option<Error> {
    Some(Error {
        code: ErrorCode::Unspecified.into(),
        ..Error::default()
    })
}

#[tokio::test]
async fn databases_and_members_are_managed_through_the_primary() {
    let nodes = cluster(2).await;
    let admin = connect(&nodes).await.admin();
    assert!(admin.create_database("app", 0, true).await.unwrap());
    assert_eq!(admin.list_databases().await.unwrap()[0].name, "app");
    assert!(admin.drop_database("app", false).await.unwrap());
    assert_eq!(admin.list_members().await.unwrap().members.len(), 2);
    admin.add_member(3, "127.0.0.1:1").await.unwrap();
    admin.promote_member(3).await.unwrap();
    admin.remove_member(3).await.unwrap();
    assert_eq!(admin.transfer_leadership(Some(2)).await.unwrap(), 2);
    assert_eq!(admin.upgrade_status().await.unwrap().level, 1);
    assert_eq!(admin.finalize_upgrade().await.unwrap().level, 2);
    let done = nodes[0].inner.record.borrow().admin.clone();
    assert_eq!(
        done,
        [
            "create app",
            "list databases",
            "drop app",
            "list members",
            "add 3",
            "promote 3",
            "remove 3",
            "transfer 2",
            "upgrade finalize=false",
            "upgrade finalize=true"
        ]
    );
}

#[tokio::test]
async fn a_voter_that_does_not_take_over_is_told_again() {
    let nodes = cluster(2).await;
    let admin = connect(&nodes).await.admin();
    *nodes[0].inner.elected.lock().unwrap() = vec![7, 7];
    assert_eq!(admin.transfer_leadership(Some(2)).await.unwrap(), 2);
    *nodes[0].inner.elected.lock().unwrap() = vec![8, 7, 7, 7];
    assert_eq!(admin.transfer_leadership(Some(2)).await.unwrap(), 7);
    // Whoever it is was asked for.
    assert_eq!(admin.transfer_leadership(None).await.unwrap(), 8);
    let told = nodes[0].inner.record.borrow().admin.clone();
    assert_eq!(told[..6], ["transfer 2"; 6]);
    assert_eq!(told[6..], ["transfer 0"]);
}

#[tokio::test]
async fn a_refused_operation_is_tried_elsewhere() {
    let nodes = cluster(2).await;
    *nodes[0].inner.admin_error.lock().unwrap() = Some(error(ErrorCode::NotPrimary));
    let admin = connect(&nodes).await.admin();
    admin.create_database("app", 0, false).await.unwrap();
    assert_eq!(nodes[1].inner.record.borrow().admin, ["create app"]);
}

#[tokio::test]
async fn an_operation_that_must_not_be_repeated_is_unknown_when_lost() {
    let nodes = cluster(2).await;
    *nodes[0].inner.admin_error.lock().unwrap() = cut();
    let admin = connect(&nodes).await.admin();
    let lost = admin.create_database("app", 0, false).await.unwrap_err();
    assert_eq!(lost.kind(), &ErrorKind::OutcomeUnknown);
    assert!(nodes[1].inner.record.borrow().admin.is_empty());
}

#[tokio::test]
async fn an_operation_that_may_be_repeated_is() {
    let nodes = cluster(2).await;
    *nodes[0].inner.admin_error.lock().unwrap() = cut();
    let admin = connect(&nodes).await.admin();
    admin.create_database("app", 0, true).await.unwrap();
    assert_eq!(nodes[1].inner.record.borrow().admin, ["create app"]);
}

#[tokio::test]
async fn status_asks_exactly_the_node_named() {
    let nodes = cluster(2).await;
    let admin = connect(&nodes).await.admin();
    for node in &nodes {
        let status = admin.status_of(&node.inner.addr).await.unwrap();
        assert_eq!(status.node.unwrap().node_id, node.inner.node_id);
    }
    let dead = nodes[1].inner.addr.clone();
    nodes[1].kill();
    let all = admin.status().await;
    assert_eq!(all.len(), 2);
    for (address, status) in all {
        assert_eq!(status.is_err(), address == dead);
    }
}

#[tokio::test]
async fn a_file_goes_in_and_comes_out_again() {
    let nodes = cluster(1).await;
    let admin = connect(&nodes).await.admin();
    let image: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7) as u8).collect();
    let imported = admin
        .import("app", image.len() as u64, false, &image[..])
        .await
        .unwrap();
    assert_eq!(imported.txid, 9);
    let mut copy = Vec::new();
    let exported = admin
        .export("app", ReadLevel::Session, &mut copy)
        .await
        .unwrap();
    assert_eq!((exported.txid, exported.bytes), (9, 1_000_000));
    assert!(copy == image);
}

#[tokio::test]
async fn short_files_and_short_copies_are_errors() {
    let nodes = cluster(1).await;
    let admin = connect(&nodes).await.admin();
    let short = admin
        .import("app", 11, false, &b"0123456789"[..])
        .await
        .unwrap_err();
    assert_eq!(short.kind(), &ErrorKind::Invalid);
    assert!(short.to_string().contains("missing_bytes=1"), "{short}");

    *nodes[0].inner.image.lock().unwrap() = vec![1; 300_000];
    nodes[0].stop_recording();
    let short = admin
        .export("app", ReadLevel::Local, &mut Vec::new())
        .await
        .unwrap_err();
    assert!(
        matches!(short.kind(), ErrorKind::Unavailable { .. }),
        "{short:?}"
    );
}
