//! An interactive transaction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1 as wire;
use halite_proto::v1::halite_client::HaliteClient;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::Streaming;
use wire::transaction_request::Kind as Request;
use wire::transaction_response::Kind as Response;

use crate::call::CallScope;
use crate::call_ledger::CallId;
use crate::failure::{Effect, Failure};
use crate::link::{MESSAGE_BYTES_MAX, describe};
use crate::operation::{Attempt, Operation, Plan, run};
use crate::read_level::saturating_ms;
use crate::route::Need;
use crate::{Client, Error, ErrorKind, ExecuteResult, Params, Rows};

/// The limit of nodes that do not say theirs.
const SILENT_LIMIT: Duration = Duration::from_secs(5);
/// The node's own verdict on a deadline comes first.
const ANSWER_GRACE: Duration = Duration::from_millis(250);
/// SQLite's code for what makes no sense at this point.
const SQLITE_ERROR: i32 = 1;
/// One request is under way at a time, and one rollback.
const REQUESTS_MAX: usize = 2;

/// An open transaction: it alone writes to its database until it ends. Dropping it rolls back.
///
/// A statement that fails leaves the transaction open unless SQLite (or the deadline) ended it; then every further call fails.
/// When the node is lost, nothing of the transaction is kept, except that a lost [`commit`](Self::commit) is
/// [`ErrorKind::OutcomeUnknown`].
pub struct Transaction {
    requests: mpsc::Sender<wire::TransactionRequest>,
    inbound: Streaming<wire::TransactionResponse>,
    client: Client,
    deadline: Instant,
    /// How long it may be open, as the node said.
    within: Duration,
    state: State,
    _id: Arc<CallId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A request was sent and its answer not read yet. If this is seen at the next call, the caller gave up on the one before.
    Busy,
    Ended,
}

struct Begin {
    request: wire::TransactionBegin,
    call_timeout: Duration,
}

struct Opened {
    requests: mpsc::Sender<wire::TransactionRequest>,
    inbound: Streaming<wire::TransactionResponse>,
    begun: wire::TransactionBegun,
}

impl Transaction {
    pub(crate) async fn begin(
        client: &Client,
        scope: &CallScope,
        within: Option<Duration>,
    ) -> Result<Self, Error> {
        let cluster = &client.core.cluster;
        let id = cluster.ledger.open();
        let plan = Plan::new(
            Need::Primary,
            Effect::Write,
            Instant::now() + scope.retry_deadline,
        );
        let operation = Begin {
            request: wire::TransactionBegin {
                database: scope.database.clone(),
                deadline_ms: within.map_or(0, |within| saturating_ms(within).max(1)),
                idempotency_key: Some(wire::IdempotencyKey {
                    client_id: cluster.client_id.clone(),
                    call_id: id.get(),
                }),
            },
            call_timeout: scope.call_timeout,
        };
        let Opened {
            requests,
            inbound,
            begun,
        } = run(cluster, plan, operation).await?;
        let within = match begun.deadline_ms {
            0 => within.unwrap_or(SILENT_LIMIT).min(SILENT_LIMIT),
            ms => Duration::from_millis(ms.into()),
        };
        Ok(Self {
            requests,
            inbound,
            client: client.clone(),
            deadline: Instant::now() + within,
            within,
            state: State::Open,
            _id: id,
        })
    }

    /// Executes one statement.
    pub async fn execute(
        &mut self,
        sql: impl Into<String>,
        params: impl Into<Params>,
    ) -> Result<ExecuteResult, Error> {
        ExecuteResult::from_wire(self.statement(params.into().into_wire(sql.into())).await?)
    }

    /// Reads rows; sees what the transaction has written.
    pub async fn query(
        &mut self,
        sql: impl Into<String>,
        params: impl Into<Params>,
    ) -> Result<Rows, Error> {
        let result = self.statement(params.into().into_wire(sql.into())).await?;
        Rows::from_wire(result.columns, result.rows)
    }

    /// Commits, and waits until the cluster keeps it. Of a transaction that has ended it says, as SQLite does, that none is active.
    pub async fn commit(mut self) -> Result<(), Error> {
        let answer = self
            .request(Request::Commit(wire::Null {}), Error::outcome_unknown)
            .await;
        self.state = State::Ended;
        match answer? {
            Response::Committed(committed) => {
                self.client.token.observe(committed.session_index);
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Rolls back, and waits until the node has.
    pub async fn rollback(mut self) -> Result<(), Error> {
        let answer = self
            .request(Request::Rollback(wire::Null {}), Error::unavailable)
            .await;
        self.state = State::Ended;
        match answer {
            Ok(Response::RolledBack(_)) => Ok(()),
            Ok(other) => Err(unexpected(&other)),
            // It has been rolled back already.
            Err(error) if *error.kind() == ErrorKind::DeadlineExceeded => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// False once it has ended: by an error, by a call on it that was cancelled, or because its deadline has passed. It may have ended on the node
    /// without this client knowing yet.
    pub fn is_open(&self) -> bool {
        self.state == State::Open && Instant::now() < self.deadline
    }

    async fn statement(
        &mut self,
        statement: wire::Statement,
    ) -> Result<wire::StatementResult, Error> {
        match self
            .request(Request::Statement(statement), Error::unavailable)
            .await?
        {
            Response::Result(result) => Ok(result),
            other => {
                self.state = State::Ended;
                Err(unexpected(&other))
            }
        }
    }

    /// Sends one request and waits for its answer. `lost` makes the error for the case that none comes.
    async fn request(
        &mut self,
        kind: Request,
        lost: fn(String) -> Error,
    ) -> Result<Response, Error> {
        match self.state {
            State::Open => {}
            State::Busy => {
                self.state = State::Ended;
                return Err(Error::invalid(
                    "transaction was rolled back because a call on it was cancelled",
                ));
            }
            State::Ended => return Err(has_ended(&kind)),
        }
        if Instant::now() >= self.deadline {
            // The node has rolled it back, or does now. A commit that was not sent is none.
            let _ = self.requests.try_send(wire::TransactionRequest {
                kind: Some(Request::Rollback(wire::Null {})),
            });
            self.state = State::Ended;
            return Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!(
                    "the transaction was open longer than {:?} and was rolled back",
                    self.within
                ),
            ));
        }
        self.state = State::Busy;
        let sent = self
            .requests
            .try_send(wire::TransactionRequest { kind: Some(kind) });
        // If it could not be sent the stream has ended, and why is what the node said last.
        let answer = timeout_at(self.deadline + ANSWER_GRACE, self.inbound.message()).await;
        self.state = State::Ended;
        let response = match answer {
            Ok(Ok(Some(wire::TransactionResponse {
                kind: Some(response),
            }))) => response,
            Ok(Ok(Some(_))) => return Err(Error::internal("node sent an answer of unknown kind")),
            Ok(Ok(None)) => {
                return Err(lost(
                    "transaction was lost: reason=\"node closed the stream\"".into(),
                ));
            }
            Ok(Err(status)) => {
                return Err(Error::from_status(&status).unwrap_or_else(|| {
                    let reason = describe(&status);
                    lost(format!("transaction was lost: reason=\"{reason}\""))
                }));
            }
            Err(_) => {
                return Err(lost(
                    "transaction was lost: reason=\"node did not answer in time\"".into(),
                ));
            }
        };
        if let Response::Failure(failure) = response {
            let open = !failure.ended && sent.is_ok();
            if open {
                self.state = State::Open;
            }
            let error = Error::from_wire(failure.error.unwrap_or_default());
            return Err(match error.kind() {
                // It did not get as far as the quorum, or its outcome would be unknown.
                kind @ ErrorKind::NotPrimary { .. } if !open => Error::new(
                    kind.clone(),
                    format!("the transaction was rolled back, begin it again: {error}"),
                ),
                _ => error,
            });
        }
        self.state = State::Open;
        Ok(response)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.state != State::Ended {
            // If there is no room or no stream any more, the end of the stream says the same.
            let _ = self.requests.try_send(wire::TransactionRequest {
                kind: Some(Request::Rollback(wire::Null {})),
            });
        }
    }
}

impl Operation for Begin {
    type Output = Opened;

    async fn attempt(&mut self, attempt: Attempt) -> Result<Opened, Failure> {
        let remaining = attempt.deadline.saturating_duration_since(Instant::now());
        let limit = self.call_timeout.min(remaining);
        let (requests, outbound) = mpsc::channel(REQUESTS_MAX);
        let begin = wire::TransactionRequest {
            kind: Some(Request::Begin(self.request.clone())),
        };
        if requests.try_send(begin).is_err() {
            return Err(Failure::Answered(Error::internal(
                "a new queue has no room",
            )));
        }
        let mut node =
            HaliteClient::new(attempt.link.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let opening = async move {
            let mut inbound = node
                .transaction(ReceiverStream::new(outbound))
                .await?
                .into_inner();
            let first = inbound.message().await?;
            Ok::<_, tonic::Status>((first, inbound))
        };
        // Nothing can have been written yet, so a begin may be repeated whatever became of it.
        let failure = match timeout(limit, opening).await {
            Ok(Ok((Some(first), inbound))) => match first.kind {
                Some(Response::Begun(begun)) => {
                    return Ok(Opened {
                        requests,
                        inbound,
                        begun,
                    });
                }
                Some(Response::Failure(failure)) => {
                    Failure::Answered(Error::from_wire(failure.error.unwrap_or_default()))
                }
                _ => Failure::Answered(Error::internal("node did not begin the transaction")),
            },
            Ok(Ok((None, _))) => Failure::lost("node closed the stream", false),
            Ok(Err(status)) => Failure::from_status(&status),
            Err(_) => Failure::lost("node did not answer in time", false),
        };
        Err(nothing_written(failure))
    }
}

/// What is said of a request to a transaction that is over. Of its end, SQLite's own words.
fn has_ended(asked: &Request) -> Error {
    let word = match asked {
        Request::Commit(_) => "commit",
        Request::Rollback(_) => "rollback",
        Request::Begin(_) | Request::Statement(_) => {
            return Error::invalid("transaction has ended");
        }
    };
    let kind = ErrorKind::Sql {
        code: SQLITE_ERROR,
        extended: SQLITE_ERROR,
    };
    Error::new(kind, format!("cannot {word} - no transaction is active"))
}

fn nothing_written(failure: Failure) -> Failure {
    match failure {
        Failure::Lost(lost) => Failure::lost(lost.why, false),
        Failure::Answered(error) => match error.kind() {
            ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded => {
                Failure::lost(error.to_string(), false)
            }
            _ => Failure::Answered(error),
        },
    }
}

fn unexpected(response: &Response) -> Error {
    let found = match response {
        Response::Begun(_) => "begun",
        Response::Result(_) => "result",
        Response::Committed(_) => "committed",
        Response::RolledBack(_) => "rolled_back",
        Response::Failure(_) => "failure",
    };
    Error::internal(format!("node answered out of turn: found={found}"))
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
