//! One call over the pipelined streams.

use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1 as wire;
use prost::Message;
use tokio::time::Instant;

use crate::call_ledger::CallId;
use crate::cluster::Cluster;
use crate::failure::{Effect, Failure};
use crate::operation::{Attempt, Operation, Plan, run};
use crate::read_level::saturating_ms;
use crate::session_token::SessionToken;
use crate::{Error, ReadLevel};

/// The node is given this much longer than the timeout it knows, so that its own answer comes first.
const ANSWER_GRACE: Duration = Duration::from_millis(250);
/// Larger calls are refused. The node accepts messages of this size and some more.
const CALL_BYTES_MAX: usize = 16 << 20;

/// What a database handle fixes for all its calls.
#[derive(Clone, Debug)]
pub(crate) struct CallScope {
    pub(crate) database: String,
    pub(crate) level: ReadLevel,
    /// Longest wait for one try.
    pub(crate) call_timeout: Duration,
    /// Longest time with all retries.
    pub(crate) retry_deadline: Duration,
    /// Time in which tries of a stream of rows may begin, where that is not all of it.
    pub(crate) tries_within: Option<Duration>,
}

struct PipelinedCall<'a> {
    cluster: &'a Cluster,
    token: &'a SessionToken,
    id: Arc<CallId>,
    call: wire::Call,
    call_timeout: Duration,
    effect: Effect,
}

/// Executes `statements` in one transaction and returns one result per statement.
pub(crate) async fn call(
    cluster: &Cluster,
    token: &SessionToken,
    scope: &CallScope,
    statements: Vec<wire::Statement>,
    effect: Effect,
) -> Result<Vec<wire::StatementResult>, Error> {
    let expected = statements.len();
    let deadline = Instant::now() + scope.retry_deadline;
    let _permit = match cluster.in_flight.try_acquire() {
        Ok(permit) => permit,
        Err(_) => wait_for_permit(cluster, deadline).await?,
    };
    let id = match effect {
        Effect::Read => cluster.ledger.open_read(),
        Effect::Write | Effect::Once => cluster.ledger.open(),
    };
    let call = wire::Call {
        id: id.get(),
        database: scope.database.clone(),
        statements,
        level: scope.level.wire().into(),
        max_lag_ms: scope.level.max_lag_ms(),
        read_only: effect == Effect::Read,
        ..wire::Call::default()
    };
    let bytes = call.encoded_len();
    if bytes > CALL_BYTES_MAX {
        return Err(Error::invalid(format!(
            "call is too large: bytes={bytes} bytes_max={CALL_BYTES_MAX}"
        )));
    }
    let plan = Plan::new(cluster.options.need(effect, scope.level), effect, deadline);
    let operation = PipelinedCall {
        cluster,
        token,
        id,
        call,
        call_timeout: scope.call_timeout,
        effect,
    };
    let reply = run(cluster, plan, operation)
        .await
        .map_err(|error| error.of_statements(expected))?;
    if reply.results.len() != expected {
        return Err(Error::internal(format!(
            "node left out results: expected={expected} found={}",
            reply.results.len()
        )));
    }
    Ok(reply.results)
}

async fn wait_for_permit(
    cluster: &Cluster,
    deadline: Instant,
) -> Result<tokio::sync::SemaphorePermit<'_>, Error> {
    match tokio::time::timeout_at(deadline, cluster.in_flight.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(Error::unavailable("client was closed")),
        Err(_) => Err(Error::unavailable(format!(
            "too many calls in flight: in_flight_max={}",
            cluster.options.in_flight_max
        ))),
    }
}

impl Operation for PipelinedCall<'_> {
    type Output = wire::Reply;

    async fn attempt(&mut self, attempt: Attempt) -> Result<wire::Reply, Failure> {
        let now = Instant::now();
        let remaining = attempt.deadline.saturating_duration_since(now);
        let timeout = self.call_timeout.min(remaining);
        if self.effect == Effect::Read && self.call.timeout_ms != 0 {
            // A repeated read is a new call: the parts of two answers must not mix.
            self.id = self.cluster.ledger.open_read();
            self.call.id = self.id.get();
        }
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::RetryUnderNewKey) && attempt.retry {
            self.id = self.cluster.ledger.open();
            self.call.id = self.id.get();
        }
        self.call.retry = attempt.retry;
        self.call.timeout_ms = saturating_ms(timeout);
        self.call.session_index = self.token.get();
        let deadline = now + timeout + ANSWER_GRACE;
        let sent = attempt
            .link
            .send(&self.id, &self.call, self.effect != Effect::Read, deadline)
            .map_err(Failure::Lost)?;
        let reply = sent.await.map_err(Failure::Lost)?;
        self.token.observe(reply.session_index);
        match reply.error {
            Some(error) => Err(Failure::Answered(Error::from_wire(error))),
            None => Ok(reply),
        }
    }
}
