//! Rows one after the other.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Stream, StreamExt};
use halite_proto::v1 as wire;
use halite_proto::v1::halite_client::HaliteClient;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tonic::codec::Streaming;

use crate::call::CallScope;
use crate::failure::{Effect, Failure};
use crate::link::{MESSAGE_BYTES_MAX, describe};
use crate::operation::{Attempt, Operation, Plan, run};
use crate::read_level::saturating_ms;
use crate::rows::row_from_wire;
use crate::session_token::SessionToken;
use crate::{Client, Error, Row};

/// The rows of one query as they arrive. A [`Stream`] of `Result<Row, Error>`; after an error it ends.
///
/// The node sends only as fast as the rows are taken. Without the node's word that the result is complete the stream ends in an
/// error, never short.
pub struct RowStream {
    columns: Arc<[String]>,
    rows: VecDeque<wire::Row>,
    inbound: Streaming<wire::QueryResponse>,
    token: SessionToken,
    /// Longest wait for the next piece.
    stall: Duration,
    stalled: Pin<Box<Sleep>>,
    /// The last row has come.
    complete: bool,
    /// Nothing more comes.
    ended: bool,
    /// Keeps the connections open.
    _client: Client,
}

struct OpenQuery<'a> {
    request: wire::QueryRequest,
    token: &'a SessionToken,
    call_timeout: Duration,
}

impl RowStream {
    pub(crate) async fn open(
        client: &Client,
        scope: &CallScope,
        statement: wire::Statement,
    ) -> Result<Self, Error> {
        let cluster = &client.core.cluster;
        let now = Instant::now();
        let deadline = now + scope.retry_deadline;
        let mut plan = Plan::new(
            cluster.options.need(Effect::Read, scope.level),
            Effect::Read,
            deadline,
        );
        if let Some(within) = scope.tries_within {
            plan.tries_until = deadline.min(now + within);
        }
        let operation = OpenQuery {
            request: wire::QueryRequest {
                database: scope.database.clone(),
                statement: Some(statement),
                level: scope.level.wire().into(),
                max_lag_ms: scope.level.max_lag_ms(),
                ..wire::QueryRequest::default()
            },
            token: &client.token,
            call_timeout: scope.call_timeout,
        };
        let (first, inbound) = run(cluster, plan, operation).await?;
        let mut stream = Self {
            columns: first.columns.clone().into(),
            rows: VecDeque::new(),
            inbound,
            token: client.token.clone(),
            stall: scope.call_timeout,
            stalled: Box::pin(sleep(scope.call_timeout)),
            complete: false,
            ended: false,
            _client: client.clone(),
        };
        stream.accept(first);
        Ok(stream)
    }

    /// The names of the columns, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The next row, `None` at the end of a complete result.
    pub async fn next_row(&mut self) -> Result<Option<Row>, Error> {
        self.next().await.transpose()
    }

    fn accept(&mut self, piece: wire::QueryResponse) {
        self.rows.extend(piece.rows);
        self.token.observe(piece.session_index);
        self.complete = piece.done;
    }

    /// The end of the stream follows its last message at once. A stream that is let go of before is reset, and a connection bears only so many
    /// of those in its life.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.inbound.poll_next_unpin(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => self.stalled.as_mut().poll(cx),
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Row, Error>>> {
        self.ended = true;
        self.rows.clear();
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for RowStream {
    type Item = Result<Row, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(row) = this.rows.pop_front() {
                return match row_from_wire(&this.columns, row) {
                    Ok(row) => Poll::Ready(Some(Ok(row))),
                    Err(error) => this.fail(error),
                };
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if this.complete {
                ready!(this.poll_end(cx));
                this.ended = true;
                continue;
            }
            match this.inbound.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    this.accept(piece);
                    let next = Instant::now() + this.stall;
                    this.stalled.as_mut().reset(next);
                }
                Poll::Ready(Some(Err(status))) => {
                    let error = Error::from_status(&status).unwrap_or_else(|| {
                        Error::unavailable(format!(
                            "row stream broke: reason=\"{}\"",
                            describe(&status)
                        ))
                    });
                    return this.fail(error);
                }
                Poll::Ready(None) => {
                    return this.fail(Error::unavailable(
                        "row stream ended before the result was complete",
                    ));
                }
                Poll::Pending => {
                    ready!(this.stalled.as_mut().poll(cx));
                    let waited_ms = this.stall.as_millis();
                    return this.fail(Error::unavailable(format!(
                        "row stream stalled: waited_ms={waited_ms}"
                    )));
                }
            }
        }
    }
}

impl Operation for OpenQuery<'_> {
    type Output = (wire::QueryResponse, Streaming<wire::QueryResponse>);

    async fn attempt(&mut self, attempt: Attempt) -> Result<Self::Output, Failure> {
        let remaining = attempt.deadline.saturating_duration_since(Instant::now());
        let limit = self.call_timeout.min(remaining);
        // The rows may take as long as the call with all its retries, only their beginning has to come within one try.
        self.request.timeout_ms = saturating_ms(remaining);
        self.request.session_index = self.token.get();
        let mut node =
            HaliteClient::new(attempt.link.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = self.request.clone();
        let opening = async move {
            let mut inbound = node.query(request).await?.into_inner();
            let first = inbound.message().await?;
            Ok::<_, tonic::Status>((first, inbound))
        };
        match timeout(limit, opening).await {
            Ok(Ok((Some(first), inbound))) => Ok((first, inbound)),
            Ok(Ok((None, _))) => Err(Failure::lost(
                "row stream ended before the result began",
                true,
            )),
            Ok(Err(status)) => Err(Failure::from_status(&status)),
            Err(_) => Err(Failure::lost("node did not answer in time", true)),
        }
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream")
            .field("columns", &self.columns)
            .field("buffered", &self.rows.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
