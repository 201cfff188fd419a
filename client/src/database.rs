//! SQL on one database.

use std::fmt;
use std::time::Duration;

use crate::call::{CallScope, call};
use crate::failure::Effect;
use crate::route::Need;
use crate::session_token::SessionToken;
use crate::{
    Client, Error, ExecuteResult, LtxStream, Params, ReadLevel, RowStream, Rows, Statement,
    Transaction,
};

/// A handle for one database. Cheap to clone; clones share the session of the [`Client`] it came from.
#[derive(Clone)]
pub struct Database {
    client: Client,
    scope: CallScope,
}

impl Database {
    pub(crate) fn new(client: Client, database: String) -> Self {
        let options = &client.core.cluster.options;
        let scope = CallScope {
            database,
            level: options.read_level,
            call_timeout: options.call_timeout,
            retry_deadline: options.retry_deadline,
            tries_within: None,
        };
        Self { client, scope }
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.scope.database
    }

    /// The same database, read at another level.
    #[must_use]
    pub fn with_level(&self, level: ReadLevel) -> Self {
        let mut database = self.clone();
        database.scope.level = level;
        database
    }

    /// The same database with another deadline for a call and all its retries; a single try may take all of it.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let mut database = self.clone();
        database.scope.call_timeout = timeout;
        database.scope.retry_deadline = timeout;
        database
    }

    /// The same database with another deadline for a call with all its retries; a single try may take as long as before.
    #[must_use]
    pub fn with_retry_deadline(&self, deadline: Duration) -> Self {
        let mut database = self.clone();
        database.scope.retry_deadline = deadline;
        database
    }

    /// The same database where a [`query_stream`](Self::query_stream) that nobody serves is given up after this time. A node that has begun with it has
    /// the time that a call has.
    #[must_use]
    pub fn with_tries_within(&self, within: Duration) -> Self {
        let mut database = self.clone();
        database.scope.tries_within = Some(within);
        database
    }

    /// The same database in a session of its own.
    #[must_use]
    pub fn with_session(&self, session: &Client) -> Self {
        let mut database = self.clone();
        database.client.token = session.token.clone();
        database
    }

    /// Executes one statement that may write, and waits until the cluster keeps it. Applied once, whatever happens on the way.
    pub async fn execute(
        &self,
        sql: impl Into<String>,
        params: impl Into<Params>,
    ) -> Result<ExecuteResult, Error> {
        let statement = params.into().into_wire(sql.into());
        let mut results = self.call(vec![statement], Effect::Write).await?;
        ExecuteResult::from_wire(results.pop().unwrap_or_default())
    }

    /// Reads rows into memory. A statement that writes is refused; for `INSERT ... RETURNING` use [`execute`](Self::execute).
    pub async fn query(
        &self,
        sql: impl Into<String>,
        params: impl Into<Params>,
    ) -> Result<Rows, Error> {
        let statement = params.into().into_wire(sql.into());
        let mut results = self.call(vec![statement], Effect::Read).await?;
        let result = results.pop().unwrap_or_default();
        Rows::from_wire(result.columns, result.rows)
    }

    /// Reads rows one after the other, as fast as the caller takes them. Not repeated once the first row has come. All of them have to be taken
    /// within the deadline of a call ([`with_timeout`](Self::with_timeout)).
    pub async fn query_stream(
        &self,
        sql: impl Into<String>,
        params: impl Into<Params>,
    ) -> Result<RowStream, Error> {
        let statement = params.into().into_wire(sql.into());
        RowStream::open(&self.client, &self.scope, statement).await
    }

    /// Executes several statements in one transaction: all of them, or none.
    pub async fn batch<I>(&self, statements: I) -> Result<Vec<ExecuteResult>, Error>
    where
        I: IntoIterator,
        I::Item: Into<Statement>,
    {
        let statements: Vec<_> = statements
            .into_iter()
            .map(|statement| statement.into().into_wire())
            .collect();
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let results = self.call(statements, Effect::Write).await?;
        results.into_iter().map(ExecuteResult::from_wire).collect()
    }

    /// Begins an interactive transaction. It holds the database's only writer: keep it short. The primary rolls it back when it is open longer
    /// than its `transaction-timeout` (5 s, unless it is configured otherwise).
    pub async fn transaction(&self) -> Result<Transaction, Error> {
        Transaction::begin(&self.client, &self.scope, None).await
    }

    /// Begins an interactive transaction that has to end within `deadline`, or within the primary's limit if that is shorter, or
    /// is rolled back.
    pub async fn transaction_within(&self, deadline: Duration) -> Result<Transaction, Error> {
        Transaction::begin(&self.client, &self.scope, Some(deadline)).await
    }

    /// The committed transactions from `from_txid` on, as LTX files: for copies elsewhere, change feeds and tools. 0 begins with the
    /// next one to be committed. Any node serves it, with what it has applied itself.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the transaction before `from_txid` was not committed yet,
    /// [`ErrorKind::Purged`](crate::ErrorKind::Purged) if `from_txid` has left the log of every node.
    pub async fn ltx_stream(&self, from_txid: u64) -> Result<LtxStream, Error> {
        let need = self.client.core.cluster.options.any_member();
        LtxStream::open(&self.client, &self.scope, need, from_txid).await
    }

    /// [`ltx_stream`](Self::ltx_stream) from the member `node_id` as long as it serves, else from any other.
    pub async fn ltx_stream_at(&self, node_id: u64, from_txid: u64) -> Result<LtxStream, Error> {
        LtxStream::open(&self.client, &self.scope, Need::Member(node_id), from_txid).await
    }

    /// The session this handle reads in.
    pub fn token(&self) -> u64 {
        self.session_token().get()
    }

    fn session_token(&self) -> &SessionToken {
        &self.client.token
    }

    async fn call(
        &self,
        statements: Vec<halite_proto::v1::Statement>,
        effect: Effect,
    ) -> Result<Vec<halite_proto::v1::StatementResult>, Error> {
        call(
            &self.client.core.cluster,
            self.session_token(),
            &self.scope,
            statements,
            effect,
        )
        .await
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
