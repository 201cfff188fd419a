//! Whole copies of the database: from a node, from the archive; and what SQLite says of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use halite_archive::{
    DestinationUrl, RestoreOptions, RestoreReport, Target, ThreadPool, list_all, open_destination,
    restore,
};
use halite_client::{Client, Exported, ReadLevel};
use rusqlite::Connection;
use tokio::io::AsyncWriteExt;

use super::ledger::some;
use crate::cli::error::{CliError, message_of};
use crate::cli::one_node::OneNode;
use crate::cli::sql::quoted;

/// Larger databases are compared by the number of their rows, not row by row.
const ROW_BY_ROW_BYTES_MAX: u64 = 256 << 20;

/// The database as the node at `addr` has it, and no other node.
pub(super) async fn export(addr: &str, database: &str, path: &Path) -> Result<Exported, CliError> {
    let client = Client::builder([addr])
        .connector(OneNode::new(addr))
        .connect()
        .await?;
    let io = |error: std::io::Error| CliError::io(path.display(), &error);
    let mut file = tokio::fs::File::create_new(path).await.map_err(io)?;
    let exported = client
        .admin()
        .export(database, ReadLevel::Local, &mut file)
        .await;
    let exported = exported
        .map_err(|error| CliError::new(format!("export from {addr}: {}", message_of(&error))))?;
    file.flush().await.map_err(io)?;
    client.close().await;
    Ok(exported)
}

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Archive {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// Restores the newest state from the archive at `url`, as `halite restore` does.
pub(super) async fn restore_newest(
    url: &str,
    path: &Path,
) -> Result<(RestoreReport, Archive), CliError> {
    let failed = |error: String| CliError::new(format!("restore from {url}: {error}"));
    let parsed = DestinationUrl::parse(url).map_err(|error| failed(error.to_string()))?;
    let destination = open_destination(&parsed, Arc::new(ThreadPool));
    let files = list_all(&*destination)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let archive = Archive {
        files: files.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
    };
    let report = restore(
        &*destination,
        Target::Latest,
        path,
        RestoreOptions::default(),
    )
    .await;
    Ok((report.map_err(|error| failed(error.to_string()))?, archive))
}

/// SQLite's own verdict over the file; `Err` with what it complains of. Blocks.
pub(super) fn integrity(path: &Path) -> Result<(), String> {
    let complaints = || -> rusqlite::Result<Vec<String>> {
        let connection = Connection::open(path)?;
        let mut check = connection.prepare("PRAGMA integrity_check")?;
        let lines = check.query_map([], |row| row.get(0))?;
        lines.collect()
    };
    match complaints() {
        Ok(lines) if lines == ["ok"] => Ok(()),
        Ok(lines) => Err(format!("integrity_check finds damage: {}", some(&lines))),
        Err(error) => Err(format!("integrity_check fails: {error}")),
    }
}

/// How many tables and rows of the original are unchanged in the copy, or which are not. Blocks.
pub(super) fn same_rows(original: &Path, copy: &Path) -> Result<String, String> {
    let row_by_row =
        std::fs::metadata(original).is_ok_and(|meta| meta.len() <= ROW_BY_ROW_BYTES_MAX);
    let differing = compare_tables(original, copy, row_by_row)
        .map_err(|error| format!("the imported rows cannot be compared: {error}"))?;
    match differing {
        Ok((tables, rows)) => Ok(format!(
            "the imported data is unchanged: {rows} rows in {tables} tables"
        )),
        Err(names) => Err(format!("imported tables changed: {}", some(&names))),
    }
}

type Compared = Result<(usize, i64), Vec<String>>;

fn compare_tables(original: &Path, copy: &Path, row_by_row: bool) -> rusqlite::Result<Compared> {
    let connection = Connection::open(copy)?;
    let original: PathBuf = original.to_owned();
    connection.execute("ATTACH ?1 AS original", [original.to_string_lossy()])?;
    let mut names = connection.prepare(
        "SELECT name FROM original.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'",
    )?;
    let names = names.query_map([], |row| row.get(0))?;
    let names = names.collect::<rusqlite::Result<Vec<String>>>()?;
    let (mut rows, mut changed) = (0, Vec::new());
    for name in &names {
        let table = quoted(name);
        let there: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?1)",
            [name],
            |row| row.get(0),
        )?;
        let number = |sql: String| connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
        let count = number(format!("SELECT count(*) FROM original.{table}"))?;
        rows += count;
        let same = there
            && number(format!("SELECT count(*) FROM main.{table}"))? == count
            && (!row_by_row
                || number(format!(
                    "SELECT count(*) FROM (SELECT * FROM original.{table} EXCEPT SELECT * FROM main.{table})"
                ))? == 0);
        if !same {
            changed.push(name.clone());
        }
    }
    Ok(if changed.is_empty() {
        Ok((names.len(), rows))
    } else {
        Err(changed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "CREATE TABLE t(a, b); CREATE TABLE \"odd \"\" name\"(a); CREATE VIRTUAL TABLE f USING fts5(x);
        INSERT INTO t VALUES (1, 'one'), (2, 'two'); INSERT INTO \"odd \"\" name\" VALUES (3); INSERT INTO f VALUES ('word');";

    fn compared(change: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        Connection::open(&a).unwrap().execute_batch(SCHEMA).unwrap();
        let copy = Connection::open(&b).unwrap();
        copy.execute_batch(SCHEMA).unwrap();
        copy.execute_batch(change).unwrap();
        drop(copy);
        same_rows(&a, &b)
    }

    #[test]
    fn changed_rows_are_found_and_new_tables_are_none() {
        let same = compared("CREATE TABLE more(a); INSERT INTO more VALUES (1);").unwrap();
        assert!(same.contains("unchanged"), "{same}");
        for (change, table) in [
            ("UPDATE t SET b = 'zwei' WHERE a = 2", "t"),
            ("DELETE FROM t WHERE a = 1", "t"),
            ("INSERT INTO t VALUES (1, 'one')", "t"),
            ("DROP TABLE \"odd \"\" name\"", "odd \" name"),
            ("INSERT INTO f VALUES ('other')", "f_content"),
        ] {
            let changed = compared(change).unwrap_err();
            assert!(changed.contains(table), "{change}: {changed}");
        }
    }

    #[test]
    fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(SCHEMA)
            .unwrap();
        assert_eq!(integrity(&path), Ok(()));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096..8192].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        assert!(integrity(&path).unwrap_err().contains("integrity_check"));
    }
}
