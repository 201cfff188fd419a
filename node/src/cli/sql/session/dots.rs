//! The dot commands of a session.

use std::time::Duration;

use futures::TryStreamExt;
use halite_client::{Params, ReadLevel, Row, Value};

use super::super::dot::{DotCommand, HELP};
use super::super::dump::{self, Dump, Plan};
use super::super::level_text;
use super::super::pour::pour;
use super::super::script::run_file;
use super::super::splitter::ended;
use super::{Given, Session, Then, UnderWay};
use crate::cli::database::databases_text;
use crate::cli::error::CliError;
use crate::cli::output::{print, print_line};

/// Objects that somebody made: not SQLite's own, and not those in which virtual tables keep their content.
const OWN: &str = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                   AND tbl_name NOT IN (SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow')";
/// All that may be named in a statement.
const NAMES: &str = "WITH t AS (SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow') \
                     SELECT name FROM t UNION SELECT c.name FROM t, pragma_table_info(t.name) AS c LIMIT 10000";
/// Nobody waits longer for what is a convenience.
const NAMES_TIMEOUT: Duration = Duration::from_millis(500);
const DUMP_TIMEOUT: Duration = Duration::from_secs(300);

impl Session {
    /// Does what a dot command says.
    pub(in crate::cli::sql) async fn dot(&mut self, command: DotCommand) -> Result<Then, CliError> {
        self.budget.begin();
        let done = self.carry_out(command).await;
        self.under_way = UnderWay::Nothing;
        done
    }

    async fn carry_out(&mut self, command: DotCommand) -> Result<Then, CliError> {
        match command {
            DotCommand::Help => print(HELP)?,
            DotCommand::Quit => return Ok(Then::Quit),
            DotCommand::Databases => print(&databases_text(
                &self.client.admin().list_databases().await?,
            ))?,
            DotCommand::Tables(pattern) => self.tables(pattern).await?,
            DotCommand::Schema(table) => self.schema(table).await?,
            DotCommand::Indexes(table) => self.indexes(table).await?,
            DotCommand::ShowMode => print_line(&format!("mode: {:?}", self.mode).to_lowercase())?,
            DotCommand::Mode(mode) => self.mode = mode,
            DotCommand::Headers(on) => self.headings = on,
            DotCommand::Read(file) => {
                let gathers = self.gathers;
                let read = run_file(self, &file).await;
                self.gathers = gathers;
                read?;
            }
            DotCommand::Dump(table) => self.dump(table).await?,
            DotCommand::Timer(on) => self.timer = on,
            DotCommand::ShowLevel => print_line(&format!("level: {}", level_text(self.level)))?,
            DotCommand::Level(level) => (self.level, self.falls_back) = (level, false),
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
        let sql = format!(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND {OWN} AND name LIKE ?1 ORDER BY name"
        );
        self.print_texts(&sql, pattern).await
    }

    async fn indexes(&mut self, table: Option<String>) -> Result<(), CliError> {
        let sql = format!(
            "SELECT name FROM sqlite_schema WHERE type = 'index' AND {OWN} AND tbl_name LIKE ?1 ORDER BY name"
        );
        self.print_texts(&sql, table).await
    }

    async fn schema(&mut self, table: Option<String>) -> Result<(), CliError> {
        let sql = format!(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND {OWN} AND tbl_name LIKE ?1 ORDER BY rowid"
        );
        let texts = self.texts(&sql, table).await?;
        texts.iter().try_for_each(|text| print_line(&ended(text)))
    }

    async fn print_texts(&mut self, sql: &str, pattern: Option<String>) -> Result<(), CliError> {
        let texts = self.texts(sql, pattern).await?;
        texts.iter().try_for_each(|text| print_line(text))
    }

    /// Names of tables, views and columns for the prompt to complete; none where nobody says them at once.
    pub(in crate::cli::sql) async fn names(&self) -> Vec<String> {
        let Ok(database) = self.database() else {
            return Vec::new();
        };
        let database = database.with_level(ReadLevel::Session);
        let rows = database.with_timeout(NAMES_TIMEOUT).query(NAMES, ()).await;
        let rows = rows.into_iter().flatten();
        rows.filter_map(|row| row.get(0).ok()).collect()
    }

    /// Writes the database as SQL, as it is at one moment.
    async fn dump(&mut self, table: Option<String>) -> Result<(), CliError> {
        if self.in_transaction() {
            return Err(CliError::new("a transaction is open").help("COMMIT or ROLLBACK it first"));
        }
        // Reads what a node holds from here on, in words, where no quorum answers.
        let schema = self.rows(&dump::schema(), Params::new()).await?;
        let plan = Plan::of(schema, table.as_deref());
        let query = plan.query().map_err(|wide| {
            let message = format!("table {wide:?} has too many columns for a dump");
            CliError::new(message).help("`halite export` gives a copy of the database")
        })?;
        // Who serves it has the time; that nobody does is known as soon as of any statement.
        let database = self
            .database()?
            .with_timeout(DUMP_TIMEOUT.max(self.budget.asked().unwrap_or_default()))
            .with_tries_within(self.budget.left());
        self.under_way = UnderWay::Read;
        let rows = database.query_stream(query, ()).await?;
        pour(rows, Dump::new(plan, table), String::new()).await
    }

    /// The first column of a query with one parameter, as text.
    async fn texts(&mut self, sql: &str, pattern: Option<String>) -> Result<Vec<String>, CliError> {
        let mut params = Params::new();
        params.push(pattern.unwrap_or_else(|| "%".to_owned()));
        let rows = self.rows(sql, params).await?;
        let text = |row: Vec<Value>| match row.into_iter().next() {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(text).collect())
    }

    async fn rows(&mut self, sql: &str, params: Params) -> Result<Vec<Vec<Value>>, CliError> {
        Ok(match self.answer(sql, params).await? {
            Some(Given::Answer(answer)) => answer.rows,
            Some(Given::Rows(rows)) => rows.map_ok(Row::into_values).try_collect().await?,
            None => Vec::new(),
        })
    }
}
