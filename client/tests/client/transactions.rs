//! Interactive transactions.

use std::time::Duration;

use halite_client::ErrorKind;
use halite_proto::v1::{Error, ErrorCode};

use crate::connect;
use crate::fake_node::cluster;

#[tokio::test]
async fn a_transaction_runs_on_the_primary_and_moves_the_session_on() {
    let nodes = cluster(3).await;
    let client = connect(&nodes).await;
    let mut transaction = client.database("app").transaction().await.unwrap();
    transaction.execute("INSERT", ()).await.unwrap();
    transaction.query("SELECT", ()).await.unwrap();
    transaction.commit().await.unwrap();
    let done = nodes[0].inner.record.borrow().transactions.clone();
    assert_eq!(done, ["begin app", "INSERT", "SELECT", "commit"]);
    assert_eq!(client.token(), 77);
}

#[tokio::test]
async fn dropping_a_transaction_rolls_it_back() {
    let nodes = cluster(1).await;
    let client = connect(&nodes).await;
    let mut transaction = client.database("app").transaction().await.unwrap();
    transaction.execute("INSERT", ()).await.unwrap();
    drop(transaction);
    let end = nodes[0]
        .seen(|record| record.transactions.get(2).cloned())
        .await;
    assert!(
        ["rollback", "stream ended"].contains(&end.as_str()),
        "{end}"
    );
}

#[tokio::test]
async fn a_failed_statement_leaves_the_transaction_open() {
    let nodes = cluster(1).await;
    let client = connect(&nodes).await;
    let mut transaction = client.database("app").transaction().await.unwrap();
    let failed = transaction.execute("FAIL", ()).await.unwrap_err();
    assert_eq!(failed.sqlite_code(), Some(19));
    transaction.execute("INSERT", ()).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(
        nodes[0].inner.record.borrow().transactions.last().unwrap(),
        "rollback"
    );
}

#[tokio::test]
async fn a_cancelled_statement_ends_the_transaction() {
    let nodes = cluster(1).await;
    let client = connect(&nodes).await;
    let mut transaction = client.database("app").transaction().await.unwrap();
    {
        let hanging = transaction.execute("HANG", ());
        tokio::pin!(hanging);
        assert!(futures::poll!(&mut hanging).is_pending());
    }
    let refused = transaction.execute("INSERT", ()).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Invalid);
    drop(transaction);
    nodes[0]
        .seen(|record| {
            record
                .transactions
                .last()
                .filter(|end| *end != "HANG")
                .map(|_| ())
        })
        .await;
    assert!(
        !nodes[0]
            .inner
            .record
            .borrow()
            .transactions
            .iter()
            .any(|done| done == "INSERT")
    );
}

#[tokio::test]
async fn a_lost_statement_is_unavailable_and_a_lost_commit_unknown() {
    let nodes = cluster(1).await;
    let client = connect(&nodes).await;
    let mut transaction = client.database("app").transaction().await.unwrap();
    let lost = transaction.execute("LOSE", ()).await.unwrap_err();
    assert!(
        matches!(lost.kind(), ErrorKind::Unavailable { .. }),
        "{lost:?}"
    );

    *nodes[0].inner.admin_error.lock().unwrap() = Some(Error {
        code: ErrorCode::Unspecified.into(),
        ..Error::default()
    });
    let transaction = client.database("app").transaction().await.unwrap();
    let lost = transaction.commit().await.unwrap_err();
    assert_eq!(lost.kind(), &ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn a_transaction_does_not_outlive_its_deadline() {
    let nodes = cluster(1).await;
    let client = connect(&nodes).await;
    let mut transaction = client
        .database("app")
        .transaction_within(Duration::from_millis(20))
        .await
        .unwrap();
    let late = transaction.execute("HANG", ()).await.unwrap_err();
    assert!(
        late.to_string().contains("did not answer in time"),
        "{late}"
    );
}
