//! Interactive transactions over a stream; handed on to the primary where another node leads.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use halite_proto::v1;
use halite_proto::v1::transaction_request::Kind as Ask;
use halite_proto::v1::transaction_response::Kind as Answer;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{forwarded, handed_on, status_of};
use crate::api::router::client_id;
use crate::cluster::role::Role;
use crate::cluster::{Cluster, ClusterError};
use crate::database::{CallKey, Transaction, TransactionFailure, TransactionOptions};

type Responses = futures::stream::BoxStream<'static, Result<v1::TransactionResponse, Status>>;

/// A caller that asks faster than answers go out waits.
const ANSWERS_QUEUED_MAX: usize = 16;

pub(super) async fn run(
    cluster: Arc<Cluster>,
    mut requests: Streaming<v1::TransactionRequest>,
    was_forwarded: bool,
    transaction_max: Duration,
) -> Result<Response<Responses>, Status> {
    cluster.check_member()?;
    let first = requests
        .message()
        .await?
        .ok_or_else(|| invalid("the stream holds no message"))?;
    let Some(Ask::Begin(begin)) = first.kind.clone() else {
        return Err(invalid("the first message has to be begin"));
    };
    if !matches!(cluster.role(), Role::Primary { .. }) {
        return match cluster.other_primary() {
            Some(primary) if !was_forwarded => {
                hand_on(&cluster, &primary.addr, first, requests).await
            }
            _ => Err(cluster.not_primary().into()),
        };
    }
    let duration_max = match begin.deadline_ms {
        0 => transaction_max,
        ms => Duration::from_millis(ms.into()).min(transaction_max),
    };
    // Waits behind other transactions, but not for ever.
    let wait_until = Instant::now() + transaction_max;
    let transaction = open(&cluster, begin, wait_until, duration_max)
        .await
        .map_err(|e| status_of(&e))?;
    let (answers, queue) = mpsc::channel(ANSWERS_QUEUED_MAX);
    tokio::spawn(serve(transaction, duration_max, requests, answers));
    Ok(Response::new(ReceiverStream::new(queue).map(Ok).boxed()))
}

fn invalid(message: &str) -> Status {
    ClusterError::invalid(message.to_owned()).into()
}

async fn open(
    cluster: &Cluster,
    begin: v1::TransactionBegin,
    wait_until: Instant,
    duration_max: Duration,
) -> Result<Transaction, v1::Error> {
    let database = cluster
        .shared()
        .database(&begin.database)
        .map_err(|e| e.to_wire())?;
    let key = match begin.idempotency_key {
        Some(key) => Some(CallKey {
            client_id: client_id(&key.client_id).map_err(|e| e.to_wire())?,
            call_id: key.call_id,
        }),
        None => None,
    };
    database
        .begin(TransactionOptions {
            key,
            answered_below: 0,
            wait_until: wait_until.into_std(),
            duration_max,
        })
        .await
}

async fn serve(
    mut transaction: Transaction,
    duration_max: Duration,
    mut requests: Streaming<v1::TransactionRequest>,
    answers: mpsc::Sender<v1::TransactionResponse>,
) {
    let send = |kind| answers.send(v1::TransactionResponse { kind: Some(kind) });
    let begun = v1::TransactionBegun {
        deadline_ms: u32::try_from(duration_max.as_millis()).unwrap_or(u32::MAX),
    };
    if send(Answer::Begun(begun)).await.is_err() {
        return;
    }
    // A caller that goes away drops the transaction, which rolls it back.
    while let Ok(Some(request)) = requests.message().await {
        if let Some(Ask::Rollback(_)) = request.kind {
            transaction.rollback().await;
            // The answer is the last thing said; a caller that is gone does not need it.
            let _ = send(Answer::RolledBack(v1::Null {})).await;
            return;
        }
        let (answer, ended) = tokio::select! {
            biased;
            // So does one that goes away while a statement runs, which is interrupted by it.
            () = answers.closed() => return,
            answer = answer(&mut transaction, request.kind) => answer,
        };
        if send(answer).await.is_err() || ended {
            return;
        }
    }
}

/// Does what is asked; also says whether the transaction is over by it.
async fn answer(transaction: &mut Transaction, asked: Option<Ask>) -> (Answer, bool) {
    match asked {
        Some(Ask::Statement(statement)) => match transaction.execute(statement).await {
            Ok(result) => (Answer::Result(result), false),
            Err(failure) => failed(failure),
        },
        Some(Ask::Commit(_)) => match transaction.commit().await {
            Ok(committed) => (
                Answer::Committed(v1::TransactionCommitted {
                    session_index: committed.raft_index,
                }),
                true,
            ),
            Err(failure) => failed(failure),
        },
        // A rollback does not come here.
        Some(Ask::Begin(_) | Ask::Rollback(_)) | None => {
            let error = ClusterError::invalid("the transaction has begun already".into()).to_wire();
            failed(TransactionFailure {
                error,
                ended: false,
            })
        }
    }
}

fn failed(failure: TransactionFailure) -> (Answer, bool) {
    let ended = failure.ended;
    (
        Answer::Failure(v1::TransactionFailure {
            error: Some(failure.error),
            ended,
        }),
        ended,
    )
}

async fn hand_on(
    cluster: &Cluster,
    addr: &str,
    first: v1::TransactionRequest,
    requests: Streaming<v1::TransactionRequest>,
) -> Result<Response<Responses>, Status> {
    let rest = requests
        .take_while(|r| futures::future::ready(r.is_ok()))
        .filter_map(|r| futures::future::ready(r.ok()));
    let all = futures::stream::iter([first]).chain(rest);
    let request: Request<_> = forwarded(all);
    let answer = cluster.transport().halite(addr)?.transaction(request).await;
    Ok(handed_on(answer)?.map(|responses| responses.boxed()))
}
