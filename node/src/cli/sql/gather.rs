//! A transaction of a script, gathered up to its COMMIT and sent as one batch: not one round trip per statement, and not bound to the time
//! that an interactive transaction has. Pure; called by `session`. Must never take a statement whose answer somebody may wait for.

use super::dump::quoted;
use super::session::Place;
use super::splitter::{first_word, has_word};
use crate::database::pragma;

/// What fits into one call, which has 16 MiB, with what is said around it.
const BYTES_MAX: usize = (16 << 20) - (64 << 10);
/// What each statement takes beside its text, at most.
const STATEMENT_BYTES: usize = 16;

/// Statements since BEGIN, none of which anybody waits for.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) statements: Vec<Statement>,
    bytes: usize,
    /// Virtual tables that a dump has made.
    virtual_tables: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) sql: String,
    /// What it gives is for nobody.
    pub(super) silent: bool,
    /// Where in a script it stands.
    pub(super) place: Option<Place>,
}

impl Gathered {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// Takes a statement that only writes; false for one whose answer may be waited for.
    pub(super) fn take(&mut self, sql: &str, place: Option<&Place>) -> bool {
        if let Some((name, create)) = dumped_virtual_table(sql) {
            self.push(create, true, place);
            self.virtual_tables.push(name);
            return true;
        }
        if pragma::is_setting_of_a_dump(sql) {
            self.push(sql.to_owned(), true, place);
            return true;
        }
        let blind = matches!(
            first_word(sql).as_str(),
            "INSERT"
                | "REPLACE"
                | "UPDATE"
                | "DELETE"
                | "CREATE"
                | "DROP"
                | "ALTER"
                | "ANALYZE"
                | "REINDEX"
        );
        if !blind || has_word(sql, "RETURNING") {
            return false;
        }
        self.push(sql.to_owned(), false, place);
        // It was made along with its virtual table, and has rows of its own already; the dump has what is to be in it.
        if let Some(table) = table_that_may_exist(sql)
            && self.virtual_tables.iter().any(|name| belongs(&table, name))
        {
            self.push(format!("DELETE FROM {}", quoted(&table)), true, place);
        }
        true
    }

    fn push(&mut self, sql: String, silent: bool, place: Option<&Place>) {
        self.bytes += sql.len() + STATEMENT_BYTES;
        let place = place.cloned();
        self.statements.push(Statement { sql, silent, place });
    }
}

fn belongs(table: &str, virtual_table: &str) -> bool {
    let rest = table
        .get(..virtual_table.len())
        .filter(|start| start.eq_ignore_ascii_case(virtual_table))
        .map(|_| &table[virtual_table.len()..]);
    rest.is_some_and(|rest| rest.starts_with('_'))
}

/// Name and statement of a virtual table that a dump writes into the schema:
/// `INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','f','f',0,'CREATE VIRTUAL TABLE ...');`
fn dumped_virtual_table(sql: &str) -> Option<(String, String)> {
    let (head, values) = sql.split_at(sql.find('\'')?);
    let head: String = head
        .split_whitespace()
        .collect::<String>()
        .to_ascii_lowercase();
    let columns = head
        .strip_prefix("insertintosqlite_schema")
        .or_else(|| head.strip_prefix("insertintosqlite_master"))?;
    if columns != "(type,name,tbl_name,rootpage,sql)values(" {
        return None;
    }
    let (kind, rest) = literal(values)?;
    let (name, rest) = literal(rest.trim_start().strip_prefix(',')?)?;
    let (_, rest) = literal(rest.trim_start().strip_prefix(',')?)?;
    let rest = rest.trim_start().strip_prefix(',')?.trim_start();
    let rest = rest.strip_prefix('0')?.trim_start().strip_prefix(',')?;
    let (create, rest) = literal(rest)?;
    let over = rest.trim_matches(|c: char| c.is_whitespace() || c == ';') == ")";
    let words = super::splitter::words(&create);
    let is_virtual = words.starts_with(&["CREATE".into(), "VIRTUAL".into(), "TABLE".into()]);
    (over && kind == "table" && is_virtual).then_some((name, create))
}

/// A string literal at the beginning, and what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut rest = text.trim_start().strip_prefix('\'')?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

/// The name in `CREATE TABLE IF NOT EXISTS 'name'`, which is how a dump writes a table that comes with a virtual one.
fn table_that_may_exist(sql: &str) -> Option<String> {
    let mut rest = sql;
    for word in ["CREATE", "TABLE", "IF", "NOT", "EXISTS"] {
        rest = rest.trim_start();
        let start = rest.get(..word.len())?;
        rest = start
            .eq_ignore_ascii_case(word)
            .then(|| &rest[word.len()..])?;
    }
    let rest = rest.trim_start();
    if rest.starts_with('\'') {
        return literal(rest).map(|(name, _)| name);
    }
    let rest = rest.strip_prefix('"')?;
    rest.split_once('"').map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumped_virtual_table_is_created() {
        let mut gathered = Gathered::default();
        for sql in [
            "PRAGMA writable_schema=ON;",
            "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','it''s','it''s',0,'CREATE VIRTUAL TABLE \"it''s\" USING fts5(a)');",
            "CREATE TABLE IF NOT EXISTS 'it''s_data'(id INTEGER PRIMARY KEY, block BLOB);",
            "CREATE TABLE IF NOT EXISTS 'other_data'(id);",
            "PRAGMA writable_schema=OFF;",
        ] {
            assert!(gathered.take(sql, None), "{sql}");
        }
        let sent: Vec<&str> = gathered.statements.iter().map(|s| s.sql.as_str()).collect();
        assert_eq!(
            sent,
            [
                "PRAGMA writable_schema=ON;",
                "CREATE VIRTUAL TABLE \"it's\" USING fts5(a)",
                "CREATE TABLE IF NOT EXISTS 'it''s_data'(id INTEGER PRIMARY KEY, block BLOB);",
                "DELETE FROM \"it's_data\"",
                "CREATE TABLE IF NOT EXISTS 'other_data'(id);",
                "PRAGMA writable_schema=OFF;",
            ]
        );
    }

    #[test]
    fn nothing_else_is_taken_for_a_virtual_table() {
        for sql in [
            "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','t','t',5,'CREATE VIRTUAL TABLE t USING fts5(a)');",
            "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','t','t',0,'CREATE TABLE t(a)');",
            "INSERT INTO t VALUES('table','t','t',0,'CREATE VIRTUAL TABLE t USING fts5(a)');",
            "INSERT INTO sqlite_schema DEFAULT VALUES",
        ] {
            assert_eq!(dumped_virtual_table(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_may_be_waited_for_is_not_gathered() {
        let mut gathered = Gathered::default();
        for (sql, taken) in [
            ("INSERT INTO t VALUES('returning')", true),
            ("/* x */ UPDATE t SET a = 1", true),
            ("INSERT INTO t VALUES(1) RETURNING a", false),
            ("SELECT 1", false),
            ("PRAGMA foreign_keys", false),
            ("PRAGMA user_version", false),
            ("SAVEPOINT s", false),
            ("WITH n AS (SELECT 1) SELECT * FROM n", false),
        ] {
            assert_eq!(gathered.take(sql, None), taken, "{sql}");
        }
        assert_eq!(gathered.statements.len(), 2);
    }
}
