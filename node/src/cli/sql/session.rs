//! What lasts between two statements: the database, the level, the mode and an open transaction.

mod budget;
mod dots;
mod early_end;
mod step;

use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;

use halite_client::{
    Client, Database, Error, ErrorKind, ExecuteResult, Params, ReadLevel, Row, RowStream,
    Statement, Transaction,
};

use super::gather::{self, Gathered};
use super::mode::{Answer, Look, Mode};
use super::print_rows::print_rows;
use super::splitter::{first_word, without_space};
use crate::cli::error::CliError;
use crate::cli::output::{print, print_line, remark, stdout_columns};
pub(super) use budget::Budget;
pub(super) use early_end::Place;
use early_end::UnderWay;
use step::Step;

/// What the client says of a node that was at a call until its time was over.
const TOO_SLOW: &str = "node did not answer in time";
/// What every transaction without foreign keys begins with.
const FOREIGN_KEYS_OFF: &str = "PRAGMA foreign_keys=OFF";
/// Statements that only read begin so.
const READS: [&str; 3] = ["SELECT", "VALUES", "EXPLAIN"];
/// These may do either.
const READS_OR_WRITES: [&str; 2] = ["WITH", "PRAGMA"];
/// Of statements that do not read, these write rows.
const WRITES_ROWS: [&str; 5] = ["INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"];
/// A transaction that is sent as a whole waits for others, and through a failover.
const SEND_TIMEOUT_LEAST: Duration = Duration::from_secs(15);

pub(super) struct Session {
    client: Client,
    database: Option<String>,
    level: ReadLevel,
    /// Nobody has asked for the level: where no quorum answers, what a node holds is better than nothing.
    falls_back: bool,
    mode: Mode,
    budget: Budget,
    timer: bool,
    headings: bool,
    transaction: Option<Transaction>,
    /// Somebody sits there, and may be told of dot commands.
    at_prompt: bool,
    /// Nobody waits for single answers: transactions are gathered.
    gathers: bool,
    /// How many files are being read, each by the one before.
    pub(super) files: u32,
    /// The transaction since BEGIN, if none of it has been sent.
    gathered: Option<Gathered>,
    /// Foreign keys are off for the transactions that follow.
    foreign_keys_off: bool,
    /// What waits for an answer of the cluster.
    under_way: UnderWay,
    /// How many calls had been sent before it.
    sent_before: u64,
    /// Where in a script the session is.
    place: Option<Place>,
}

/// Whether the session goes on after a dot command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Quit,
}

/// What a statement gave.
enum Given {
    Answer(Answer),
    /// To be taken one after the other.
    Rows(Box<RowStream>),
}

impl Session {
    pub(super) fn new(
        client: Client,
        database: Option<String>,
        level: Option<ReadLevel>,
        mode: Mode,
        budget: Budget,
    ) -> Self {
        Self {
            client,
            database,
            // Each run is a session of its own, and knows nothing of what the one before it wrote.
            level: level.unwrap_or(ReadLevel::Linearizable),
            falls_back: level.is_none(),
            mode,
            budget,
            timer: false,
            headings: true,
            transaction: None,
            at_prompt: false,
            files: 0,
            gathers: false,
            gathered: None,
            foreign_keys_off: false,
            under_way: UnderWay::Nothing,
            sent_before: 0,
            place: None,
        }
    }

    /// The name of the database, if one is chosen.
    pub(super) fn database_name(&self) -> Option<&str> {
        self.database.as_deref()
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.transaction.is_some() || self.gathered.is_some()
    }

    /// What became of the transaction that was begun, where the prompt's Ctrl-C did not end it.
    pub(super) fn transaction_state(&self) -> Option<&'static str> {
        let transaction = self.transaction.as_ref()?;
        Some(match transaction.is_open() {
            true => "the transaction is still open: COMMIT or ROLLBACK ends it",
            false => "the transaction has ended, nothing of it was kept: ROLLBACK leaves it",
        })
    }

    pub(super) fn is_at_prompt(&mut self) {
        self.at_prompt = true;
        self.budget.wait();
    }

    /// From here on statements come from a script: a transaction may be sent when it is whole.
    pub(super) fn gather(&mut self) {
        self.gathers = true;
    }

    /// Executes one statement and prints what it gave.
    pub(super) async fn statement(&mut self, sql: &str) -> Result<(), CliError> {
        let began = Instant::now();
        let look = self.look();
        self.sent_before = self.client.stats().calls_sent;
        self.budget.begin();
        let answers = self.answers(sql).await;
        if !matches!(self.under_way, UnderWay::Read) {
            self.under_way = UnderWay::Nothing;
        }
        for given in answers? {
            match given {
                Given::Answer(answer) => print(&look.render(answer))?,
                Given::Rows(rows) => print_rows(*rows, look).await?,
            }
        }
        self.under_way = UnderWay::Nothing;
        let took = began.elapsed();
        if self.timer {
            print_line(&format!("Run Time: {:.6} s", took.as_secs_f64()))
        } else {
            Ok(())
        }
    }

    fn look(&self) -> Look {
        let screen = stdout_columns();
        Look {
            mode: self.mode,
            headings: self.headings,
            screen,
            // A script may have very many statements.
            counts: screen.is_some() && self.place.is_none(),
        }
    }

    /// What a statement gives: nothing if it is gathered, all of its transaction if it ends one.
    async fn answers(&mut self, sql: &str) -> Result<Vec<Given>, CliError> {
        let step = Step::of(sql)?;
        let mut answers = Vec::new();
        if let Some(mut gathered) = self.gathered.take() {
            match step {
                Step::Commit => {
                    let sent = self.send(gathered).await?;
                    return Ok(sent.into_iter().map(Given::Answer).collect());
                }
                Step::Rollback => return Ok(answers),
                Step::Begin => {
                    return Err(CliError::sql(
                        "cannot start a transaction within a transaction",
                    ));
                }
                _ if gathered.take(sql, self.place.as_ref()) => {
                    if gathered.is_too_large() {
                        return Err(CliError::new(
                            "the transaction is too large for one call: 16 MiB",
                        )
                        .help("load it into a file with sqlite3, and that with `halite import`"));
                    }
                    self.gathered = Some(gathered);
                    return Ok(answers);
                }
                _ => answers = self.begin_late(gathered).await?,
            }
        }
        match step {
            Step::Begin if self.transaction.is_none() && self.gathers => {
                self.database()?;
                self.gathered = Some(Gathered::default());
            }
            Step::ForeignKeys(on) if self.transaction.is_none() => self.foreign_keys_off = !on,
            Step::Deferral if self.transaction.is_none() => {
                remark("PRAGMA defer_foreign_keys does nothing outside of a transaction");
            }
            _ => answers.extend(self.answer(sql, ()).await?),
        }
        Ok(answers)
    }

    /// Sends a transaction that is whole. The line that failed is that of the statement which did.
    async fn send(&mut self, gathered: Gathered) -> Result<Vec<Answer>, CliError> {
        let megabytes = gathered.bytes() as u64 >> 20;
        let timeout = SEND_TIMEOUT_LEAST + Duration::from_secs(10 * megabytes);
        let timeout = timeout.max(self.budget.asked().unwrap_or_default());
        let first = self.foreign_keys_off.then_some(FOREIGN_KEYS_OFF);
        let statements = gathered
            .statements
            .iter()
            .map(|statement| statement.sql.as_str());
        let statements: Vec<Statement> = first
            .into_iter()
            .chain(statements)
            .map(Statement::from)
            .collect();
        if gathered.statements.is_empty() {
            return Ok(Vec::new());
        }
        let database = self.database()?.with_timeout(timeout);
        self.under_way = UnderWay::Batch;
        let results = match database.batch(statements).await {
            Ok(results) => results,
            Err(error) => {
                let at = error.statement_index().map(|at| at as usize);
                let at = at.and_then(|at| at.checked_sub(usize::from(first.is_some())));
                let failed = at.and_then(|at| gathered.statements.into_iter().nth(at));
                return Err(match failed {
                    Some(failed) => self.gathered_failed(error.into(), failed),
                    None => error.into(),
                });
            }
        };
        let results = results.into_iter().skip(usize::from(first.is_some()));
        let told = results
            .zip(gathered.statements)
            .filter(|(_, sent)| !sent.silent);
        Ok(told
            .map(|(result, sent)| Answer::to(&sent.sql, result))
            .collect())
    }

    /// Begins the transaction that was gathered, since now somebody may wait for an answer.
    async fn begin_late(&mut self, gathered: Gathered) -> Result<Vec<Given>, CliError> {
        self.begin().await?;
        let mut answers = Vec::new();
        for statement in gathered.statements {
            match self.answer(&statement.sql, ()).await {
                Ok(answer) => answers.extend(answer.filter(|_| !statement.silent)),
                Err(error) => return Err(self.gathered_failed(error, statement)),
            }
        }
        Ok(answers)
    }

    /// The error of a statement of a transaction that was gathered, which was told later than it was read.
    fn gathered_failed(&mut self, error: CliError, failed: gather::Statement) -> CliError {
        if failed.place.is_some() {
            self.place = failed.place;
        }
        let shown: String = without_space(&failed.sql).chars().take(80).collect();
        error.within("", &format!(" (in the transaction, at: {shown})"))
    }

    async fn begin(&mut self) -> Result<(), CliError> {
        self.under_way = UnderWay::Transaction;
        let database = self.database()?;
        let mut transaction = match self.budget.asked() {
            Some(timeout) => database.transaction_within(timeout).await?,
            None => database.transaction().await?,
        };
        if self.foreign_keys_off {
            transaction.execute(FOREIGN_KEYS_OFF, ()).await?;
        }
        self.transaction = Some(transaction);
        Ok(())
    }

    /// Executes one statement. `None` for what begins or ends a transaction.
    async fn answer(
        &mut self,
        sql: &str,
        params: impl Into<Params>,
    ) -> Result<Option<Given>, CliError> {
        let word = first_word(sql);
        let back_to_savepoint = word == "ROLLBACK" && matches!(Step::of(sql), Ok(Step::Other));
        let answer = match (word.as_str(), self.transaction.take()) {
            ("COMMIT" | "END", Some(transaction)) => {
                self.under_way = UnderWay::Commit;
                return Ok(transaction.commit().await.map(|()| None)?);
            }
            ("ROLLBACK", Some(transaction)) if !back_to_savepoint => {
                self.under_way = UnderWay::Transaction;
                return match transaction.rollback().await {
                    // It has ended already, by an error or its deadline: nothing of it is kept, which is what is asked for.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Sql { .. }) =>
                    {
                        Ok(None)
                    }
                    other => Ok(other.map(|()| None)?),
                };
            }
            (_, Some(mut transaction)) => {
                self.under_way = UnderWay::Transaction;
                let executed = transaction.execute(sql, params).await;
                self.transaction = Some(transaction);
                Given::Answer(Answer::to(sql, executed?))
            }
            ("BEGIN", None) => {
                self.begin().await?;
                return Ok(None);
            }
            (word, None) if self.foreign_keys_off && !READS.contains(&word) && word != "VACUUM" => {
                let statements = [
                    Statement::from(FOREIGN_KEYS_OFF),
                    Statement::new(sql, params),
                ];
                self.under_way = UnderWay::Write;
                let mut results = self.database()?.batch(statements).await?;
                let result = results.pop().map(|result| Answer::to(sql, result));
                Given::Answer(result.unwrap_or_default())
            }
            (word, None) => self.execute(word, sql, params.into()).await?,
        };
        Ok(Some(answer))
    }

    async fn execute(&mut self, word: &str, sql: &str, params: Params) -> Result<Given, CliError> {
        let may_read = READS.contains(&word) || READS_OR_WRITES.contains(&word);
        let falls_back = self.falls_back && may_read;
        let mut database = self.database()?;
        if falls_back {
            // The rest is for what a node holds.
            database = database.with_tries_within(self.budget.left() / 2);
        }
        let error = match self.attempt(&database, word, sql, params.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let nobody_answers = matches!(error.kind(), ErrorKind::Unavailable { .. });
        // Where there is a primary a quorum answers: whoever was asked had something else to do.
        let mut topology = self.client.watch_topology();
        if !falls_back || !nobody_answers || topology.primary().now_or_never().is_some() {
            let is_slow = may_read && error.to_string().contains(TOO_SLOW);
            let failed = CliError::from(error);
            return Err(match is_slow {
                true => failed.help("--timeout gives the statement more time"),
                false => failed,
            });
        }
        let local = self.database()?.with_level(ReadLevel::Local);
        let Ok(rows) = local.query_stream(sql, params).await else {
            return Err(error.into());
        };
        (self.level, self.falls_back) = (ReadLevel::Local, false);
        let level = if self.at_prompt { ".level" } else { "--level" };
        remark(&format!(
            "warning: no quorum answers: from here on reads show what a node holds, which may be old ({level} says how fresh they have to be)",
        ));
        Ok(Given::Rows(Box::new(rows)))
    }

    /// Statements that read go to any node at the level asked for, the others to the primary. `WITH` and `PRAGMA` may be either: the
    /// node refuses to write for a query, and then it was a write.
    async fn attempt(
        &mut self,
        database: &Database,
        word: &str,
        sql: &str,
        params: Params,
    ) -> Result<Given, Error> {
        let reads_or_writes = READS_OR_WRITES.contains(&word);
        if reads_or_writes || READS.contains(&word) {
            self.under_way = UnderWay::Read;
            match database.query_stream(sql, params.clone()).await {
                Ok(rows) => return Ok(Given::Rows(Box::new(rows))),
                Err(error) if reads_or_writes && *error.kind() == ErrorKind::Invalid => {}
                Err(error) => return Err(error),
            }
        }
        self.under_way = UnderWay::Write;
        let result = database.execute(sql, params).await?;
        Ok(Given::Answer(Answer::to(sql, result)))
    }

    fn database(&self) -> Result<Database, CliError> {
        let name = self.database.as_ref().ok_or_else(|| {
            CliError::new("no database is chosen").help(match self.at_prompt {
                true => ".open NAME chooses one, .databases shows them",
                false => "--db NAME chooses one, `halite db list` shows them",
            })
        })?;
        let database = self.client.database(name).with_level(self.level);
        Ok(match self.budget.asked() {
            Some(_) => database.with_timeout(self.budget.left()),
            None => database.with_retry_deadline(self.budget.left()),
        })
    }
}

impl Answer {
    /// What executing this statement gave.
    fn to(sql: &str, result: ExecuteResult) -> Self {
        let (rows_affected, last_insert_rowid) = (result.rows_affected, result.last_insert_rowid);
        Self {
            columns: result.rows.columns().to_vec(),
            rows: result.rows.into_iter().map(Row::into_values).collect(),
            rows_affected,
            last_insert_rowid,
            counts: WRITES_ROWS.contains(&first_word(sql).as_str()),
        }
    }
}
