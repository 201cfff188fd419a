//! What lasts between two statements: the database, the level, the mode and an open transaction.

use tokio::time::Instant;

use halite_client::{
    Client, Database, Error, ErrorKind, ExecuteResult, Params, ReadLevel, Rows, Transaction,
};

use super::dot::{DotCommand, HELP};
use super::level_text;
use super::mode::{Answer, Mode};
use super::splitter::first_word;
use crate::cli::database::databases_text;
use crate::cli::error::CliError;
use crate::cli::output::{print, print_line};

pub(super) struct Session {
    client: Client,
    database: Option<String>,
    level: ReadLevel,
    mode: Mode,
    timer: bool,
    transaction: Option<Transaction>,
}

/// Whether the session goes on after a dot command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Quit,
}

impl Session {
    pub(super) fn new(
        client: Client,
        database: Option<String>,
        level: ReadLevel,
        mode: Mode,
    ) -> Self {
        Self {
            client,
            database,
            level,
            mode,
            timer: false,
            transaction: None,
        }
    }

    /// The name of the database, if one is chosen.
    pub(super) fn database_name(&self) -> Option<&str> {
        self.database.as_deref()
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Executes one statement and prints what it gave.
    pub(super) async fn statement(&mut self, sql: &str) -> Result<(), CliError> {
        let began = Instant::now();
        let answer = self.answer(sql, ()).await;
        let took = began.elapsed();
        let text = answer.map(|answer| answer.map(|answer| self.mode.render(&answer)))?;
        text.map_or(Ok(()), |text| print(&text))?;
        if self.timer {
            print_line(&format!("Run Time: {:.6} s", took.as_secs_f64()))
        } else {
            Ok(())
        }
    }

    /// Executes one statement. `None` for what begins or ends a transaction.
    async fn answer(
        &mut self,
        sql: &str,
        params: impl Into<Params>,
    ) -> Result<Option<Answer>, CliError> {
        let word = first_word(sql);
        let back_to_savepoint = word == "ROLLBACK"
            && sql
                .to_ascii_uppercase()
                .split_whitespace()
                .any(|word| word == "TO");
        let answer = match (word.as_str(), self.transaction.take()) {
            ("COMMIT" | "END", Some(transaction)) => {
                return Ok(transaction.commit().await.map(|()| None)?);
            }
            ("ROLLBACK", Some(transaction)) if !back_to_savepoint => {
                return match transaction.rollback().await {
                    // It has ended already, by an error or its deadline: nothing of it is kept, which is what is asked for.
                    Err(error) if *error.kind() == ErrorKind::Invalid => Ok(None),
                    other => Ok(other.map(|()| None)?),
                };
            }
            (_, Some(mut transaction)) => {
                let executed = transaction.execute(sql, params).await;
                self.transaction = Some(transaction);
                executed?.into()
            }
            ("BEGIN", None) => {
                self.transaction = Some(self.database()?.transaction().await?);
                return Ok(None);
            }
            (word, None) => execute(&self.database()?, word, sql, params.into()).await?,
        };
        Ok(Some(answer))
    }

    fn database(&self) -> Result<Database, CliError> {
        let name = self.database.as_ref().ok_or_else(|| {
            CliError::new("no database is chosen")
                .help("--db NAME or .open NAME chooses one, .databases shows them")
        })?;
        Ok(self.client.database(name).with_level(self.level))
    }

    /// Does what a dot command says.
    pub(super) async fn dot(&mut self, command: DotCommand) -> Result<Then, CliError> {
        match command {
            DotCommand::Help => print(HELP)?,
            DotCommand::Quit => return Ok(Then::Quit),
            DotCommand::Databases => print(&databases_text(
                &self.client.admin().list_databases().await?,
            ))?,
            DotCommand::Tables(pattern) => self.tables(pattern).await?,
            DotCommand::Schema(table) => self.schema(table).await?,
            DotCommand::ShowMode => print_line(&format!("mode: {:?}", self.mode).to_lowercase())?,
            DotCommand::Mode(mode) => self.mode = mode,
            DotCommand::Timer(on) => self.timer = on,
            DotCommand::ShowLevel => print_line(&format!("level: {}", level_text(self.level)))?,
            DotCommand::Level(level) => self.level = level,
            DotCommand::Open(_) if self.in_transaction() => {
                return Err(
                    CliError::new("a transaction is open").help("COMMIT or ROLLBACK it first")
                );
            }
            DotCommand::Open(name) => self.database = Some(name),
        }
        Ok(Then::GoOn)
    }

    async fn tables(&mut self, pattern: Option<String>) -> Result<(), CliError> {
        let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                   AND name LIKE ?1 ORDER BY name";
        let names = self
            .texts(sql, pattern.unwrap_or_else(|| "%".to_owned()))
            .await?;
        names.iter().try_for_each(|name| print_line(name))
    }

    async fn schema(&mut self, table: Option<String>) -> Result<(), CliError> {
        let sql = "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                   AND (?1 = '' OR tbl_name = ?1 COLLATE NOCASE) ORDER BY rowid";
        let statements = self.texts(sql, table.unwrap_or_default()).await?;
        statements.iter().try_for_each(|sql| print_line(sql))
    }

    /// The first column of a query with one parameter, as text.
    async fn texts(&mut self, sql: &str, param: String) -> Result<Vec<String>, CliError> {
        let mut params = Params::new();
        params.push(param);
        let answer = self.answer(sql, params).await?.unwrap_or_default();
        let text = |row: Vec<halite_client::Value>| match row.into_iter().next() {
            Some(halite_client::Value::Text(text)) => Some(text),
            _ => None,
        };
        Ok(answer.rows.into_iter().filter_map(text).collect())
    }
}

/// Statements that read go to any node at the level asked for, the others to the primary. `WITH` and `PRAGMA` may be either: the
/// node refuses to write for a query, and then it was a write.
async fn execute(
    database: &Database,
    word: &str,
    sql: &str,
    params: Params,
) -> Result<Answer, Error> {
    match word {
        "SELECT" | "VALUES" | "EXPLAIN" => Ok(database.query(sql, params).await?.into()),
        "WITH" | "PRAGMA" => match database.query(sql, params.clone()).await {
            Err(error) if *error.kind() == ErrorKind::Invalid => {
                Ok(database.execute(sql, params).await?.into())
            }
            other => Ok(other?.into()),
        },
        _ => Ok(database.execute(sql, params).await?.into()),
    }
}

impl From<Rows> for Answer {
    fn from(rows: Rows) -> Self {
        let columns = rows.columns().to_vec();
        Self {
            columns,
            rows: rows
                .into_iter()
                .map(halite_client::Row::into_values)
                .collect(),
            ..Self::default()
        }
    }
}

impl From<ExecuteResult> for Answer {
    fn from(result: ExecuteResult) -> Self {
        let (rows_affected, last_insert_rowid) = (result.rows_affected, result.last_insert_rowid);
        Self {
            rows_affected,
            last_insert_rowid,
            ..Self::from(result.rows)
        }
    }
}
