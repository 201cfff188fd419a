//! Streams of committed transactions.

use std::time::Duration;

use futures::StreamExt;
use halite_client::{ErrorKind, LtxTransaction};
use halite_proto::error_detail;
use halite_proto::v1::{ErrorCode, StreamLtxRequest, StreamLtxResponse};
use tonic::Status;

use crate::fake_node::{FakeNode, cluster, error};
use crate::{connect, connect_with};

type Pieces = Vec<Result<StreamLtxResponse, Status>>;

/// Stands for the checksum after transaction `txid`.
fn checksum(txid: u64) -> u64 {
    1 << 63 | txid
}

fn empty(txid: u64) -> StreamLtxResponse {
    StreamLtxResponse {
        txid,
        ..StreamLtxResponse::default()
    }
}

fn piece(txid: u64, data: &str, last: bool) -> StreamLtxResponse {
    StreamLtxResponse {
        txid,
        data: data.to_owned().into(),
        last,
        pre_checksum: format!("{:016x}", checksum(txid - 1)),
        post_checksum: format!("{:016x}", checksum(txid)),
        raft_index: txid * 10,
    }
}

/// What a node with transactions up to `newest` sends.
fn honest(request: &StreamLtxRequest, newest: u64) -> Pieces {
    let from = match request.from_txid {
        0 => newest + 1,
        txid => txid,
    };
    let mut pieces = vec![Ok(empty(from))];
    for txid in from..=newest {
        pieces.push(Ok(piece(txid, &format!("first of {txid}, "), false)));
        pieces.push(Ok(piece(txid, &format!("second of {txid}"), true)));
    }
    pieces
}

fn refused(code: ErrorCode) -> Status {
    error_detail::to_status(&error(code))
}

fn whole(txid: u64) -> LtxTransaction {
    LtxTransaction {
        txid,
        raft_index: txid * 10,
        pre_checksum: checksum(txid - 1),
        post_checksum: checksum(txid),
        data: format!("first of {txid}, second of {txid}").into(),
    }
}

async fn honest_cluster(newest: u64) -> Vec<FakeNode> {
    let nodes = cluster(3).await;
    for node in &nodes {
        node.ltx_script(move |request| honest(request, newest));
    }
    nodes
}

fn asked(node: &FakeNode) -> Vec<u64> {
    let record = node.inner.record.borrow();
    record.ltx.iter().map(|ltx| ltx.from_txid).collect()
}

#[tokio::test]
async fn a_stream_goes_on_at_another_node_with_the_transaction_that_broke_off() {
    let nodes = honest_cluster(4).await;
    nodes[2].ltx_script(|request| {
        let mut pieces = honest(request, 2);
        pieces.truncate(4);
        pieces
    });
    let client = connect(&nodes).await;
    let mut stream = client.database("app").ltx_stream_at(3, 1).await.unwrap();
    assert_eq!(stream.next_transaction().await.unwrap(), whole(1));
    assert_eq!((stream.node_id(), stream.next_txid()), (Some(3), 2));
    // Half of the second has been read by now, or is on its way.
    let waiting = stream.next_transaction();
    assert!(
        tokio::time::timeout(Duration::from_millis(50), waiting)
            .await
            .is_err()
    );
    nodes[2].kill();
    for txid in 2..=4 {
        assert_eq!(stream.next_transaction().await.unwrap(), whole(txid));
    }
    assert_eq!(asked(&nodes[2]), [1]);
    assert_eq!([asked(&nodes[0]), asked(&nodes[1])].concat(), [2]);
    assert!([Some(1), Some(2)].contains(&stream.node_id()));
}

#[tokio::test]
async fn a_stream_from_the_end_on_learns_where_that_is() {
    let nodes = honest_cluster(7).await;
    let client = connect(&nodes).await;
    let mut stream = client.database("app").ltx_stream_at(1, 0).await.unwrap();
    assert_eq!(stream.next_txid(), 8);
    nodes[1].ltx_script(|request| honest(request, 8));
    nodes[2].ltx_script(|request| honest(request, 8));
    nodes[0].kill();
    assert_eq!(stream.next_transaction().await.unwrap(), whole(8));
}

#[tokio::test]
async fn transactions_come_as_a_stream_as_well() {
    let nodes = honest_cluster(3).await;
    let client = connect(&nodes).await;
    let stream = client.database("app").ltx_stream(1).await.unwrap();
    let taken: Vec<_> = stream
        .into_stream()
        .take(3)
        .map(|transaction| transaction.unwrap().txid)
        .collect()
        .await;
    assert_eq!(taken, [1, 2, 3]);
}

#[tokio::test]
async fn a_transaction_that_one_node_has_purged_comes_from_another() {
    let nodes = honest_cluster(2).await;
    nodes[0].ltx_script(|_| vec![Err(refused(ErrorCode::Purged))]);
    // This one finds out later.
    nodes[1].ltx_script(|request| {
        let mut pieces = honest(request, 1);
        pieces.push(Err(refused(ErrorCode::Purged)));
        pieces
    });
    let client = connect(&nodes).await;
    let mut stream = client.database("app").ltx_stream_at(2, 1).await.unwrap();
    nodes[1].ltx_script(|_| vec![Err(refused(ErrorCode::Purged))]);
    assert_eq!(stream.next_transaction().await.unwrap(), whole(1));
    assert_eq!(stream.next_transaction().await.unwrap(), whole(2));
    assert_eq!(asked(&nodes[2]), [2]);

    nodes[2].ltx_script(|_| vec![Err(refused(ErrorCode::Purged))]);
    let purged = client.database("app").ltx_stream(1).await.unwrap_err();
    assert_eq!(purged.kind(), &ErrorKind::Purged);
}

#[tokio::test]
async fn a_refusal_is_final_and_a_node_that_cannot_serve_is_not() {
    let nodes = honest_cluster(2).await;
    for node in &nodes {
        node.ltx_script(|_| vec![Err(refused(ErrorCode::Invalid))]);
    }
    let client = connect(&nodes).await;
    let database = client.database("app");
    let beyond = database.ltx_stream(9).await.unwrap_err();
    assert_eq!(beyond.kind(), &ErrorKind::Invalid);
    let tries: usize = nodes.iter().map(|node| asked(node).len()).sum();
    assert_eq!(tries, 1);

    nodes[0].ltx_script(|_| vec![Err(refused(ErrorCode::Unavailable))]);
    nodes[1].ltx_script(|_| vec![Err(Status::unavailable("gone"))]);
    nodes[2].ltx_script(|request| honest(request, 1));
    let mut stream = database.ltx_stream_at(1, 1).await.unwrap();
    assert_eq!(stream.next_transaction().await.unwrap(), whole(1));
}

#[tokio::test]
async fn gaps_repetitions_and_other_histories_are_refused() {
    let nodes = cluster(1).await;
    let client = connect(&nodes).await;
    for wrong in [1, 3] {
        nodes[0].ltx_script(move |_| {
            vec![
                Ok(empty(1)),
                Ok(piece(1, "one", true)),
                Ok(piece(wrong, "not two", true)),
            ]
        });
        let mut stream = client.database("app").ltx_stream(1).await.unwrap();
        stream.next_transaction().await.unwrap();
        let refused = stream.next_transaction().await.unwrap_err();
        assert_eq!(refused.kind(), &ErrorKind::Internal, "{refused}");
        assert_eq!(stream.next_txid(), 2);
    }
    nodes[0].ltx_script(|request| {
        let other = StreamLtxResponse {
            pre_checksum: format!("{:016x}", checksum(77)),
            ..piece(2, "another database of that name", true)
        };
        match request.from_txid {
            1 => vec![
                Ok(piece(1, "one", true)),
                Err(refused(ErrorCode::NoSuchDatabase)),
            ],
            _ => vec![Ok(empty(2)), Ok(other)],
        }
    });
    let mut stream = client.database("app").ltx_stream(1).await.unwrap();
    stream.next_transaction().await.unwrap();
    let gone = stream.next_transaction().await.unwrap_err();
    assert_eq!(gone.kind(), &ErrorKind::NoSuchDatabase, "{gone}");
}

#[tokio::test]
async fn a_transaction_beyond_the_limit_is_refused_before_it_fills_the_memory() {
    let nodes = honest_cluster(1).await;
    let limit = "first of 1, second of 1".len();
    for (bytes_max, fits) in [(limit, true), (limit - 1, false)] {
        let client = connect_with(&nodes, |builder| builder.result_bytes_max(bytes_max)).await;
        let mut stream = client.database("app").ltx_stream(1).await.unwrap();
        match stream.next_transaction().await {
            Ok(transaction) => assert!(fits, "{transaction:?}"),
            Err(refused) => assert!(!fits && refused.kind() == &ErrorKind::Invalid, "{refused}"),
        }
    }
}

#[tokio::test]
async fn streams_that_keep_breaking_end_in_an_error_and_another_call_tries_again() {
    let nodes = cluster(2).await;
    for node in &nodes {
        node.ltx_script(|request| {
            vec![
                Ok(empty(request.from_txid)),
                Err(Status::data_loss("a hole")),
            ]
        });
    }
    let client = connect(&nodes).await;
    let database = client
        .database("app")
        .with_timeout(Duration::from_millis(300));
    let mut stream = database.ltx_stream(1).await.unwrap();
    let broken = stream.next_transaction().await.unwrap_err();
    assert!(
        matches!(broken.kind(), ErrorKind::Unavailable { .. })
            && broken.to_string().contains("hole"),
        "{broken}"
    );
    let tries: usize = nodes.iter().map(|node| asked(node).len()).sum();
    assert!((3..40).contains(&tries), "{tries} tries in 300 ms");
    nodes[0].ltx_script(|request| honest(request, 1));
    nodes[1].ltx_script(|request| honest(request, 1));
    assert_eq!(stream.next_transaction().await.unwrap(), whole(1));
}
