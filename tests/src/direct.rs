//! Calls to one named node. The client library goes to the primary; here every node has to answer for itself.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt as _;
use halite_proto::v1;
use halite_proto::v1::halite_client::HaliteClient;
use tokio::sync::oneshot;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// A connection to one node.
#[derive(Debug, Clone)]
pub struct DirectNode {
    client: HaliteClient<Channel>,
    timeout: Duration,
}

/// A stream on which nothing is under way. Dropped, it is ended in both directions.
#[derive(Debug)]
pub struct OpenStream {
    _end: oneshot::Sender<()>,
    _inbound: Streaming<v1::SessionResponse>,
}

impl DirectNode {
    /// Connects at the first call. Calls fail after `timeout`.
    ///
    /// # Errors
    /// The address makes no sense.
    pub fn new(addr: &str, timeout: Duration) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?.connect_timeout(timeout);
        Ok(Self {
            client: HaliteClient::new(endpoint.connect_lazy()),
            timeout,
        })
    }

    /// Reads integers.
    ///
    /// # Errors
    /// The node's, or none in time.
    pub async fn integers(
        &mut self,
        database: &str,
        sql: &str,
        args: &[i64],
        level: v1::ReadLevel,
    ) -> Result<Vec<Vec<i64>>> {
        let request = v1::QueryRequest {
            database: database.to_owned(),
            statement: Some(statement(sql, args)),
            level: level.into(),
            timeout_ms: u32::try_from(self.timeout.as_millis())?,
            ..v1::QueryRequest::default()
        };
        tokio::time::timeout(self.timeout, self.read(request))
            .await
            .context("no answer in time")?
    }

    /// Executes one statement by a unary call; the integers that it returns.
    ///
    /// # Errors
    /// The node's, or none in time.
    pub async fn execute(&mut self, database: &str, sql: &str) -> Result<Vec<Vec<i64>>> {
        let request = v1::ExecuteRequest {
            database: database.to_owned(),
            statement: Some(statement(sql, &[])),
            ..v1::ExecuteRequest::default()
        };
        let answer = tokio::time::timeout(self.timeout, self.client.execute(request))
            .await
            .context("no answer in time")??;
        let result = answer.into_inner().result.context("a result")?;
        rows(&result.rows)
    }

    /// Executes statements, each a call of its own, in one message of one pipelined stream; the integers that each returns.
    ///
    /// # Errors
    /// The node's, or not all answers in time.
    pub async fn pipelined(
        &mut self,
        database: &str,
        statements: &[String],
    ) -> Result<Vec<Vec<Vec<i64>>>> {
        let (found, _open) = self.stream(database, statements).await?;
        Ok(found)
    }

    /// The same, and the stream stays open until it is dropped.
    ///
    /// # Errors
    /// The node's, or not all answers in time.
    pub async fn stream(
        &mut self,
        database: &str,
        statements: &[String],
    ) -> Result<(Vec<Vec<Vec<i64>>>, OpenStream)> {
        let request = calls(database, statements);
        tokio::time::timeout(self.timeout, self.answers(request))
            .await
            .context("not all answers came in time")?
    }

    /// The same, and the stream is ended with the calls; how many of them were answered before the node ended it, too.
    ///
    /// # Errors
    /// The node's, or it does not end the stream in time.
    pub async fn pipelined_to_the_end(
        &mut self,
        database: &str,
        statements: &[String],
    ) -> Result<usize> {
        let requests = futures::stream::iter([calls(database, statements)]);
        let to_the_end = async {
            let mut inbound = self.client.session(requests).await?.into_inner();
            let mut answered = 0;
            while let Some(message) = inbound.message().await? {
                for reply in message.replies {
                    if let Some(error) = reply.error {
                        bail!("call {}: {error:?}", reply.id);
                    }
                    answered += usize::from(!reply.more);
                }
            }
            Ok(answered)
        };
        tokio::time::timeout(self.timeout, to_the_end)
            .await
            .context("the stream did not end in time")?
    }

    async fn answers(
        &mut self,
        request: v1::SessionRequest,
    ) -> Result<(Vec<Vec<Vec<i64>>>, OpenStream)> {
        let mut found = vec![None; request.calls.len()];
        let (end, ended) = oneshot::channel();
        let requests = futures::stream::iter([request])
            .chain(futures::stream::pending())
            .take_until(ended);
        let mut inbound = self.client.session(requests).await?.into_inner();
        while found.iter().any(Option::is_none) {
            let message = inbound.message().await?.context("the stream ended")?;
            for reply in message.replies {
                if let Some(error) = reply.error {
                    bail!("call {}: {error:?}", reply.id);
                }
                let result = reply.results.first().context("a result")?;
                found[reply.id as usize - 1] = Some(rows(&result.rows)?);
            }
        }
        let open = OpenStream {
            _end: end,
            _inbound: inbound,
        };
        Ok((found.into_iter().flatten().collect(), open))
    }

    /// Writes, as a call that is never retried. What another node leads is not handed on to it.
    ///
    /// # Errors
    /// The node's, or none in time.
    pub async fn write(&mut self, database: &str, sql: &str, args: &[i64]) -> Result<()> {
        let call = v1::Call {
            id: 1,
            database: database.to_owned(),
            statements: vec![statement(sql, args)],
            timeout_ms: u32::try_from(self.timeout.as_millis())?,
            ..v1::Call::default()
        };
        let request = v1::SessionRequest {
            client_id: rand::random::<[u8; 16]>().to_vec().into(),
            calls: vec![call],
            forwarded: true,
            ..v1::SessionRequest::default()
        };
        // The stream stays open until the answer is there.
        let requests = futures::stream::iter([request]).chain(futures::stream::pending());
        let answer = async {
            let mut responses = self.client.session(requests).await?.into_inner();
            while let Some(response) = responses.message().await? {
                if let Some(reply) = response.replies.into_iter().next() {
                    return match reply.error {
                        None => Ok(()),
                        Some(error) => bail!("{error:?}"),
                    };
                }
            }
            bail!("the stream ended without an answer")
        };
        tokio::time::timeout(self.timeout, answer)
            .await
            .context("no answer in time")?
    }

    async fn read(&mut self, request: v1::QueryRequest) -> Result<Vec<Vec<i64>>> {
        let mut inbound = self.client.query(request).await?.into_inner();
        let (mut found, mut complete) = (Vec::new(), false);
        while let Some(piece) = inbound.message().await? {
            found.extend(rows(&piece.rows)?);
            complete = piece.done;
        }
        ensure!(complete, "the answer is not complete");
        Ok(found)
    }
}

/// One message of a new client, with a call for each statement.
fn calls(database: &str, statements: &[String]) -> v1::SessionRequest {
    let calls = statements.iter().zip(1..).map(|(sql, id)| v1::Call {
        id,
        database: database.to_owned(),
        statements: vec![statement(sql, &[])],
        ..v1::Call::default()
    });
    v1::SessionRequest {
        client_id: rand::random::<[u8; 16]>().to_vec().into(),
        calls: calls.collect(),
        ..v1::SessionRequest::default()
    }
}

fn statement(sql: &str, args: &[i64]) -> v1::Statement {
    v1::Statement {
        sql: sql.to_owned(),
        args: args.iter().map(|&n| integer(n)).collect(),
        named_args: Vec::new(),
    }
}

fn rows(rows: &[v1::Row]) -> Result<Vec<Vec<i64>>> {
    rows.iter()
        .map(|row| row.values.iter().map(as_integer).collect())
        .collect()
}

fn integer(value: i64) -> v1::Value {
    v1::Value {
        kind: Some(v1::value::Kind::Integer(value)),
    }
}

fn as_integer(value: &v1::Value) -> Result<i64> {
    match value.kind {
        Some(v1::value::Kind::Integer(integer)) => Ok(integer),
        _ => bail!("not an integer: {value:?}"),
    }
}
