//! A database as SQL text, in the form of the sqlite3 shell: what `.dump` writes. Pure; `session` asks for the rows.
//!
//! All of it is one query, whose rows come from all tables one after the other: a query is of one moment, whatever it reads, and its rows are not
//! held by anybody. Each row begins with a number that says what it is of. The schema comes first, once more, so that nothing is written of a
//! database whose tables are not those that were asked for.

mod literal;

use std::fmt::Write as _;

use halite_client::Value;

use super::pour::{Sink, Stopped};
use super::splitter::ended;
pub(in crate::cli) use literal::quoted;
use literal::{literal, text};

const OBJECTS: &str =
    "SELECT 0, rowid, type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL";
const COLUMNS: &str = "SELECT 1, m.rowid, p.cid, m.name, p.name, NULL FROM sqlite_schema AS m, pragma_table_info(m.name) AS p WHERE m.type = 'table'";
/// The query for what has to be known before rows can be asked for: all objects, and the columns of tables that are stored.
pub(super) fn schema() -> String {
    [OBJECTS, COLUMNS].join(" UNION ALL ")
}
/// Numbers of rows of the schema.
const OBJECT: i64 = 0;
const COLUMN: i64 = 1;
/// Rows of the table at this place of the plan have its number behind these.
const FIRST_TABLE: usize = 2;
/// Columns of [`OBJECTS`].
const SCHEMA_COLUMNS: usize = 6;
/// SQLite's limit.
const COLUMNS_MAX: usize = 2000;
/// Queries that are put together at a time, of the 500 that SQLite allows; so many of them are put together again.
const TOGETHER_MAX: usize = 200;

/// What is written, without rows.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    tables: Vec<Table>,
    /// Indexes, triggers and views.
    others: Vec<String>,
}

#[derive(Debug, PartialEq)]
struct Table {
    name: String,
    sql: String,
    columns: Vec<String>,
}

impl Table {
    /// Only columns that are stored: a table may have generated ones between them.
    fn column_list(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|name| quoted(name)).collect();
        columns.join(",")
    }

    /// Writes what makes it.
    fn begin(&self, out: &mut String) {
        if self.is_virtual() {
            let (name, sql) = (text(&self.name), text(&self.sql));
            let _ = writeln!(
                out,
                "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table',{name},{name},0,{sql});"
            );
            return;
        }
        match self.name.as_str() {
            "sqlite_sequence" => out.push_str("DELETE FROM sqlite_sequence;\n"),
            name if name.starts_with("sqlite_stat") => out.push_str("ANALYZE sqlite_schema;\n"),
            _ => {
                let _ = writeln!(out, "{}", ended(&may_exist(&self.sql)));
            }
        }
    }

    fn is_virtual(&self) -> bool {
        let mut words = self.sql.split_whitespace().skip(1);
        words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("virtual"))
    }
}

impl Plan {
    /// From the rows of [`schema`]; only tables whose name is LIKE `pattern`, and what belongs to them.
    pub(super) fn of(rows: Vec<Vec<Value>>, pattern: Option<&str>) -> Plan {
        let (mut objects, mut columns): (Vec<_>, Vec<_>) = rows
            .iter()
            .filter_map(|row| SchemaRow::of(row))
            .partition(|row| row.kind == OBJECT);
        objects.sort_by_key(|object| (object.texts[0] != "table", object.rowid));
        columns.sort_by_key(|column| (column.rowid, column.cid));
        let mut plan = Plan {
            tables: Vec::new(),
            others: Vec::new(),
        };
        for object in objects {
            let [kind, name, table, sql] = object.texts;
            if pattern.is_some_and(|pattern| !is_like(pattern, table)) {
                continue;
            }
            if kind != "table" {
                plan.others.push(sql.to_owned());
                continue;
            }
            let own = columns
                .iter()
                .filter(|column| column.rowid == object.rowid)
                .map(|column| column.texts[2].to_owned());
            plan.tables.push(Table {
                name: name.to_owned(),
                sql: sql.to_owned(),
                columns: own.collect(),
            });
        }
        // Rows come into it while tables are filled: what was there before counts.
        plan.tables
            .sort_by_key(|table| table.name == "sqlite_sequence");
        plan
    }

    /// The query that gives the schema and all rows; or the name of a table, if SQLite has no room for a number beside all its columns.
    pub(super) fn query(&self) -> Result<String, &str> {
        let with_rows = || {
            let tables = self.tables.iter().enumerate();
            tables.filter(|(_, table)| !table.is_virtual())
        };
        let widest = with_rows().map(|(_, table)| table.columns.len() + 1).max();
        let width = widest.unwrap_or(0).max(SCHEMA_COLUMNS);
        if let Some((_, table)) = with_rows().find(|(_, table)| table.columns.len() >= COLUMNS_MAX)
        {
            return Err(&table.name);
        }
        // Each query of a row of them has to have as many columns.
        let padding = |columns: usize| ", NULL".repeat(width - columns);
        let mut queries = vec![
            padded(OBJECTS, &padding(SCHEMA_COLUMNS)),
            padded(COLUMNS, &padding(SCHEMA_COLUMNS)),
        ];
        queries.extend(with_rows().map(|(place, table)| {
            let number = FIRST_TABLE + place;
            let (columns, name) = (table.column_list(), quoted(&table.name));
            let padding = padding(table.columns.len() + 1);
            format!("SELECT {number},{columns}{padding} FROM {name}")
        }));
        Ok(one_after_the_other(queries))
    }
}

/// A query with more columns.
fn padded(query: &str, padding: &str) -> String {
    query.replacen(" FROM ", &format!("{padding} FROM "), 1)
}

/// One query that gives the rows of all. SQLite puts a bounded number of them together, and keeps apart what has a limit of its own.
fn one_after_the_other(mut queries: Vec<String>) -> String {
    while queries.len() > TOGETHER_MAX {
        let together = queries.chunks(TOGETHER_MAX);
        queries = together
            .map(|queries| format!("SELECT * FROM ({} LIMIT -1)", queries.join(" UNION ALL ")))
            .collect();
    }
    queries.join(" UNION ALL ")
}

/// A row of the answer to [`schema`].
struct SchemaRow<'a> {
    kind: i64,
    rowid: i64,
    /// The place of a column in its table.
    cid: i64,
    texts: [&'a str; 4],
}

impl<'a> SchemaRow<'a> {
    fn of(row: &'a [Value]) -> Option<Self> {
        let integer = |at: usize| match row.get(at) {
            Some(Value::Integer(integer)) => Some(*integer),
            _ => None,
        };
        let text = |at: usize| match row.get(at) {
            Some(Value::Text(text)) => text.as_str(),
            _ => "",
        };
        Some(Self {
            kind: integer(0)?,
            rowid: integer(1)?,
            cid: integer(2).unwrap_or(0),
            texts: [text(2), text(3), text(4), text(5)],
        })
    }
}

/// The rows of [`Plan::query`] as SQL text.
pub(super) struct Dump {
    plan: Plan,
    pattern: Option<String>,
    /// Rows of the schema, until all of them have come.
    schema: Option<Vec<Vec<Value>>>,
    /// Tables that were begun.
    tables: usize,
    /// `INSERT INTO ... VALUES(` of the last of them.
    insert: String,
    rows: u64,
}

impl Dump {
    pub(super) fn new(plan: Plan, pattern: Option<String>) -> Self {
        Self {
            plan,
            pattern,
            schema: Some(Vec::new()),
            tables: 0,
            insert: String::new(),
            rows: 0,
        }
    }

    /// All of the schema has come: if it is what was planned, the text begins.
    fn begin(&mut self, out: &mut String) -> Result<(), Stopped> {
        let Some(rows) = self.schema.take() else {
            return Ok(());
        };
        if Plan::of(rows, self.pattern.as_deref()) != self.plan {
            return Err(Stopped {
                why: "the schema was changed meanwhile",
                help: "try again",
            });
        }
        out.push_str("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n");
        if self.has_virtual() {
            out.push_str("PRAGMA writable_schema=ON;\n");
        }
        Ok(())
    }

    fn has_virtual(&self) -> bool {
        self.plan.tables.iter().any(Table::is_virtual)
    }

    /// Begins the tables up to this place.
    fn tables_up_to(&mut self, place: usize, out: &mut String) {
        let begun = self.tables.min(place);
        for table in &self.plan.tables[begun..place] {
            table.begin(out);
            let (name, columns) = (quoted(&table.name), table.column_list());
            self.insert = format!("INSERT INTO {name}({columns}) VALUES(");
        }
        self.tables = self.tables.max(place);
    }
}

impl Sink for Dump {
    fn push(&mut self, row: Vec<Value>, out: &mut String) -> Result<(), Stopped> {
        let number = match row.first() {
            Some(Value::Integer(number)) => *number,
            _ => OBJECT,
        };
        if let (OBJECT | COLUMN, Some(schema)) = (number, &mut self.schema) {
            schema.push(row);
            return Ok(());
        }
        self.begin(out)?;
        let place = usize::try_from(number).ok();
        let place = place.and_then(|number| number.checked_sub(FIRST_TABLE));
        let table = place.and_then(|place| Some((place, self.plan.tables.get(place)?)));
        let Some((place, table)) = table else {
            return Err(Stopped {
                why: "a row has come that is of no table",
                help: "this is a fault in Halite: report it",
            });
        };
        let columns = table.columns.len();
        self.tables_up_to(place + 1, out);
        self.rows += 1;
        out.push_str(&self.insert);
        for (at, value) in row.iter().skip(1).take(columns).enumerate() {
            if at > 0 {
                out.push(',');
            }
            literal(value, out);
        }
        out.push_str(");\n");
        Ok(())
    }

    fn finish(mut self, out: &mut String) -> Result<(), Stopped> {
        self.begin(out)?;
        self.tables_up_to(self.plan.tables.len(), out);
        for sql in &self.plan.others {
            let _ = writeln!(out, "{}", ended(sql));
        }
        if self.has_virtual() {
            out.push_str("PRAGMA writable_schema=OFF;\n");
        }
        out.push_str("COMMIT;\n");
        Ok(())
    }

    /// Whoever executes the text keeps nothing of it.
    fn break_off(self, out: &mut String) {
        if self.schema.is_none() {
            out.push_str("ROLLBACK; -- the dump is not whole\n");
        }
    }

    fn count(&self) -> u64 {
        self.rows
    }
}

/// Tables that came with a virtual one have their names in quotes, and come with it again.
fn may_exist(sql: &str) -> String {
    match sql.strip_prefix("CREATE TABLE ") {
        Some(rest) if rest.starts_with(['\'', '"']) => format!("CREATE TABLE IF NOT EXISTS {rest}"),
        _ => sql.to_owned(),
    }
}

/// SQLite's LIKE, for names: `%` and `_`, letters of either case.
fn is_like(pattern: &str, name: &str) -> bool {
    fn like(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['%', rest @ ..], _) => (0..=name.len()).any(|skip| like(rest, &name[skip..])),
            (['_', pattern @ ..], [_, name @ ..]) => like(pattern, name),
            ([p, pattern @ ..], [n, name @ ..]) => p.eq_ignore_ascii_case(n) && like(pattern, name),
            _ => false,
        }
    }
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    like(&chars(pattern), &chars(name))
}

#[cfg(test)]
mod tests;
